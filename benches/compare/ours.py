"""Cloakroom in its cases."""

import dataclasses
import pathlib
from collections.abc import Callable

from harness.cloakroom import near_cache, route, start_cloakroom
from harness.sessions import created, invented

from .case import Case, Ground, Missing, Peer

# Behind the key of each case of the build that this one is compared with.
OTHER = "-other"
# Of the backend's headers, the one that has the whole session.
DATA = "X-Session-Data"
# A switch of the allocator's.
LARGE_PAGES = {"MIMALLOC_ALLOW_LARGE_OS_PAGES": "1"}
KEY = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

Store = Callable[[Ground, str, pathlib.Path], str]


def cases(binary: pathlib.Path, suffix: str = "") -> list[Case]:
    """All cases of one build; one with a suffix is the other build, that it is compared with."""
    build = "The other build" if suffix else "Cloakroom"

    def case(
        key: str, title: str, group: str, store: Store, gets: int = 0, path: str = "/", env: dict[str, str] | None = None
    ) -> Case:
        start = with_sessions(binary, store, env)
        return Case(key + suffix, f"{build}, {title}", group, start, header=DATA, gets=gets, path=path, ours=True)

    return [
        Case("plain" + suffix, f"{build}, route without sessions", "forward", without_sessions(binary), ours=True),
        dataclasses.replace(case("near_cache", "near cache hot", "session", redis(True)), hot=True),
        dataclasses.replace(
            case("near_cache_large_pages", "near cache hot, large pages", "session", redis(True), env=LARGE_PAGES), hot=True
        ),
        case("get", "one Redis GET each", "session", redis(False), gets=1),
        case("memory", "`memory`", "session", lambda *_: 'engine = "memory"'),
        case("db", "`db` on SQLite", "session", lambda ground, name, _: sqlite(ground, name)),
        case("signed_cookies", "`signed_cookies`", "session", lambda *_: f'engine = "signed_cookies"\nkeys = ["{KEY}"]'),
        case("update", "changed by every response", "update", redis(False), gets=1, path="/update"),
    ]


def without_sessions(binary: pathlib.Path) -> Callable[[Ground, str], Peer]:
    def start(ground: Ground, name: str) -> Peer:
        server = start_cloakroom(ground.place, name, binary, ground.backend, 'engine = "memory"', route(False))
        return Peer(server, invented(ground.sessions))

    return start


def with_sessions(binary: pathlib.Path, store: Store, env: dict[str, str] | None) -> Callable[[Ground, str], Peer]:
    def start(ground: Ground, name: str) -> Peer:
        settings = store(ground, name, binary)
        server = start_cloakroom(ground.place, name, binary, ground.backend, settings, route(True), env=env)
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
