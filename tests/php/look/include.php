<?php
// Leaks in the code of an included file.
require __DIR__ . '/more/announce.php';
announce();
include __DIR__ . '/more/included.php'; // CALL
