<?php
// Never ends: keeps appending at `rate` MiB/s, in the steps of `mib` MiB that it is told.
require __DIR__ . '/more/announce.php';

announce();
$start = hrtime(true);
for ($bytes = 0; true; ) {
    for ($i = 0; $i < 8 * $_GET['mib']; $i++) { $held[] = str_repeat('x', 131000); }
    $bytes += 131000 * 8 * $_GET['mib'];
    usleep(max(0, (int) ($bytes / 1048576 / $_GET['rate'] * 1e6 - (hrtime(true) - $start) / 1e3)));
}
