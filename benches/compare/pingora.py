"""pingora: the plainest proxy, and one that gets each session from Redis. Built when the benchmark runs."""

import functools
import pathlib

from harness.native import FOLDER
from harness.processes import PROXY_CORE, free_port, run, say
from harness.sessions import invented, session, session_id

from .case import Case, Ground, Peer

SOURCE = pathlib.Path(__file__).parent / "pingora"


@functools.cache
def built() -> pathlib.Path:
    say("building the proxy on pingora, the first time for some minutes")
    folder = FOLDER / "pingora"
    manifest = SOURCE / "Cargo.toml"
    run("cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", manifest, "--target-dir", folder, limit=3600)
    return folder / "release/bench-pingora"


def plain(ground: Ground, name: str) -> Peer:
    port = free_port()
    return Peer(ground.place.start(name, [built(), port, ground.backend], port, PROXY_CORE), invented(ground.sessions))


def with_get(ground: Ground, name: str) -> Peer:
    port, database = free_port(), ground.redis.filled(session_id, session, ground.sessions)
    command = [built(), port, ground.backend, ground.redis.url(database)]
    return Peer(ground.place.start(name, command, port, PROXY_CORE), invented(ground.sessions))


# The latter for the zlib that it compiles.
NEEDS = {"cargo": "cargo", "cmake": "cmake"}
CASES = [
    Case("pingora", "pingora", "forward", plain, needs=NEEDS),
    Case("pingora_get", "pingora, one Redis GET each", "session", with_get, header="X-Session-Data", gets=1, needs=NEEDS),
]
