"""A WSGI application of the old kind, behind Cloakroom. It reads the session from the environment and changes it with
response headers. Start it with one of:

    python3 examples/python/visits.py 9000
    gunicorn --chdir examples/python --bind 127.0.0.1:9000 visits
"""

import html
import json
import sys
from urllib.parse import parse_qs
from wsgiref.simple_server import make_server


def application(environ, start_response):
    session = json.loads(environ.get('HTTP_X_SESSION_DATA', '{}'))
    request = environ['REQUEST_METHOD'] + ' ' + environ['PATH_INFO']
    if request == 'POST /login':
        return login(environ, start_response)
    if request == 'POST /logout':
        start_response('303 See Other', [('Location', '/'), ('X-Session-Action', 'flush')])
        return []
    if request == 'GET /':
        return page(session, start_response)
    start_response('404 Not Found', [('Content-Type', 'text/plain')])
    return [b'There is no such page.\n']


def login(environ, start_response):
    body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
    user = parse_qs(body.decode('ascii', 'replace')).get('user', [''])[0].strip()
    if not user:
        start_response('400 Bad Request', [('Content-Type', 'text/plain')])
        return [b'A name, please.\n']
    start_response('303 See Other', [
        ('Location', '/'),
        ('X-Session-Set', json.dumps({'user': user})),
        ('X-Session-Action', 'cycle'),  # a new key at every login
    ])
    return []


def page(session, start_response):
    headers = [('Content-Type', 'text/html; charset=utf-8')]
    if 'user' in session:
        headers.append(('X-Session-Incr', 'visits=1'))
        # This visit is counted when the answer passes the proxy, so the number at hand is one behind.
        visits = session.get('visits', 0) + 1
        text = (f'<p>Good day, <b>{html.escape(session["user"])}</b>. This is visit {visits}.</p>\n'
                '<form method="post" action="/logout"><button>Log out</button></form>\n')
    else:
        text = ('<p>Good day. You are not logged in.</p>\n'
                '<form method="post" action="/login"><input name="user" required> <button>Log in</button></form>\n')
    start_response('200 OK', headers)
    return [('<!doctype html>\n<title>Visits</title>\n' + text).encode()]


if __name__ == '__main__':
    make_server('127.0.0.1', int(sys.argv[1]), application).serve_forever()
