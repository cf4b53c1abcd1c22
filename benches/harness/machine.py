"""What the figures were taken on."""

import datetime
import os
import pathlib
import platform
import re
import subprocess

from . import ROOT
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
    if done.returncode or not done.stdout.strip():
        return "unknown"
    line = done.stdout.strip().splitlines()[0]
    return re.sub(r"^\w+ version: ", "", line)


def versions() -> dict[str, str]:
    """Of what every benchmark has."""
    return {
        "cloakroom": first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "rustc": first_line("rustc", "--version"),
        "nginx": first_line("nginx", "-v"),
        "wrk": first_line("wrk", "-v").split(" [")[0],
        "redis": first_line("redis-server", "--version").split(" sha=")[0],
    }


def sentence(machine: dict, versions: dict[str, str]) -> str:
    """One line for below a table."""
    programs = ", ".join(text if name in text.lower() else f"{name} {text}" for name, text in versions.items())
    return (
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, load {machine['load_before']:.1f} at the start; {programs}."
    )
