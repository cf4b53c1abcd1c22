<?php
// A page of the old kind, behind Cloakroom. It reads the session from a request header and changes it with response
// headers; it opens no session of its own. Start it with:
//
//     php -S 127.0.0.1:9000 examples/php/index.php

$session = json_decode($_SERVER['HTTP_X_SESSION_DATA'] ?? '{}', true);
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);

switch ($_SERVER['REQUEST_METHOD'] . ' ' . $path) {
    case 'POST /login':
        $user = trim($_POST['user'] ?? '');
        if ($user === '') {
            http_response_code(400);
            exit("A name, please.\n");
        }
        header('X-Session-Set: ' . http_build_query(['user' => $user]));
        header('X-Session-Action: cycle');  // a new key at every login
        header('Location: /', true, 303);
        exit;

    case 'POST /logout':
        header('X-Session-Action: flush');
        header('Location: /', true, 303);
        exit;

    case 'GET /':
        break;

    default:
        http_response_code(404);
        exit("There is no such page.\n");
}

$user = $session['user'] ?? null;
if ($user !== null) {
    // This visit is counted when the answer passes the proxy, so the number at hand is one behind.
    $visits = ($session['visits'] ?? 0) + 1;
    header('X-Session-Incr: visits=1');
}
?>
<!doctype html>
<meta charset="utf-8">
<title>Visits</title>
<?php if ($user !== null): ?>
<p>Good day, <b><?= htmlspecialchars($user, ENT_QUOTES) ?></b>. This is visit <?= (int) $visits ?>.</p>
<form method="post" action="/logout"><button>Log out</button></form>
<?php else: ?>
<p>Good day. You are not logged in.</p>
<form method="post" action="/login"><input name="user" required> <button>Log in</button></form>
<?php endif ?>
