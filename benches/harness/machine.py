"""What the figures were taken on."""

import datetime
import os
import pathlib
import platform
import re
import resource
import subprocess

from . import ROOT
from .accounts import TICK
from .processes import find


def machine() -> dict:
    models = re.findall(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def first_line(*command: str) -> str:
    program = find(command[0])
    if not program:
        return "not installed"
    done = subprocess.run([program, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    line = done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"
    return re.sub(r"^\w+ version: ", "", line)


def revision() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.strip() or "not from a repository"


def versions() -> dict[str, str]:
    """Of what every benchmark has."""
    return {
        "cloakroom": revision(),
        "rustc": first_line("rustc", "--version"),
        "nginx": first_line("nginx", "-v"),
        "wrk": first_line("wrk", "-v").split(" [")[0],
        "redis": first_line("redis-server", "--version").split(" sha=")[0],
    }


class Bystanders:
    """How much of this machine's CPU time goes to programs that are neither this one nor its children that have ended."""

    def __init__(self) -> None:
        self.before = self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        """Seconds of all cores: all there were, and those of others."""
        line = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0]
        user, nice, system, idle, iowait, irq, softirq, steal = (int(field) / TICK for field in line.split()[1:9])
        usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        return user + nice + system + idle + iowait + irq + softirq + steal, user + nice + system + steal - own

    def share(self) -> float:
        """Since this was made."""
        (total, others), (all_before, others_before) = self.now(), self.before
        return max(0.0, others - others_before) / (total - all_before)


def sentence(machine: dict, versions: dict[str, str]) -> str:
    """One line for below a table."""
    programs = ", ".join(text if name in text.lower() else f"{name} {text}" for name, text in versions.items())
    return (
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, load {machine['load_before']:.1f} at the start; {programs}."
    )
