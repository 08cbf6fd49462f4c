<?php
// Leaks in a fiber (8.1).
require __DIR__ . '/more/announce.php';

function task(): void
{
    while (true) { $GLOBALS['held'][] = str_repeat('x', mt_rand(60000, 65536)); usleep(4000); } // LEAK
}

announce();
$fiber = new Fiber('task');
$fiber->start(); // CALL
