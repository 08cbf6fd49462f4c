<?php
// A short request: what it holds is given back at its end, and how much that is depends on the URI.

function big(): void
{
    for ($i = 0; $i < 6; $i++) {
        $GLOBALS['held'][] = str_repeat('x', 6 << 20); usleep(8000);
    }
}

function small(): void
{
    for ($i = 0; $i < 6; $i++) {
        $GLOBALS['held'][] = str_repeat('x', 2 << 20); usleep(8000);
    }
}

str_starts_with($_SERVER['REQUEST_URI'], '/big') ? big() : small();
echo 'done';
