"""Load on one or several proxies, and what it cost them and Redis."""

import concurrent.futures
import dataclasses
import pathlib
import re
import socket
import statistics
import urllib.request

from harness.accounts import Server
from harness.load import CONNECTIONS, wrk
from harness.processes import OTHER_CORE
from harness.redis import Redis, command


@dataclasses.dataclass
class Proxy:
    server: Server
    # Where it tells of its near cache; None if it has none.
    admin: int | None = None


@dataclasses.dataclass
class Sample:
    """One turn. Of several proxies, together."""

    requests: int
    requests_per_second: float
    cpu_us: float
    p50_us: float
    p99_us: float
    resident_mib: float
    # Share of sessions that the near cache had.
    hits: float | None = None
    # Of Redis, a request: CPU time, bytes in and out, and commands by name.
    redis_us: float | None = None
    redis_in: float | None = None
    redis_out: float | None = None
    commands: dict[str, float] = dataclasses.field(default_factory=dict)
    # Messages of Redis to other proxies than the writing one, a write.
    invalidations: float | None = None


def load(
    proxies: list[Proxy],
    lines: pathlib.Path,
    seconds: int,
    redis: Redis | None = None,
    path: str = "/",
    cores: str = str(OTHER_CORE),
) -> Sample:
    """All connections that a proxy gets elsewhere, shared out among these."""

    def ask(proxy: Proxy) -> dict:
        return wrk(proxy.server.port, path, lines, seconds, CONNECTIONS // len(proxies), cores)

    before = account(proxies, redis)
    with concurrent.futures.ThreadPoolExecutor(len(proxies)) as pool:
        results = list(pool.map(ask, proxies))
    after = account(proxies, redis)
    requests = sum(result["requests"] for result in results)
    if redis:
        # The first account itself.
        after["out"] -= before["told"]
    spent = {name: (after[name] - before.get(name, 0)) / requests for name in after}
    asked = spent["hit"] + spent["miss"]
    sample = Sample(
        requests=requests,
        requests_per_second=sum(result["requests"] / result["seconds"] for result in results),
        cpu_us=spent["cpu"] * 1e6,
        p50_us=statistics.mean(result["p50_us"] for result in results),
        p99_us=max(result["p99_us"] for result in results),
        resident_mib=sum(proxy.server.resident_kib() for proxy in proxies) / 1024,
        hits=spent["hit"] / asked if asked else None,
    )
    if redis:
        sample.redis_us = spent["redis"] * 1e6
        sample.redis_in, sample.redis_out = spent["in"], spent["out"]
        sample.commands = {name[1:]: calls for name, calls in spent.items() if name[0] == "." and calls > 0.01}
        if asked and sample.commands.get("evalsha"):
            sample.invalidations = pushes(spent, redis) / spent[".evalsha"]
    return sample


# On the wire, as a push of RESP3 with one key; and what a script that saves answers.
PUSH_BYTES = len(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$72\r\n\r\n") + 72
SAVED_BYTES = len(b":1\r\n")


def pushes(spent: dict[str, float], redis: Redis) -> float:
    """Messages of changes, a request: Redis does not count them, but all bytes it sends."""
    record = statistics.mean(lengths(redis.port, 500))
    answer = len(f"${record:.0f}\r\n\r\n") + record
    return (spent["out"] - spent[".get"] * answer - spent[".evalsha"] * SAVED_BYTES) / PUSH_BYTES


def lengths(port: int, count: int) -> list[int]:
    """Of records, at random."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection, connection.makefile("rb") as answers:
        found = []
        for _ in range(count):
            connection.sendall(command("RANDOMKEY"))
            key = answers.read(int(answers.readline()[1:]) + 2)[:-2].decode()
            connection.sendall(command("STRLEN", key))
            found.append(int(answers.readline()[1:]))
        return found


def account(proxies: list[Proxy], redis: Redis | None) -> dict[str, float]:
    counts = {"cpu": sum(proxy.server.cpu_seconds() for proxy in proxies), "hit": 0, "miss": 0}
    for proxy in proxies:
        for outcome, found in lookups(proxy).items():
            counts[outcome] += found
    if redis:
        text = info(redis.port)
        counts["redis"] = redis.server.cpu_seconds()
        counts["in"] = number(text, "total_net_input_bytes")
        counts["out"] = number(text, "total_net_output_bytes")
        counts["told"] = len(text)
        counts |= {f".{name}": int(calls) for name, calls in re.findall(r"cmdstat_([^:]+):calls=(\d+)", text)}
        counts.pop(".info", None)
    return counts


def lookups(proxy: Proxy) -> dict[str, int]:
    """In the near cache, since its start, by outcome."""
    if proxy.admin is None:
        return {}
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r'cloakroom_near_cache_lookups_total\{outcome="(hit|miss)"\} (\d+)', text)
    return {outcome: int(number) for outcome, number in found}


def info(port: int) -> str:
    """All that Redis says about itself."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection, connection.makefile("rb") as answer:
        connection.sendall(command("INFO", "everything"))
        return answer.read(int(answer.readline()[1:])).decode()


def number(info: str, name: str) -> int:
    return int(re.search(rf"^{name}:(\d+)", info, re.MULTILINE)[1])
