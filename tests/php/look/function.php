<?php
// Leaks in a plain function.
require __DIR__ . '/more/announce.php';

function hoard(): void
{
    while (true) { $GLOBALS['held'][] = str_repeat('x', mt_rand(60000, 65536)); usleep(4000); } // LEAK
}

announce();
hoard(); // CALL
