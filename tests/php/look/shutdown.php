<?php
// Goes on after its answer.
header('X-Worker: ' . getmypid());
register_shutdown_function(function (): void {
    usleep(400000);
});
echo 'done';
fastcgi_finish_request();
