"""Starts every case, checks it, and takes its figures in turn with all others."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator

from harness.idle import idle_kib
from harness.load import Latency, Round, fixed_rate, full_load
from harness.processes import Fault, say
from harness.sessions import check_forwarding, check_parsed, check_sessions
from harness.syscalls import counting

from .case import Case, Ground, Missing, Peer


@dataclasses.dataclass
class Plan:
    """How much is measured."""

    rounds: int
    seconds: int
    sessions: int
    warm_seconds: int = 0
    idle_connections: int = 0
    idle_steady_seconds: float = 0
    rate_rounds: int = 0
    rate_seconds: float = 0
    syscalls: bool = False


@dataclasses.dataclass
class Running:
    case: Case
    peer: Peer
    cookies: pathlib.Path
    rounds: list[Round] = dataclasses.field(default_factory=list)
    latencies: list[Latency] = dataclasses.field(default_factory=list)
    idle_kib: float | None = None
    syscalls: float | None = None


class Measurement:
    def __init__(self, ground: Ground, plan: Plan) -> None:
        self.ground = ground
        self.plan = plan
        self.running: list[Running] = []
        # By title, what is missing or went wrong.
        self.missing: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    def take(self, cases: list[Case]) -> None:
        """All figures of all cases."""
        for case in cases:
            self.start(case)
        # Before any load: what a process has freed and uses again would not show.
        self.every("idle connections", self.take_idle)
        if self.plan.warm_seconds:
            self.every("warming up", lambda one: self.load(one, self.plan.warm_seconds))
        for number in range(1, self.plan.rounds + 1):
            self.every(f"round {number} of {self.plan.rounds}", self.take_round)
        for number in range(1, self.plan.rate_rounds + 1):
            self.every(f"fixed rate, round {number} of {self.plan.rate_rounds}", self.take_latency)
        if self.plan.syscalls:
            self.every("system calls", self.take_syscalls)

    def take_idle(self, one: Running) -> None:
        count, steady = self.plan.idle_connections, self.plan.idle_steady_seconds
        one.idle_kib = idle_kib(one.peer.server, count, one.peer.cookies[0], steady)

    def take_round(self, one: Running) -> None:
        one.rounds.append(self.load(one, self.plan.seconds))

    def take_latency(self, one: Running) -> None:
        case = one.case
        self.heat(one)
        one.latencies.append(fixed_rate(one.peer.server, case.path, one.cookies, case.rate, self.plan.rate_seconds))

    def take_syscalls(self, one: Running) -> None:
        round, calls = counting(one.peer.server, lambda: self.load(one, 2))
        one.syscalls = calls / round.requests

    def start(self, case: Case) -> None:
        lacking = set(case.lacks().values())
        if lacking:
            self.miss(case, f"Debian package {', '.join(sorted(lacking))} (--install)")
            return
        with self.guarded(case):
            say(f"{case.key}: starting, {self.ground.sessions} sessions")
            peer = case.start(self.ground, case.key)
            cookies = self.ground.place.directory / f"{case.key}.cookies"
            cookies.write_text("".join(f"{cookie}\n" for cookie in peer.cookies))
            check_sessions(peer.server.port, peer.cookies, case.header)
            if case.parsed:
                check_parsed(peer.server.port, peer.cookies[0])
            if case.forwards:
                check_forwarding(peer.server.port, peer.cookies[0])
            self.running.append(Running(case, peer, cookies))

    def every(self, what: str, action: Callable[[Running], object]) -> None:
        """Does something with every case that still runs, in turn. A fault ends that case alone."""
        for one in list(self.running):
            say(f"{one.case.key}: {what}")
            with self.guarded(one.case):
                action(one)

    def load(self, one: Running, seconds: int) -> Round:
        self.heat(one)
        round = full_load(one.peer.server, one.case.path, one.cookies, seconds, self.ground.redis)
        asked = round.commands.get("get", 0)
        # Some more are under way when the load ends.
        if abs(asked - one.case.gets) > 0.3:
            raise Fault(f"it asked Redis {asked:.2f} times a request instead of {one.case.gets} times")
        return round

    def heat(self, one: Running) -> None:
        if one.case.hot:
            check_sessions(one.peer.server.port, one.peer.cookies, one.case.header)

    @contextlib.contextmanager
    def guarded(self, case: Case) -> Iterator[None]:
        try:
            yield
        except Missing as missing:
            self.miss(case, missing.what)
        except (Fault, OSError) as fault:
            self.fail(case, str(fault))

    def require_all(self) -> None:
        """For those to whom a part of the cases says nothing."""
        lacking = self.missing | self.failed
        if lacking:
            raise Fault("; ".join(f"{title}: {why}" for title, why in lacking.items()))

    def miss(self, case: Case, what: str) -> None:
        say(f"{case.key}: MISSING: {what}")
        self.missing[case.title] = what

    def fail(self, case: Case, why: str) -> None:
        say(f"{case.key}: FAILED: {why}")
        self.failed[case.title] = why.splitlines()[0]
        self.running = [one for one in self.running if one.case is not case]
