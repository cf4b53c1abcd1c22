"""Debian packages of the peers that are missing. Only when asked to."""

import os
import pathlib
import subprocess

from harness.processes import Fault, find, say

from .case import there

# Debian starts what it installs unless this file says no. One that is there already has its reasons, and stays.
POLICY = pathlib.Path("/usr/sbin/policy-rc.d")
# Nor shall these start with the machine.
SERVICES = {"apache2", "haproxy", "nginx", "redis-server"}


def install(*needs: dict[str, str]) -> None:
    missing = {package for some in needs for what, package in some.items() if not there(what)}
    if not missing:
        return
    if not find("apt-get"):
        raise Fault(f"no apt-get to install {', '.join(sorted(missing))}")
    say(f"installing {', '.join(sorted(missing))}")
    ours = not POLICY.exists()
    if ours:
        as_root("install", "-m", "755", "/dev/stdin", str(POLICY), text="#!/bin/sh\nexit 101\n")
    try:
        as_root("apt-get", "update", "-qq")
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends"]
        as_root(*apt, *sorted(missing))
        if pathlib.Path("/run/systemd/system").exists():
            for service in sorted(SERVICES & missing):
                as_root("systemctl", "disable", service)
    finally:
        if ours:
            as_root("rm", "-f", str(POLICY))


def as_root(*command: str, text: str = "") -> None:
    words = command if os.geteuid() == 0 else ("sudo", *command)
    if subprocess.run(words, input=text, text=True, check=False).returncode:
        raise Fault(f"{' '.join(words)} failed")
