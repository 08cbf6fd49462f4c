<?php
// Leaks in a generator, that is while foreach asks it for the next row.
require __DIR__ . '/more/announce.php';

final class Importer
{
    public function load(): void
    {
        foreach ($this->rows() as $row) { $this->last = $row; } // CALL
    }

    private function rows(): Generator
    {
        while (true) { $GLOBALS['held'][] = str_repeat('x', mt_rand(60000, 65536)); usleep(4000); if (count($GLOBALS['held']) % 2) { yield 1; } } // LEAK
    }

    public int $last = 0;
}

announce();
(new Importer())->load();
