"""The tables of docs/scaling.md, from the figures of the last whole run: how many machines carry so many requests."""

import dataclasses
import json
import math
import pathlib
import re

from harness import RESULTS, ROOT
from harness.processes import Fault
from harness.tables import table

from . import report, stored
from .ground import NGINX

DOCUMENT = ROOT / "docs/scaling.md"

REQUESTS = 1e6
SESSIONS = 100e6
# Shares of a core that are to be used at most: Redis has one thread, and a failover brings another's load.
PROXY_LOAD, REDIS_LOAD = 0.6, 0.5
WORKERS = 8
# Of records on one master; the machine has twice that.
MASTER_BYTES = 16 * 2**30
MAX_AGE = 30
# Seconds between two requests of a visitor; of 100 M sessions so many are awake at REQUESTS a second.
PAUSE = 10
# Of the near cache for each session beside its data: src/sessions/near.rs, the name, and what data of this size is rounded
# up by (src/session/data.rs).
NEAR_OVERHEAD = 448 + 64 + 63


@dataclasses.dataclass
class Costs:
    """Microseconds of CPU, and bytes."""

    nginx: float
    near: float
    get: float
    update: float
    redis_get: float
    redis_get_alone: float
    redis_update: float
    session_bytes: float
    record_bytes: float
    redis_bytes: float
    tracking_bytes: float
    to_backend: float
    to_visitor: float
    # Messages a write, by number of proxies.
    invalidations: dict[int, float]

    @classmethod
    def read(cls, results: dict) -> "Costs":
        points, figures = results["curves"]["sessions"]["points"], results["curves"]["sessions"]["figures"]
        most = max(point["x"] for point in points)

        def at(series: str, name: str) -> float:
            """With the most sessions that were measured; there is one nginx for all."""
            places = (most, points[0]["x"])
            return next(point[name] for point in reversed(points) if point["series"] == series and point["x"] in places)

        told = {int(point["x"]): point["invalidations"] for point in results["curves"]["proxies"]["points"]}
        return cls(
            nginx=at(NGINX, "cpu_us"),
            near=at(stored.ACTIVE, "cpu_us"),
            get=at(stored.GET, "cpu_us"),
            update=at(stored.UPDATE, "cpu_us"),
            redis_get=at(stored.GET, "redis_us"),
            redis_get_alone=figures["get_alone_us"],
            redis_update=at(stored.UPDATE, "redis_us"),
            session_bytes=figures["session_bytes"],
            record_bytes=figures["record_bytes"],
            redis_bytes=figures["redis_bytes"],
            tracking_bytes=figures["tracking_bytes"],
            to_backend=figures["to_backend_bytes"],
            to_visitor=figures["to_visitor_bytes"],
            invalidations={proxies: max(count, 0) for proxies, count in told.items() if count is not None},
        )


@dataclasses.dataclass
class Load:
    """Requests of which so many find their session near, and so many change it."""

    hits: float
    writes: float

    def proxy_us(self, costs: Costs) -> float:
        read = self.hits * costs.near + (1 - self.hits) * costs.get
        return read + self.writes * (costs.update - costs.get)

    def redis_us(self, costs: Costs) -> float:
        """A read costs what it costs alone: a fleet's connections have too little each to be read together. A write costs
        messages besides, each as dear as a read among others."""
        write = costs.redis_update - costs.redis_get + max(costs.invalidations.values()) * costs.redis_get
        return (1 - self.hits) * costs.redis_get_alone + self.writes * write

    def redis_bytes(self, costs: Costs) -> float:
        """Both ways; a question has the key's name, a write the record too."""
        read, write = costs.record_bytes + 120, costs.record_bytes + 300
        return (1 - self.hits) * read + self.writes * write

    def cores(self, costs: Costs) -> int:
        return math.ceil(REQUESTS * self.proxy_us(costs) / 1e6 / PROXY_LOAD)

    def proxies(self, costs: Costs) -> int:
        return math.ceil(self.cores(costs) / WORKERS)

    def masters(self, costs: Costs) -> int:
        return math.ceil(REQUESTS * self.redis_us(costs) / 1e6 / REDIS_LOAD)


LOADS = [Load(0, 0.01), Load(0.9, 0.01), Load(0.99, 0.01), Load(0, 0.1), Load(0.9, 0.1)]


def cost_table(costs: Costs) -> str:
    rows = [
        ["proxy: nginx `proxy_pass`, for comparison", f"{costs.nginx:.0f} µs"],
        ["proxy: a request whose session is near", f"{costs.near:.0f} µs"],
        ["proxy: a request that asks Redis", f"{costs.get:.0f} µs"],
        ["proxy: a request that asks Redis and whose answer changes the session", f"{costs.update:.0f} µs"],
        ["Redis: a `GET` among others in one read", f"{costs.redis_get:.1f} µs"],
        ["Redis: a `GET` that comes alone, without pipelining", f"{costs.redis_get_alone:.1f} µs"],
        ["Redis: a write (one script)", f"{costs.redis_update - costs.redis_get:.1f} µs"],
        [f"Redis: memory for a session of {costs.session_bytes:.0f} bytes, all included", f"{costs.redis_bytes:.0f} bytes"],
        ["Redis: memory to remember one reader of one session", f"{costs.tracking_bytes:.0f} bytes"],
        ["proxy: memory for it in the near cache", f"{NEAR_OVERHEAD + costs.session_bytes:.0f} bytes"],
        ["to the backend, head of a request", f"{costs.to_backend:.0f} bytes"],
        ["to the visitor, an answer of 100 bytes with its head", f"{costs.to_visitor:.0f} bytes"],
    ]
    return table([("measured", False), ("", True)], rows)


def load_table(costs: Costs) -> str:
    columns = ["hits", "writes", "cores of proxies", f"proxies of {WORKERS} workers", "Redis commands/s", "masters by CPU"]
    columns.append("GB/s to and from Redis")
    rows = []
    for load in LOADS:
        commands = REQUESTS * (1 - load.hits + load.writes)
        cells = [f"{load.hits:.0%}", f"{load.writes:.0%}", str(load.cores(costs)), str(load.proxies(costs)), f"{commands:,.0f}"]
        rows.append([*cells, str(load.masters(costs)), f"{REQUESTS * load.redis_bytes(costs) / 1e9:.2f}"])
    return table([(name, True) for name in columns], rows)


def memory_table(costs: Costs) -> str:
    """For the dearest load, which is what the connections have to be enough for."""
    records = SESSIONS * costs.redis_bytes
    awake = REQUESTS * PAUSE
    worst = LOADS[0]
    by_memory = max(3, math.ceil(records / MASTER_BYTES))
    masters, proxies = max(by_memory, worst.masters(costs)), worst.proxies(costs)
    near = awake * (NEAR_OVERHEAD + costs.session_bytes)
    passing = costs.to_backend + 2 * costs.to_visitor
    rows = [
        ["records of 100 M sessions", f"{gib(records)}: {by_memory} masters by memory"],
        ["the same with replicas, and room for a fork", f"{by_memory * 2} machines of {gib(2 * MASTER_BYTES)}"],
        [f"sessions awake, one request in {PAUSE} s each", f"{awake / 1e6:.0f} M"],
        ["their near caches, each session at one proxy", f"{gib(near)} in all, {near / proxies / 2**20:,.0f} MiB a proxy"],
        ["tracking tables for them", f"{awake / masters / 1e6:.1f} M keys a master, {gib(awake * costs.tracking_bytes)} in all"],
        ["connections to Redis, a master", f"{proxies * WORKERS:,}"],
        ["connections to Redis, a proxy", f"{WORKERS * masters:,}"],
        ["requests a proxy", f"{REQUESTS / proxies:,.0f}/s"],
        ["bytes through a proxy, without pages", f"{8 * REQUESTS / proxies * passing / 1e9:.2f} Gbit/s"],
    ]
    return table([(f"with {proxies} proxies and {masters} masters", False), ("", False)], rows)


def gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB".replace(".0 ", " ")


def hit_table() -> str:
    """Of a visitor whose requests come at random, at a proxy that gets a share of them."""
    columns = [("requests of a visitor that reach one proxy", False), ("`max_age` 30 s", True), ("5 min", True), ("30 min", True)]
    rows = []
    for name, rate in (("1 a second", 1), ("1 in 10 s", 0.1), ("1 in 100 s", 0.01), ("1 in 1,000 s", 0.001)):
        rows.append([name, *(f"{rate * age / (1 + rate * age):.0%}" for age in (MAX_AGE, 300, 1800))])
    return table(columns, rows)


def write(results: pathlib.Path = RESULTS, document: pathlib.Path = DOCUMENT) -> None:
    """Puts the tables in their places, which are marked."""
    measured = json.loads((results / "scale.json").read_text())
    costs = Costs.read(measured)
    text = document.read_text()
    source = f"From [scale.md](../benches/results/scale.md), {measured['machine']['date'][:10]}, {measured['machine']['cpu']}."
    if report.trial(measured):
        source = f"{source} {report.TRIAL}"
    tables = {
        "cost": f"{source}\n\n{cost_table(costs)}",
        "load": load_table(costs),
        "memory": memory_table(costs),
        "hits": hit_table(),
    }
    for name, content in tables.items():
        block = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
        if len(block.findall(text)) != 1:
            raise Fault(f"{document} has no place for the table {name}")
        text = block.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
    document.write_text(text)
