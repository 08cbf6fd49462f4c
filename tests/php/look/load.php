<?php
// A request of some milliseconds with many short calls, for looks that meet it anywhere.
header('Content-Type: text/plain');
header('X-Worker: ' . getmypid());

function outer(int $times): int
{
    $sum = 0;
    for ($i = 0; $i < $times; $i++) {
        $sum += middle($i);
    }
    return $sum;
}

function middle(int $i): int
{
    return array_sum(array_map('inner', [$i, $i + 1, $i + 2])) + tree(4);
}

function inner(int $i): int
{
    return strlen(str_repeat('x', $i % 50));
}

function tree(int $depth): int
{
    return $depth === 0 ? 1 : tree($depth - 1) + tree($depth - 1);
}

echo outer(1000);
