<?php
while (true) { $GLOBALS['held'][] = str_repeat('x', 65536); usleep(4000); } // LEAK
