"""The site on a free port, and its sessions for a test: a request on each line of standard input, an answer on each of
standard output, both JSON. The end of the input is the end of the site."""

import importlib
import json
import os
import socketserver
import sys
import threading
import traceback
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()

from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

from work import items, play


class Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def main():
    server = Server(("127.0.0.1", 0), Handler)
    server.set_app(get_wsgi_application())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say({"django": django.get_version(), "port": server.server_port})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say({"done": TASKS[request.pop("do")](**request)})
        except Exception:
            say({"raised": traceback.format_exc()})


def say(answer):
    print(json.dumps(answer), flush=True)


def session(key):
    return importlib.import_module(settings.SESSION_ENGINE).SessionStore(key)


def work(key, operations):
    """What a view would do and the middleware after it."""
    store = session(key)
    results = play(store, operations)
    if store.modified and not store.is_empty():
        store.save()
    return {"results": results, "key": store.session_key}


def look(key):
    """What a view would see; nothing if there is no such session."""
    store = session(key)
    data = items(store)
    if store.session_key is None:
        return None
    return {
        "items": data,
        "age": store.get_expiry_age(),
        "until_the_browser_closes": store.get_expire_at_browser_close(),
    }


def use(**changed):
    """Changes settings of sessions."""
    for name, value in changed.items():
        setattr(settings, name, value)


def make_user(name, password):
    from django.contrib.auth.models import User

    User.objects.create_user(name, password=password)


def manage(command, *arguments):
    call_command(command, *arguments, verbosity=0)


TASKS = {
    "look": look,
    "make_user": make_user,
    "manage": lambda command: manage(*command),
    "use": use,
    "work": work,
}

if __name__ == "__main__":
    main()
