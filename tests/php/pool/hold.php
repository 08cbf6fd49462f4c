<?php
// Takes `mib` MiB and keeps them for `s` seconds.
require __DIR__ . '/more/announce.php';

announce();
for ($i = 0; $i < (int) $_GET['mib'] * 8; $i++) { $held[] = str_repeat('x', mt_rand(130000, 131000)); usleep(200); }
sleep((int) $_GET['s']);
