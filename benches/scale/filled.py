"""Sessions in Redis, brought there as an operator would: by `cloakroom sessions import`; and proxies that have them."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterable

from harness.cloakroom import NEAR_CACHE, configuration, route, start_cloakroom
from harness.client import field
from harness.processes import Fault, free_port, run
from harness.redis import Redis
from harness.sessions import invented, seen, session, session_id

from .ground import Site
from .load import Proxy

DAY = 86_400_000
# Everything shares two cores at full load: a stall is to be seen in the times, not as a 503.
PATIENCE = 'timeout = "5s"\n'
# By default what was read half a minute ago is read again. Points are measured in turn, which takes longer.
NEAR_LINES = 'max_age = "1h"\n'


def fill(site: Site, redis: Redis, count: int, data: Callable[[int], str] = session) -> None:
    """Sessions 0 to count, whose ids are those of `invented`. Several at once, for one waits for Redis most of the time."""
    folder = site.place.folder(f"import-{redis.port}")
    config = folder / "config.toml"
    config.write_text(configuration(1, 1, f'engine = "redis"\nurl = "{redis.url(0)}"', route(True) + large(1 << 20)))
    parts = max(1, min(4, count // 10_000))

    def part(index: int) -> None:
        file = folder / f"{index}.jsonl"
        export(file, range(index * count // parts, (index + 1) * count // parts), data)
        told = run(site.binary, "sessions", "--config", config, "import", file, limit=300)
        file.unlink()
        if str(len(range(index * count // parts, (index + 1) * count // parts))) not in told:
            raise Fault(f"an import went wrong: {told}")

    with concurrent.futures.ThreadPoolExecutor(parts) as pool:
        list(pool.map(part, range(parts)))


def export(file: pathlib.Path, numbers: range, data: Callable[[int], str]) -> None:
    now = int(time.time() * 1000)
    head = json.dumps({"v": 1, "created": now, "saved": now})
    with open(file, "w") as lines:
        lines.write('{"cloakroom_sessions":1,"keys_are_ids":false}\n')
        for number in numbers:
            key = hashlib.sha256(session_id(number).encode()).hexdigest()
            lines.write(f'{{"key":"{key}","expires_at":{now + DAY},"session":{head},"data":{data(number)}}}\n')
        lines.write(f'{{"sessions":{len(numbers)}}}\n')


def large(limit: int) -> str:
    """Tables that let sessions be so large in the store and in a request's head."""
    return f'[headers]\nmax_header_bytes = {limit}\n[session]\nmax_bytes = {limit}\n'


def start_proxy(
    site: Site, name: str, redis: Redis, near: bool, more: str = "", near_lines: str = NEAR_LINES, workers: int = 1
) -> Proxy:
    """`more` are whole tables."""
    lines = NEAR_CACHE.format(enabled=str(near).lower()) + (near_lines if near else "")
    admin = free_port()
    store = f'engine = "redis"\nurl = "{redis.url(0)}"\n{PATIENCE}{lines}'
    routes = f'{route(True)}[admin]\nlisten = "127.0.0.1:{admin}"\n{more}'
    server = start_cloakroom(site.place, name, site.binary, site.backend, store, routes, workers=workers)
    return Proxy(server, admin if near else None)


def check(port: int, numbers: Iterable[int], data: Callable[[int], str] = session) -> None:
    """The backend must see these sessions, whole."""
    numbers = list(numbers)
    cookies = (f"sessionid={session_id(number)}" for number in numbers)
    for number, head in zip(numbers, seen(port, cookies), strict=True):
        if field(head, "X-Session-Data") != data(number):
            raise Fault(f"instead of session {number} the backend saw:\n{head[:2000]}")


def cookies(site: Site, count: int) -> pathlib.Path:
    """A file with the Cookie header of each session."""
    file = site.place.directory / f"cookies-{count}"
    if not file.exists():
        file.write_text("".join(f"{cookie}\n" for cookie in invented(count)))
    return file


def padded(size: int) -> Callable[[int], str]:
    """Sessions of exactly so many bytes, if the ordinary one is not larger."""

    def data(number: int) -> str:
        plain = session(number)
        room = size - len(plain) - len(',"pad":""')
        return plain if room < 0 else f'{plain[:-1]},"pad":"{"x" * room}"}}'

    return data


def free(*pids: int) -> None:
    """Lets processes run on every core that this one may use."""
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), ALL_CORES)


ALL_CORES = os.sched_getaffinity(0)
