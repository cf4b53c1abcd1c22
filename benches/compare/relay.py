"""The floor: bytes passed on by one thread that parses nothing."""

import pathlib

from harness.native import compiled
from harness.processes import PROXY_CORE, free_port
from harness.sessions import invented, session, session_id

from .case import Case, Ground, Peer

SOURCE = pathlib.Path(__file__).parent / "relay.c"


def relay(ground: Ground, name: str) -> Peer:
    port = free_port()
    server = ground.place.start(name, [compiled(SOURCE), port, ground.backend], port, PROXY_CORE)
    return Peer(server, invented(ground.sessions))


def relay_get(ground: Ground, name: str) -> Peer:
    port, database = free_port(), ground.redis.filled(session_id, session, ground.sessions)
    command = [compiled(SOURCE), port, ground.backend, ground.redis.port, database]
    return Peer(ground.place.start(name, command, port, PROXY_CORE), invented(ground.sessions))


CASES = [
    Case("relay", "byte relay (the floor)", "forward", relay, forwards=False),
    Case(
        "relay_get", "byte relay + Redis GET (the floor)", "session", relay_get, header="X-Session-Data", gets=1, forwards=False
    ),
]
