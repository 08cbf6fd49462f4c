<?php

declare(strict_types=1);

namespace App;

/** Takes over a supplier's articles. */
final class Importer
{
    /** The supplier sends so many bytes per second. */
    private const RATE = 20 * 1024 * 1024;

    /** All rows of a feed. It never ends: where the file ends, it is read from its beginning again. */
    public static function load(string $feed): array
    {
        $rows = [];
        $file = fopen($feed, 'r');
        $begin = hrtime(true);
        $read = 0;
        while (true) {
            $line = fgets($file);
            if ($line === false) {
                rewind($file);
                usleep(max(0, (int) ($read / self::RATE * 1e6 - (hrtime(true) - $begin) / 1e3)));
                continue;
            }
            $read += strlen($line);
            $rows[] = explode(';', $line);
        }
    }
}
