<?php
// Reads `mib` MiB at `rate` MiB/s and keeps them until its end: an import that fits.
require __DIR__ . '/more/announce.php';

announce();
$start = hrtime(true);
for ($i = 1; $i <= (int) $_GET['mib'] * 8; $i++) {
    $held[] = str_repeat('x', 131000);
    usleep(max(0, (int) ($i / 8 / $_GET['rate'] * 1e6 - (hrtime(true) - $start) / 1e3)));
}
sleep((int) ($_GET['s'] ?? 0));
