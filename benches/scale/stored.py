"""Stored sessions, 1 k to 1 M, and what the arithmetic of docs/scaling.md needs to know of Redis."""

import hashlib
import random
import statistics
from functools import partial

from harness.client import exchange
from harness.load import CONNECTIONS
from harness.nginx import start_nginx
from harness.processes import PROXY_CORE, find, run
from harness.redis import Redis
from harness.sessions import invented, seen, session, session_id

from .filled import check, cookies, fill, start_proxy
from .ground import NGINX, Case, Curve, Ground
from .load import Proxy, info, lengths, load, number

# The names have to fit beside a curve.
GET = "one GET each"
NEAR = "near, all active"
ACTIVE = "near, 10,000 active"
UPDATE = "one change each"


def start(ground: Ground) -> tuple[list[Case], dict]:
    plain = Proxy(start_nginx(ground.place, "nginx", ground.backend))
    active = cookies(ground, ground.plan.active)
    cases = [Case(NGINX, ground.plan.sessions[0], partial(load, [plain], active))]
    figures = {}
    for count in ground.plan.sessions:
        redis = ground.redis()
        empty = number(info(redis.port), "used_memory")
        fill(ground, redis, count)
        if count == ground.plan.sessions[-1]:
            figures = of_redis(ground, redis, count, empty)
        cases += of_one(ground, redis, count)
    return cases, figures


def of_one(ground: Ground, redis: Redis, count: int) -> list[Case]:
    """Each series has a proxy of its own, so that none finds the near cache of another."""
    every, active = cookies(ground, count), cookies(ground, min(count, ground.plan.active))
    found = []
    for series, near, lines, path in (
        (GET, False, every, "/"),
        (NEAR, True, every, "/"),
        (ACTIVE, True, active, "/"),
        (UPDATE, False, every, "/update"),
    ):
        proxy = start_proxy(ground, f"{count}-{len(found)}", redis, near)
        check(proxy.server.port, random.Random(count).sample(range(count), min(count, 1000)))
        take = partial(load, [proxy], lines, redis=redis, path=path)
        # A near cache is to be as full as it gets.
        take(1 if not near else 6 if count > ground.plan.active else 2)
        found.append(Case(series, count, take))
    return found


def of_redis(ground: Ground, redis: Redis, count: int, empty: int) -> dict:
    """What a session takes there, what it takes to remember who read it, and what a question costs that comes alone."""
    stored = number(info(redis.port), "used_memory")
    tracked = min(count, 50_000)
    proxy = start_proxy(ground, "tracking", redis, True)
    heads = list(seen(proxy.server.port, [invented(1)[0]]))
    for answer in exchange(proxy.server.port, (("/", f"sessionid={session_id(index)}") for index in range(tracked))):
        last = answer
    text = info(redis.port)
    return {
        "session_bytes": len(session(0)),
        "record_bytes": statistics.mean(lengths(redis.port, 500)),
        "redis_bytes": (stored - empty) / count,
        "tracking_bytes": (number(text, "used_memory") - stored) / number(text, "tracking_total_items"),
        "get_alone_us": alone(redis),
        "to_backend_bytes": len(heads[0]),
        "to_visitor_bytes": len(last.head) + 4 + len(last.body),
    }


def alone(redis: Redis) -> float:
    """CPU µs of Redis for a GET that no other shares a system call with."""
    requests = 200_000
    name = "session:" + hashlib.sha256(session_id(0).encode()).hexdigest()
    before = redis.server.cpu_seconds()
    benchmark = [find("redis-benchmark"), "-p", redis.port, "-c", CONNECTIONS, "-n", requests, "-q", "GET", name]
    run("taskset", "-c", PROXY_CORE, *benchmark, limit=120)
    return (redis.server.cpu_seconds() - before) * 1e6 / requests


CURVE = Curve(
    "sessions",
    "Stored sessions",
    "sessions in Redis",
    start,
    "Sessions of 200 bytes, in a Redis of their own for each number. One `GET` each is without near cache, and so is one change "
    "each, in every response. Near is with it; cookies are chosen from all sessions, or from 10,000 of them. "
    "The near cache has its default of 64 MiB, and no entry grows too old: what does not fit costs a `GET`, as the share of hits "
    "shows.",
    log_x=True,
)
