"""Cloakroom in its cases."""

import pathlib
from collections.abc import Callable
from typing import Any

from harness.cloakroom import near_cache, route, start_cloakroom
from harness.sessions import created, invented

from .case import Case, Ground, Missing, Peer

# Behind the key of each case of the build that this one is compared with.
OTHER = "-other"
# Of the backend's headers, the one that has the whole session.
DATA = "X-Session-Data"
KEY = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
# Every key of the benchmark's sessions in a header of its own, with the whole besides.
EXPOSED = '[headers]\nexpose = ["user_id", "name", "lang", "roles", "csrf", "cart", "seen"]\n'

Start = Callable[[Ground, str], Peer]
Store = Callable[[Ground, str, pathlib.Path], str]


def cases(binary: pathlib.Path, build: str = "Cloakroom", suffix: str = "") -> list[Case]:
    """All cases of one build, called so. One with a suffix is the other build, that it is compared with."""

    def case(key: str, title: str, group: str, start: Start, **more: Any) -> Case:
        return Case(key + suffix, f"{build}, {title}", group, start, ours=True, **more)

    def session(key: str, title: str, store: Store, tables: str = "", group: str = "session", **more: Any) -> Case:
        return case(key, title, group, with_sessions(binary, store, tables), header=DATA, **more)

    return [
        case("plain", "route without sessions", "forward", without_sessions(binary)),
        session("near_cache", "near cache hot", redis(True), hot=True),
        session("get", "one Redis GET each", redis(False), gets=1),
        session("get_parsed", "one Redis GET each, its keys in seven headers", redis(False), EXPOSED, parsed=True, gets=1),
        session("memory", "`memory`", lambda *_: 'engine = "memory"'),
        session("db", "`db` on SQLite", lambda ground, name, _: sqlite(ground, name)),
        session("signed_cookies", "`signed_cookies`", lambda *_: f'engine = "signed_cookies"\nkeys = ["{KEY}"]'),
        session("update", "changed by every response", redis(False), group="update", gets=1, path="/update"),
    ]


def without_sessions(binary: pathlib.Path) -> Start:
    def start(ground: Ground, name: str) -> Peer:
        server = start_cloakroom(ground.place, name, binary, ground.backend, 'engine = "memory"', route(False))
        return Peer(server, invented(ground.sessions))

    return start


def with_sessions(binary: pathlib.Path, store: Store, tables: str, access_log: bool = False) -> Start:
    """`tables` are whole tables of the configuration."""

    def start(ground: Ground, name: str) -> Peer:
        settings = store(ground, name, binary)
        server = start_cloakroom(
            ground.place, name, binary, ground.backend, settings, route(True) + tables, access_log=access_log
        )
        return Peer(server, created(server.port, ground.sessions))

    return start


def redis(cached: bool) -> Store:
    def store(ground: Ground, _: str, binary: pathlib.Path) -> str:
        plain = f'engine = "redis"\nurl = "{ground.redis.url(ground.redis.database())}"'
        found = near_cache(binary, ground.place, plain, cached)
        if found is None and cached:
            raise Missing("a build of Cloakroom that has the near cache")
        # A build that cannot turn it off has none.
        return found or plain

    return store


def sqlite(ground: Ground, name: str) -> str:
    return f'engine = "db"\nurl = "sqlite://{ground.place.directory}/{name}.sqlite3"'
