"""Load on a server, and what it cost the server."""

import dataclasses
import json
import pathlib
import statistics

from . import HERE
from .accounts import Server
from .native import rate_program
from .processes import OTHER_CORE, Fault, run
from .redis import Redis

CONNECTIONS = 64
# What a load on Cloakroom needs, each with its Debian package.
PROGRAMS = {
    "wrk": "wrk",
    "redis-server": "redis-server",
    "taskset": "util-linux",
    "setpriv": "util-linux",
    "cc": "gcc",
}


@dataclasses.dataclass
class Round:
    """One turn of one case at full load."""

    requests: int
    cpu_us: float
    requests_per_second: float
    p50_us: float
    p99_us: float
    # Of Redis, by name, a request.
    commands: dict[str, float]


def full_load(
    server: Server, path: str, cookies: pathlib.Path, seconds: float, redis: Redis, connections: int = CONNECTIONS
) -> Round:
    """wrk on one core as fast as it goes, each request with one line of the file as its Cookie header."""
    before_calls, before = redis.calls(), server.cpu_seconds()
    result = wrk(server.port, path, cookies, seconds, connections)
    after, after_calls = server.cpu_seconds(), redis.calls()
    requests = result["requests"]
    sent = {name: (calls - before_calls.get(name, 0)) / requests for name, calls in after_calls.items()}
    return Round(
        requests=requests,
        cpu_us=(after - before) * 1e6 / requests,
        requests_per_second=requests / result["seconds"],
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        commands={name: calls for name, calls in sent.items() if calls},
    )


def wrk(port: int, path: str, lines: pathlib.Path, seconds: float, connections: int, cores: str = str(OTHER_CORE)) -> dict:
    """What it reports; see wrk.lua for the file. A request that fails is a fault."""
    command = ["taskset", "-c", cores, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    output = run(*command, "-s", HERE / "wrk.lua", f"http://127.0.0.1:{port}{path}", "--", lines, limit=seconds + 60)
    result = json.loads(output.strip().splitlines()[-1])
    errors = ", ".join(f"{count} by {kind}" for kind, count in result["errors"].items() if count)
    if errors or not result["requests"]:
        raise Fault(f"of {result['requests']} requests failed: {errors or 'all'}")
    return result


@dataclasses.dataclass
class Latency:
    """One turn of one case at a fixed rate."""

    rate: float
    # How many it served; fewer than the rate means that the others queued.
    served: float
    p50_us: float
    p90_us: float
    p99_us: float


def fixed_rate(server: Server, path: str, cookies: pathlib.Path, rate: float, seconds: float) -> Latency:
    """Poisson arrivals; times count from when a request was meant to leave."""
    command = [rate_program(), server.port, path, cookies, rate, seconds, CONNECTIONS]
    result = json.loads(run("taskset", "-c", OTHER_CORE, *command, limit=seconds + 30))
    if result["failed"]:
        raise Fault(f"{result['failed']} of {result['requests']} requests failed at a fixed rate")
    served = result["requests"] / result["seconds"]
    return Latency(rate, served, result["p50_us"], result["p90_us"], result["p99_us"])


def spread(values: list[float]) -> float:
    """The largest less the smallest, over the median."""
    return (max(values) - min(values)) / statistics.median(values)
