"""How many system calls a server makes, by strace. A server that is watched is slow: its times mean nothing."""

import pathlib
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

from .accounts import Server
from .processes import Fault, find

T = TypeVar("T")


def counting(server: Server, action: Callable[[], T]) -> tuple[T, int]:
    """What the action returns, and how many system calls the server made meanwhile."""
    program = find("strace")
    if not program:
        raise Fault("not installed: strace (Debian package strace)")
    with tempfile.NamedTemporaryFile("r") as output:
        pids = [word for pid in server.pids() for word in ("-p", str(pid))]
        process = subprocess.Popen([program, "-f", "-c", "-o", output.name, *pids], stderr=subprocess.DEVNULL)
        try:
            wait_until_traced(server, process)
            result = action()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)
        total = re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+).*total$", output.read(), re.MULTILINE)
        if not total:
            raise Fault("strace counted nothing")
        return result, int(total[1])


def wait_until_traced(server: Server, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 10
    while not all(traced(task) for pid in server.pids() for task in pathlib.Path(f"/proc/{pid}/task").iterdir()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Fault("strace may not watch it")
        time.sleep(0.05)


def traced(task: pathlib.Path) -> bool:
    return "TracerPid:\t0\n" not in (task / "status").read_text()
