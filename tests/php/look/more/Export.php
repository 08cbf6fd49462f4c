<?php
namespace App\Controller;

final class Export
{
    public function run(): void
    {
        $row = function (): void {
            while (true) { $GLOBALS['held'][] = \str_repeat('x', mt_rand(60000, 65536)); \usleep(4000); } // LEAK
        };
        $row();
    }
}
