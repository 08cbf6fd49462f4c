<?php
// Waits in one function, most of the time, and grows in another, in an instant.
require __DIR__ . '/more/announce.php';

function fetch(): string
{
    usleep(20000);
    return str_repeat('x', mt_rand(100, 200));
}

function keep(string $row): void
{
    $GLOBALS['held'][] = str_repeat($row, 3000); // LEAK
}

announce();
while (true) {
    keep(fetch());
}
