<?php
// Tells the test which worker has the request, before the leak begins.
$GLOBALS['held'] = [];
function announce(): void
{
    header('Content-Type: text/plain');
    header('X-Worker: ' . getmypid());
    echo str_repeat(' ', 8192);
    flush();
}
