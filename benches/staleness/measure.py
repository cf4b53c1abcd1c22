"""Two proxies, one Redis, near caches on: trials of every kind, first alone and then under load."""

import concurrent.futures
import dataclasses
import json
import pathlib

from harness.load import fixed_rate
from harness.native import compiled, rate_program
from harness.processes import OTHER_CORE, run, say
from harness.sessions import invented
from scale.filled import check, cookies, fill, start_proxy
from scale.ground import Site
from scale.load import Proxy, load

KINDS = {"update": "/update", "logout": "/flush", "cycle": "/cycle"}
SESSIONS = 10_000
# On so many connections the second proxy is asked, once in so many microseconds.
CONNECTIONS, EVERY = 8, 100
# After a cycle the old key is to be over at once; by default it answers reads for ten seconds.
NO_GRACE = '[session]\ncycle_grace = "0s"\n'
# Of the capacity of both together; of that, one request in ten is a write.
SHARE = 0.5


@dataclasses.dataclass
class Trials:
    kind: str
    load: str
    delays: list[int]
    gaps: list[int]
    # The second proxy had the new state before the first one had answered.
    early: int
    # Old answers after a right one: to requests that began later, and to the last look at all sessions.
    regressions: int
    revived: int


@dataclasses.dataclass
class Background:
    capacity: float
    rate: float


def measure(site: Site, seconds: int) -> tuple[list[Trials], Background]:
    # Compiled now, and not by several threads at once.
    rate_program()
    redis = site.redis()
    fill(site, redis, SESSIONS)
    proxies = [start_proxy(site, name, redis, True, NO_GRACE, near_lines="") for name in ("first", "second")]
    for proxy in proxies:
        check(proxy.server.port, range(SESSIONS))
    plain = cookies(site, SESSIONS)
    background = capacity(site, proxies, seconds)
    measured = []
    for loaded in (False, True):
        for kind in KINDS:
            say(f"{kind}, {'under load' if loaded else 'alone'}")
            if loaded:
                measured.append(under_load(proxies, plain, kind, background.rate, seconds))
            else:
                measured.append(trials(proxies, kind, "alone", seconds))
    return measured, background


def capacity(site: Site, proxies: list[Proxy], seconds: int) -> Background:
    """What both serve together at full load."""
    mixed = site.place.directory / "mixed"
    with open(mixed, "w") as lines:
        for cookie in invented(SESSIONS):
            lines.writelines(f"{path}\tlocalhost\t{cookie}\n" for path in ["/"] * 9 + ["/update"])
    load(proxies, mixed, 1)
    found = load(proxies, mixed, min(4, seconds)).requests_per_second
    return Background(found, found * SHARE)


def under_load(proxies: list[Proxy], plain: pathlib.Path, kind: str, rate: float, seconds: int) -> Trials:
    """Reads and writes of other sessions arrive at both meanwhile, as a Poisson process."""
    with concurrent.futures.ThreadPoolExecutor(2 * len(proxies)) as pool:
        others = [
            pool.submit(fixed_rate, proxy.server, path, plain, rate * share / len(proxies), seconds + 1)
            for proxy in proxies
            for path, share in (("/", 0.9), ("/update", 0.1))
        ]
        found = trials(proxies, kind, "under load", seconds)
        for other in others:
            other.result()
    return found


def trials(proxies: list[Proxy], kind: str, load: str, seconds: int) -> Trials:
    probe = [compiled(pathlib.Path(__file__).parent / "probe.c"), *(proxy.server.port for proxy in proxies)]
    output = run("taskset", "-c", OTHER_CORE, *probe, KINDS[kind], seconds, CONNECTIONS, EVERY, limit=seconds + 120)
    return Trials(kind, load, **json.loads(output))
