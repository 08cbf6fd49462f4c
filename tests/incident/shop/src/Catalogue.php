<?php

declare(strict_types=1);

namespace App;

use PDO;

/** What customers see. */
final class Catalogue
{
    /** A page of so many articles from the database, and how often a page was asked for. */
    public static function page(int $number, int $size): string
    {
        $db = new PDO('mysql:unix_socket=/run/mysqld/mysqld.sock;dbname=shop', 'shop', '');
        $select = $db->prepare('SELECT id, name, price, description FROM article WHERE id > ? LIMIT ' . $size);
        $select->execute([$number * $size % 2000]);
        $articles = $select->fetchAll(PDO::FETCH_ASSOC);
        $html = '';
        foreach ($articles as $article) {
            $html .= sprintf("<h2>%s</h2><p>%s</p><b>%.2f</b>\n", ...array_map(
                'htmlspecialchars',
                [$article['name'], $article['description'], $article['price']],
            ));
        }
        return sprintf("<h1>Articles</h1>%s<p>%d visits</p>\n", $html, self::visit());
    }

    /** Counts a visit in Redis, in its own protocol. */
    private static function visit(): int
    {
        $redis = stream_socket_client('unix:///run/redis/redis-server.sock', timeout: 2);
        fwrite($redis, "INCR visits\r\n");
        return (int) substr((string) fgets($redis), 1);
    }
}
