"""Idle connections beside those that ask."""

import time
from collections.abc import Callable

from harness.client import Connection
from harness.cloakroom import route, start_cloakroom
from harness.nginx import start_nginx
from harness.processes import Fault
from harness.sessions import invented

from .filled import cookies
from .ground import NGINX, Case, Curve, Ground
from .load import Proxy, Sample, load

SERIES = "no sessions"


def start(ground: Ground) -> tuple[list[Case], dict]:
    lines = cookies(ground, 1000)
    nginx = Proxy(start_nginx(ground.place, "nginx", ground.backend))
    ours = Proxy(start_cloakroom(ground.place, "idle", ground.binary, ground.backend, 'engine = "memory"', route(False)))

    def beside(proxy: Proxy, count: int) -> Callable[[int], Sample]:
        def take(seconds: int) -> Sample:
            opened = connections(proxy.server.port, count)
            try:
                return load([proxy], lines, seconds)
            finally:
                for connection in opened:
                    connection.close()
                # The proxy sees all of them end, and that is not to count for whatever comes next.
                time.sleep(0.2 + count / 20_000)

        return take

    cases = []
    for count in ground.plan.idle:
        cases += [Case(NGINX, count, beside(nginx, count)), Case(SERIES, count, beside(ours, count))]
    for case in cases:
        case.take(1)
    return cases, {}


def connections(port: int, count: int) -> list[Connection]:
    """Each was used once."""
    cookie = invented(1)[0]
    opened = []
    try:
        for _ in range(count):
            connection = Connection(port)
            opened.append(connection)
            connection.send("/", cookie)
            if connection.receive().status != 200:
                raise Fault("a connection that was to be idle got no answer")
        return opened
    except (Fault, OSError) as fault:
        for connection in opened:
            connection.close()
        raise Fault(f"idle connection {len(opened)}: {fault}") from fault


CURVE = Curve(
    "idle",
    "Idle connections",
    "idle connections",
    start,
    "Kept alive, used once, beside those that ask; nginx has as many. Resident memory is that of a process that has been through "
    "every point before.",
)
