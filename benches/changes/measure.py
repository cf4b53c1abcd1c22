"""Takes the figures of all builds in turn."""

import dataclasses

from compare import ours, peers
from compare.case import Ground
from compare.measure import Measurement, Plan, Running
from harness.processes import Workplace
from harness.redis import Redis
from harness.sessions import start_backend

from .builds import Build
from .changes import Change

SESSIONS = 10_000
IDLE_CONNECTIONS = 1000


def measure(place: Workplace, changes: list[Change], rounds: int, seconds: int) -> list[dict]:
    ground = Ground(place, Redis(place), start_backend(place).port, SESSIONS)
    plan = Plan(rounds, seconds, SESSIONS, idle_connections=IDLE_CONNECTIONS, idle_steady_seconds=3)
    measurement = Measurement(ground, plan)
    measurement.start(peers.NGINX)
    for build, keys in wanted(changes).items():
        for case in ours.cases(build.binary, build.name):
            if case.key in keys:
                measurement.start(dataclasses.replace(case, key=name(build, case.key)))
    measurement.require_all()
    weighed = {name(build, "plain") for change in changes if change.idle for build in (change.before, change.after)}
    measurement.every("idle connections", lambda one: measurement.take_idle(one) if one.case.key in weighed else None)
    measurement.every("warming up", lambda one: measurement.load(one, 1))
    measurement.require_all()
    for number in range(1, rounds + 1):
        measurement.every(f"round {number} of {rounds}", measurement.take_round)
        # So that nothing is always measured before what it is compared with.
        measurement.running.reverse()
    measurement.require_all()
    running = {one.case.key: one for one in measurement.running}
    return [compared(change, key, running) for change in changes for key in change.cases]


def wanted(changes: list[Change]) -> dict[Build, set[str]]:
    """What is measured of each build, in the order of the changes."""
    found: dict[Build, set[str]] = {}
    for change in changes:
        for build in (change.before, change.after):
            found.setdefault(build, set()).update(change.cases)
    return found


def name(build: Build, key: str) -> str:
    return f"{key}@{build.name}"


def compared(change: Change, key: str, running: dict[str, Running]) -> dict:
    before, after = (running[name(build, key)] for build in (change.before, change.after))
    nginx = running[peers.NGINX.key]
    found = {
        "what": change.what,
        "case": key,
        "before": change.before.name,
        "after": change.after.name,
        "before_us": [round.cpu_us for round in before.rounds],
        "after_us": [round.cpu_us for round in after.rounds],
        "nginx_us": [round.cpu_us for round in nginx.rounds],
    }
    if before.idle_kib is not None and after.idle_kib is not None:
        found |= {"before_idle_kib": before.idle_kib, "after_idle_kib": after.idle_kib}
    return found
