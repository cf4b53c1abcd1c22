"""Apache with its own sessions: in the cookie, and in a database."""

import json
import os
import pathlib
import sqlite3
from urllib.parse import urlencode

from harness.accounts import Server
from harness.processes import PROXY_CORE, find, free_port
from harness.sessions import OTHER_COOKIE, invented, session, session_id

from .case import Case, Ground, Peer

MODULES = pathlib.Path("/usr/lib/apache2/modules")
USED = ("mpm_event", "authz_core", "headers", "env", "unique_id", "proxy", "proxy_http", "session")
# More threads than connections under load: when all are busy it closes connections that are kept alive.
CONF = """
ServerRoot {folder}
ServerName localhost
DefaultRuntimeDir {folder}
PidFile {folder}/pid
ErrorLog {folder}/error.log
{modules}
{identity}
Listen 127.0.0.1:{port}
StartServers 1
ServerLimit 1
ThreadLimit 128
ThreadsPerChild 128
MaxRequestWorkers 128
MinSpareThreads 1
AsyncRequestWorkerFactor 200
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 300
Timeout 300
ProxyPass / http://127.0.0.1:{backend}/
ProxyPreserveHost On
RequestHeader set X-Forwarded-Proto http
RequestHeader set Forwarded "expr=for=%{{REMOTE_ADDR}};proto=http;host=\\"%{{HTTP_HOST}}\\""
RequestHeader set X-Request-Id "%{{UNIQUE_ID}}e"
{sessions}
"""
SESSION = """
<Location "/">
    Session On
    SessionEnv On
    {kind}
    RequestHeader set X-Session "%{{HTTP_SESSION}}e"
</Location>
"""
# The statements are those of the module's documentation.
DATABASE = """
DBDriver sqlite3
DBDParams {file}
DBDPrepareSQL "delete from session where key = %s" deletesession
DBDPrepareSQL "update session set value = %s, expiry = %lld, key = %s where key = %s" updatesession
DBDPrepareSQL "insert into session (value, expiry, key) values (%s, %lld, %s)" insertsession
DBDPrepareSQL "select value from session where key = %s and (expiry = 0 or expiry > %lld)" selectsession
DBDPrepareSQL "delete from session where expiry != 0 and expiry < %lld" cleansession
"""


def start(ground: Ground, name: str, folder: pathlib.Path, sessions: str = "", modules: tuple[str, ...] = ()) -> Server:
    port = free_port()
    # Started as root it insists on another user, who has to get at the folder.
    identity = ""
    if os.geteuid() == 0:
        identity = "User nobody\nGroup nogroup"
        ground.place.directory.chmod(0o711)
        folder.chmod(0o777)
    lines = "\n".join(f"LoadModule {module}_module {MODULES}/mod_{module}.so" for module in USED + modules)
    file = folder / "apache.conf"
    file.write_text(
        CONF.format(folder=folder, modules=lines, identity=identity, port=port, backend=ground.backend, sessions=sessions)
    )
    return ground.place.start(name, [find("apache2"), "-D", "FOREGROUND", "-f", file], port, PROXY_CORE)


def plain(ground: Ground, name: str) -> Peer:
    return Peer(start(ground, name, ground.place.folder(name)), invented(ground.sessions))


def in_cookie(ground: Ground, name: str) -> Peer:
    kind = SESSION.format(kind="SessionCookieName session path=/")
    server = start(ground, name, ground.place.folder(name), kind, ("session_cookie",))
    return Peer(server, [f"{OTHER_COOKIE}; session={record(number)}" for number in range(ground.sessions)])


def in_database(ground: Ground, name: str) -> Peer:
    folder = ground.place.folder(name)
    file = folder / "sessions.sqlite3"
    fill(file, ground.sessions)
    lines = DATABASE.format(file=file) + SESSION.format(kind="SessionDBDCookieName sessionid path=/")
    return Peer(start(ground, name, folder, lines, ("dbd", "session_dbd")), invented(ground.sessions))


def fill(file: pathlib.Path, count: int) -> None:
    database = sqlite3.connect(file)
    with database:
        database.execute("create table session (key text primary key, value text, expiry integer)")
        rows = ((session_id(number), record(number)) for number in range(count))
        database.executemany("insert into session values (?, ?, 0)", rows)
    database.close()
    file.chmod(0o666)


def record(number: int) -> str:
    """What these modules store: names and values without types."""
    data = json.loads(session(number))
    return urlencode(
        {name: value if isinstance(value, (str, int)) else ",".join(map(str, value)) for name, value in data.items()}
    )


SQLITE = next(iter(pathlib.Path("/usr/lib").glob("*/apr-util-1/apr_dbd_sqlite3*.so")), "/usr/lib/apr-util-1/apr_dbd_sqlite3.so")
NEEDS = {"apache2": "apache2"} | {f"{MODULES}/mod_{name}.so": "apache2" for name in USED}
COOKIE_NEEDS = NEEDS | {f"{MODULES}/mod_session_cookie.so": "apache2"}
DATABASE_NEEDS = NEEDS | {f"{MODULES}/mod_{name}.so": "apache2" for name in ("dbd", "session_dbd")}
DATABASE_NEEDS[str(SQLITE)] = "libaprutil1-dbd-sqlite3"
HEADER = "X-Session"
CASES = [
    Case("apache", "Apache", "forward", plain, version=("apache2", "-v"), needs=NEEDS),
    Case("apache_cookie", "Apache, mod_session_cookie", "session", in_cookie, header=HEADER, needs=COOKIE_NEEDS),
    Case("apache_dbd", "Apache, mod_session_dbd on SQLite", "session", in_database, header=HEADER, needs=DATABASE_NEEDS),
]
