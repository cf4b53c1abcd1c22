"""Proxies 1 to 4 on one Redis, with a write on one request in ten."""

from functools import partial

from harness.nginx import start_nginx
from harness.sessions import invented

from .filled import check, cookies, fill, start_proxy
from .ground import NGINX, Case, Curve, Ground
from .load import Proxy, load

SERIES = {False: "near cache off", True: "near cache on"}


def start(ground: Ground) -> tuple[list[Case], dict]:
    plain, count = cookies(ground, ground.plan.active), ground.plan.active
    mixed = ground.place.directory / "mixed"
    with open(mixed, "w") as lines:
        for cookie in invented(count):
            lines.writelines(f"{path}\tlocalhost\t{cookie}\n" for path in ["/"] * 9 + ["/update"])
    nginx = Proxy(start_nginx(ground.place, "nginx", ground.backend))
    cases = [Case(NGINX, 1, partial(load, [nginx], plain))]
    for near, series in SERIES.items():
        for size in (1, 2, 3, 4):
            # A Redis of their own, which would tell other proxies too what they have ever read.
            redis = ground.redis()
            fill(ground, redis, count)
            fleet = [start_proxy(ground, f"{near}-{size}-{number}", redis, near) for number in range(size)]
            for proxy in fleet:
                check(proxy.server.port, range(0, count, 10))
            cases.append(Case(series, size, partial(load, fleet, mixed, redis=redis)))
    for case in cases:
        case.take(2)
    return cases, {}


CURVE = Curve(
    "proxies",
    "Proxies on one Redis",
    "proxies",
    start,
    "One request in ten changes its session; 10,000 sessions, and every request goes to any of the proxies, as a balancer "
    "without memory does it. All proxies share core 0, so throughput stays that of one core; what may change with their "
    "number is the cost of a request, there and in Redis.",
)
