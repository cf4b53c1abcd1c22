"""Routes, 1 to 1,000, by host and path, all of them asked."""

import math
from functools import partial

from harness.cloakroom import start_cloakroom
from harness.nginx import start_nginx
from harness.processes import OTHER_CORE
from harness.sessions import invented

from .ground import NGINX, Case, Curve, Ground
from .load import Proxy, load

SERIES = "no sessions"
ROUTE = '[[routes]]\nhost = "{host}"\npath = "{path}"\nupstream = "app"\nsession = false\n'
# The C backend knows no such paths.
ANSWER = f'location / {{ default_type text/plain; return 200 "{"x" * 100}"; }}'


def start(ground: Ground) -> tuple[list[Case], dict]:
    backend = start_nginx(ground.place, "backend", 1, ANSWER, core=OTHER_CORE)
    plain = Proxy(start_nginx(ground.place, "nginx", backend.port))
    cases = []
    for count in (1, 10, 100, 1000):
        places = where(count)
        lines = ground.place.directory / f"requests-{count}"
        lines.write_text("".join(f"{path}/page\t{host}\t{cookie}\n" for (host, path), cookie in zip(places, invented(count))))
        if not cases:
            cases.append(Case(NGINX, count, partial(load, [plain], lines)))
        routes = "".join(ROUTE.format(host=host, path=path) for host, path in places)
        proxy = Proxy(start_cloakroom(ground.place, f"routes-{count}", ground.binary, backend.port, 'engine = "memory"', routes))
        cases.append(Case(SERIES, count, partial(load, [proxy], lines)))
    for case in cases:
        case.take(1)
    return cases, {}


def where(count: int) -> list[tuple[str, str]]:
    """So many routes, about as many hosts as paths under each."""
    paths = math.isqrt(count)
    return [(f"shop-{index // paths}.example.com", f"/part/{index % paths}") for index in range(count)]


CURVE = Curve(
    "routes",
    "Routes",
    "routes",
    start,
    "Hosts with several paths each; every request asks for one of the routes at random, which nginx, with one location, passes "
    "on. Without sessions, so that nothing hides what finding the route costs. Here the backend is an nginx.",
    log_x=True,
)
