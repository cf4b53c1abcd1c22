"""Workers 1 and 2, on two cores that everything shares."""

from functools import partial

from harness.accounts import Server
from harness.cloakroom import route, start_cloakroom
from harness.nginx import start_nginx
from harness.sessions import start_backend

from .filled import ALL_CORES, check, cookies, fill, free, start_proxy
from .ground import NGINX, Case, Curve, Ground
from .load import Proxy, load

SERIES = ("no sessions", "near cache hot", "one GET each")


def start(ground: Ground) -> tuple[list[Case], dict]:
    lines = cookies(ground, ground.plan.active)
    redis, backend = ground.redis(), start_backend(ground.place)
    fill(ground, redis, ground.plan.active)
    free(*redis.server.pids(), *backend.pids())
    cores = ",".join(map(str, sorted(ALL_CORES)))
    cases = []
    for workers in (1, 2):
        proxies = [
            Proxy(start_nginx(ground.place, f"nginx-{workers}", backend.port, workers=workers)),
            Proxy(plain(ground, backend.port, workers)),
            *(start_proxy(ground, f"{near}-{workers}", redis, near, workers=workers) for near in (True, False)),
        ]
        for series, proxy in zip((NGINX, *SERIES), proxies, strict=True):
            free(*proxy.server.pids())
            cases.append(Case(series, workers, partial(load, [proxy], lines, redis=redis, cores=cores)))
        for proxy in proxies[2:]:
            check(proxy.server.port, range(ground.plan.active))
    for case in cases:
        case.take(1)
    return cases, {}


def plain(ground: Ground, backend: int, workers: int) -> Server:
    name, store = f"plain-{workers}", 'engine = "memory"'
    return start_cloakroom(ground.place, name, ground.binary, backend, store, route(False), workers=workers)


CURVE = Curve(
    "workers",
    "Workers",
    "workers",
    start,
    "Proxy, wrk, backend and Redis share two cores, nothing is pinned. What a second worker can show here is whether a request "
    "costs more when workers share a process (the near cache is one for all of them); that twice the cores serve twice the "
    "requests it cannot show.",
)
