<?php

// The shop: every request comes through here.

declare(strict_types=1);

namespace App;

spl_autoload_register(static function (string $class): void {
    require __DIR__ . '/../src/' . substr($class, strlen('App\\')) . '.php';
});

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/import') {
    file_put_contents('/var/log/shop.log', sprintf("import begins in %d\n", getmypid()), FILE_APPEND);
    Importer::load(__DIR__ . '/../feed.csv');
    exit('imported');
}
echo Catalogue::page((int) ($_GET['page'] ?? 0), (int) ($_GET['size'] ?? 200));
