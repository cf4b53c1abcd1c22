"""Programs, where they live and how they end."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from .accounts import Server

PROXY_CORE = 0
OTHER_CORE = 1


class Fault(Exception):
    """What makes figures impossible or worthless."""


class Workplace:
    """A temporary folder, and the programs that run there until it goes."""

    def __init__(self, directory: pathlib.Path, running: contextlib.ExitStack) -> None:
        self.directory = directory
        self.running = running

    def folder(self, name: str) -> pathlib.Path:
        folder = self.directory / name
        folder.mkdir()
        return folder

    def start(self, name: str, command: list, port: int, core: int) -> Server:
        """Starts a program on one core and waits until it listens. It does not outlive this process, however that ends."""
        log = self.directory / f"{name}.log"
        command = ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", core, *command]
        with open(log, "wb") as output:
            process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
            )
        self.running.callback(end, process)
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return Server(process.pid, port)
            if process.poll() is not None or time.monotonic() > deadline:
                raise Fault(f"{name} did not start:\n" + log.read_text(errors="replace")[-2000:])
            time.sleep(0.05)


@contextlib.contextmanager
def workplace(time_limit: int) -> Iterator[Workplace]:
    """Everything in it is ended and deleted on the way out: at the end, on a fault, on an interruption and when time is up."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(time_limit)
    with contextlib.ExitStack() as running:
        directory = running.enter_context(tempfile.TemporaryDirectory(prefix="cloakroom-bench-", ignore_cleanup_errors=True))
        yield Workplace(pathlib.Path(directory), running)
        signal.alarm(0)


def out_of_time(*_: object) -> None:
    raise Fault("out of time (--time-limit)")


def end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        say(f"{process.args} did not end when told to, and was killed")
        process.kill()
        process.wait()


def run(*command: object, limit: float, cwd: pathlib.Path | None = None) -> str:
    """What a program printed. It must succeed, in time."""
    words = list(map(str, command))
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit, check=False, cwd=cwd)
    except subprocess.TimeoutExpired as slow:
        raise Fault(f"{words[0]} did not end in {limit:.0f} seconds") from slow
    if done.returncode:
        raise Fault(f"{pathlib.Path(words[0]).name} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def put(program: pathlib.Path, place: pathlib.Path) -> None:
    """Copies it there whole or not at all, also if what was there runs."""
    new = place.with_name(place.name + ".new")
    shutil.copy2(program, new)
    new.replace(place)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def open_files(wanted: int) -> int:
    """Raises the number of files this process and its children may open as far as it goes; what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def require(programs: dict[str, str]) -> None:
    """Programs, each with its Debian package, and two cores."""
    missing = [f"{name} (Debian package {package})" for name, package in programs.items() if not find(name)]
    if missing:
        raise Fault("not installed: " + ", ".join(missing))
    if not {PROXY_CORE, OTHER_CORE} <= os.sched_getaffinity(0):
        raise Fault("cores 0 and 1 are needed: one for the proxy, one for everything else")


def find(program: str) -> str | None:
    """Where a program is; Debian keeps servers where only root looks."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
