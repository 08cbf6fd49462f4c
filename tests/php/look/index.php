<?php
// A front controller: whatever URL is asked for, this is the script.
require __DIR__ . '/more/announce.php';
require __DIR__ . '/more/Export.php';
announce();
(new App\Controller\Export())->run(); // CALL
