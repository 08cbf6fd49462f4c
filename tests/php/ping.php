<?php
header('Content-Type: text/plain');
header('X-Worker: ' . getmypid());
echo 'pong';
