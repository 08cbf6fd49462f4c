<?php
// Is held up in C code: an expression that backtracks.
require __DIR__ . '/more/announce.php';

function clean(string $text): void
{
    while (true) { $GLOBALS['held'][] = preg_replace('/(x+x+)+y/', '-', $text); } // LEAK
}

announce();
ini_set('pcre.jit', '0');
ini_set('pcre.backtrack_limit', '3000000');
clean(str_repeat('x', 200) . 'zy'); // CALL
