<?php
// One page of a shop: rows (as many as asked for, 700 bytes of memory each), sorted, escaped, printed.
header('Content-Type: text/html');
$rows = [];
for ($id = 0, $count = (int) ($_GET['rows'] ?? 4000); $id < $count; $id++) {
    $rows[] = ['id' => $id, 'name' => str_repeat(chr(97 + $id * 7 % 26), 100 + $id * 31 % 400)];
}
usort($rows, fn(array $a, array $b): int => strcmp($a['name'], $b['name']));
echo '<ul>';
foreach (array_slice($rows, 0, 200) as $row) {
    echo '<li>', htmlspecialchars(ucwords(strrev($row['name'])), ENT_QUOTES), '</li>';
}
echo '</ul>', '<!-- ', md5(implode('', array_column($rows, 'name'))), ' -->';
