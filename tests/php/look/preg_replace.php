<?php
// Leaks in C code: an expression that looks ahead at every byte, without JIT.
require __DIR__ . '/more/announce.php';

function clean(string $text): void
{
    while (true) { $GLOBALS['held'][] = preg_replace('/x(?=x+y?)/', '-', $text); } // LEAK
}

announce();
ini_set('pcre.jit', '0');
ini_set('pcre.backtrack_limit', '100000000');
clean(str_repeat('x', 2048) . str_repeat('z', 63 << 10)); // CALL
