<?php
// Leaks in a recursion: each level holds something.
require __DIR__ . '/more/announce.php';

function descend(int $level): void
{
    $held = str_repeat('x', mt_rand(60000, 65536)); usleep(4000); $level < 1500 ? descend($level + 1) : sleep(60); $GLOBALS['last'] = $held; // LEAK
}

announce();
descend(0); // CALL
