<?php
// Leaks four parts of five in one function and the fifth in another, in the same time.
require __DIR__ . '/more/announce.php';

function wide(int $bytes): void
{
    for ($i = 0; $i < 16; $i++) {
        $GLOBALS['held'][] = str_repeat('x', $bytes); usleep(6000); // WIDE
    }
}

final class Narrow
{
    public function leak(): void
    {
        for ($i = 0; $i < 16; $i++) {
            $GLOBALS['held'][] = str_repeat('x', 16384); usleep(6000); // NARROW
        }
    }
}

announce();
while (true) {
    wide(65536); // CALL
    (new Narrow())->leak();
}
