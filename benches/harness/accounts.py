"""What a running server has used, by /proc."""

import dataclasses
import os
import pathlib
import re
import time

TICK = os.sysconf("SC_CLK_TCK")
# As long as this without a change is steady.
STEADY_SECONDS = 3.0
STEADY_LIMIT = 60.0


@dataclasses.dataclass
class Server:
    pid: int
    port: int

    def pids(self) -> list[int]:
        """The process and all its descendants."""
        waiting, found = [self.pid], []
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """Of all threads and descendants, those that ended included, in user mode and in the kernel."""
        ticks = 0
        for pid in self.pids():
            # The name of the program, in parentheses, may have spaces.
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / TICK

    def resident_kib(self) -> int:
        """Pages that processes share are counted in each: only differences mean something."""
        status = "".join(pathlib.Path(f"/proc/{pid}/status").read_text() for pid in self.pids())
        return sum(map(int, re.findall(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)))

    def steady_kib(self, seconds: float = STEADY_SECONDS) -> int:
        """Resident memory once it has not moved for so long. What never rests is taken as it is after a minute."""
        last, since = self.resident_kib(), time.monotonic()
        deadline = since + STEADY_LIMIT
        while time.monotonic() < min(since + seconds, deadline):
            time.sleep(0.1)
            now = self.resident_kib()
            if now != last:
                last, since = now, time.monotonic()
        return last
