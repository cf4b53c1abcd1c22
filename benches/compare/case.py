"""What a measured case is made of."""

import dataclasses
import pathlib
from collections.abc import Callable

from harness.accounts import Server
from harness.processes import Workplace, find
from harness.redis import Redis

RATE = 5000


@dataclasses.dataclass
class Ground:
    """What all cases share."""

    place: Workplace
    redis: Redis
    backend: int
    sessions: int


@dataclasses.dataclass
class Missing(Exception):
    """A case that cannot be measured here, and what it lacks."""

    what: str


@dataclasses.dataclass
class Peer:
    """A running server, and the Cookie header of each session."""

    server: Server
    cookies: list[str]


@dataclasses.dataclass
class Case:
    key: str
    title: str
    # "forward", "session", "update".
    group: str
    start: Callable[[Ground, str], Peer]
    # The header in which the backend sees the session, if it does.
    header: str | None = None
    # Whether the backend sees each of its keys in a header of its own besides.
    parsed: bool = False
    # How often it asks Redis for a session at each request.
    gets: int = 0
    # Whether every session is asked for right before each round, so that what is cached for a time is there.
    hot: bool = False
    # Whether it sets the headers that Cloakroom sets besides.
    forwards: bool = True
    path: str = "/"
    # Requests a second where the time of one is measured.
    rate: int = RATE
    # Whether it is Cloakroom, and so is measured for another binary too.
    ours: bool = False
    # Prints its version.
    version: tuple[str, ...] = ()
    # Programs and files that have to be there, each with its Debian package.
    needs: dict[str, str] = dataclasses.field(default_factory=dict)

    def lacks(self) -> dict[str, str]:
        return {what: package for what, package in self.needs.items() if not there(what)}


def there(what: str) -> bool:
    return pathlib.Path(what).exists() if what.startswith("/") else find(what) is not None
