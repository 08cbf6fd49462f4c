<?php
// Leaks four parts of five in one function and the fifth in another, in the same time.
require __DIR__ . '/more/announce.php';

function wide(int $bytes): void
{
    for ($i = 0; $i < 16; $i++) {
        $GLOBALS['held'][] = str_repeat('x', mt_rand($bytes / 2, 3 * $bytes / 2)); usleep(12000); // WIDE
    }
}

final class Narrow
{
    public function leak(): void
    {
        for ($i = 0; $i < 16; $i++) {
            $GLOBALS['held'][] = str_repeat('x', mt_rand(16384, 49152)); usleep(12000); // NARROW
        }
    }
}

announce();
while (true) {
    wide(131072); // CALL
    (new Narrow())->leak();
}
