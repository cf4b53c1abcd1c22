"""Node: http-proxy alone, and with express-session and connect-redis."""

import base64
import hashlib
import hmac
import json
import pathlib
import shutil
from urllib.parse import quote

from harness.native import FOLDER
from harness.processes import PROXY_CORE, free_port, run, say
from harness.sessions import OTHER_COOKIE, invented, session, session_id

from .case import Case, Ground, Peer

SOURCE = pathlib.Path(__file__).parent / "node"
FILES = ("package.json", "package-lock.json", "server.js")
SECRET = "not a secret"
NEEDS = {"node": "nodejs", "npm": "npm"}
VERSION = ("node", "--version")
# A second: what Node serves on one core with sessions, and room to spare.
RATE = 250


def plain(ground: Ground, name: str) -> Peer:
    port = free_port()
    server = ground.place.start(name, ["node", installed() / "server.js", port, ground.backend], port, PROXY_CORE)
    return Peer(server, invented(ground.sessions))


def with_sessions(ground: Ground, name: str) -> Peer:
    port, database = free_port(), ground.redis.database()
    ground.redis.store(database, [record(number) for number in range(ground.sessions)])
    command = ["node", installed() / "server.js", port, ground.backend, ground.redis.url(database), SECRET]
    return Peer(ground.place.start(name, command, port, PROXY_CORE), [cookie(number) for number in range(ground.sessions)])


def installed() -> pathlib.Path:
    """The folder with the packages of the lock file."""
    folder = FOLDER / "node"
    lock = folder / "package-lock.json"
    fresh = lock.exists() and lock.read_bytes() == (SOURCE / lock.name).read_bytes() and (folder / "node_modules").exists()
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copy(SOURCE / file, folder)
    if not fresh:
        say("installing packages of Node")
        shutil.rmtree(folder / "node_modules", ignore_errors=True)
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", limit=600, cwd=folder)
    return folder


def record(number: int) -> tuple[str, str]:
    """As connect-redis would have stored it."""
    data = {"cookie": {"originalMaxAge": None, "expires": None, "httpOnly": True, "path": "/"}} | json.loads(session(number))
    return f"sess:{session_id(number)}", json.dumps(data, separators=(",", ":"))


def cookie(number: int) -> str:
    """As express-session signs it."""
    name = session_id(number)
    digest = base64.b64encode(hmac.digest(SECRET.encode(), name.encode(), hashlib.sha256)).decode().rstrip("=")
    return f"{OTHER_COOKIE}; connect.sid={quote(f's:{name}.{digest}', safe='')}"


CASES = [
    Case("node", "Node, http-proxy", "forward", plain, version=VERSION, needs=NEEDS, rate=RATE),
    Case(
        "node_session",
        "Node, express-session + connect-redis",
        "session",
        with_sessions,
        header="X-Session-Data",
        gets=1,
        needs=NEEDS,
        rate=RATE,
    ),
]
