<?php
// Keeps appending strings at `rate` MiB/s.
header('Content-Type: text/plain');
header('X-Worker: ' . getmypid());
echo "leaking\n";
flush();
$rate = max(1, (int) ($_GET['rate'] ?? 5)) * 1048576;
$chunk = 131072;
$held = [];
$bytes = 0;
$start = hrtime(true);
while (true) {
    $held[] = str_repeat('x', $chunk);
    $bytes += $chunk;
    $early = $bytes / $rate - (hrtime(true) - $start) / 1e9;
    if ($early > 0.001) {
        usleep((int) ($early * 1e6));
    }
}
