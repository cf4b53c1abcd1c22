"""The size of a session, 0.2 to 64 KiB, all of which the backend gets with each request."""

from functools import partial

from harness.nginx import FORWARD, start_nginx
from harness.sessions import session

from .filled import NEAR_LINES, check, cookies, fill, large, padded, start_proxy
from .ground import NGINX, Case, Curve, Ground
from .load import Proxy, load

GET = "one GET each"
NEAR = "near cache hot"
SESSIONS = 1000
SIZES = (len(session(0)) / 1024, 1, 4, 16, 64)


def start(ground: Ground) -> tuple[list[Case], dict]:
    lines = cookies(ground, SESSIONS)
    cases = []
    for size in SIZES:
        kib = round(size, 1)
        data = padded(round(size * 1024))
        nginx = Proxy(start_nginx(ground.place, f"nginx-{kib}", ground.backend, location(data(0))))
        redis = ground.redis()
        fill(ground, redis, SESSIONS, data)
        cases.append(Case(NGINX, kib, partial(load, [nginx], lines)))
        for series, near in ((GET, False), (NEAR, True)):
            proxy = start_proxy(ground, f"{kib}-near-{near}", redis, near, large(1 << 18), NEAR_LINES + 'max_bytes = "512MiB"\n')
            check(proxy.server.port, range(SESSIONS), data)
            cases.append(Case(series, kib, partial(load, [proxy], lines, redis=redis)))
    for case in cases:
        case.take(1)
    return cases, {}


def location(data: str) -> str:
    """nginx adds the same header, from variables: no parameter may be longer than 4 KiB."""
    pieces = [data[start : start + 1000].replace("\\", "\\\\").replace("'", "\\'") for start in range(0, len(data), 1000)]
    sets = "".join(f"set $piece{index} '{piece}';\n" for index, piece in enumerate(pieces))
    header = "".join(f"${{piece{index}}}" for index in range(len(pieces)))
    return f"location / {{ {sets} {FORWARD} proxy_set_header X-Session-Data {header}; }}"


CURVE = Curve(
    "size",
    "Size of a session",
    "KiB a session",
    start,
    "1,000 sessions, all of them in the near cache where it is on. The whole session goes to the backend in `X-Session-Data` "
    "(`headers.max_header_bytes` is raised for that; 4 KiB by default), and nginx sends a constant header as large.",
    log_x=True,
)
