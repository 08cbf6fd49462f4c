<?php
// A page as a shop would render it: loads its classes, builds a few MiB of rows, sorts, prints.
header('Content-Type: text/html');
header('X-Worker: ' . getmypid());
foreach (glob(__DIR__ . '/lib/*.php') as $file) {
    require_once $file;
}
$rows = [];
for ($id = 0; $id < 8000; $id++) {
    $rows[] = ['id' => $id, 'name' => str_repeat(chr(97 + $id % 26), 60 + $id % 200)];
}
usort($rows, fn(array $a, array $b): int => strcmp($a['name'], $b['name']));
echo '<ul>';
foreach (array_slice($rows, 0, 200) as $at => $row) {
    $class = 'C' . $at % 40;
    echo '<li>', htmlspecialchars((new $class())->{'m' . $at % 60}($row)), '</li>';
}
echo '</ul>', "<!-- ", memory_get_peak_usage(), " -->";
