"""What all curves share, and what a curve is made of."""

import contextlib
import dataclasses
import pathlib
import typing
from collections.abc import Callable, Iterator

from harness.processes import Workplace, say
from harness.redis import Redis

from .load import Sample

NGINX = "nginx `proxy_pass`"


@dataclasses.dataclass
class Plan:
    rounds: int
    seconds: int
    # The largest points are left out where only the working of it all is tried.
    sessions: list[int]
    idle: list[int]
    active: int


@dataclasses.dataclass
class Site:
    """Where proxies run."""

    place: Workplace
    binary: pathlib.Path
    backend: int

    @contextlib.contextmanager
    def within(self, name: str) -> Iterator[typing.Self]:
        """A place of its own, whose programs end with it."""
        with contextlib.ExitStack() as running:
            yield dataclasses.replace(self, place=Workplace(self.place.folder(name), running))

    def redis(self) -> Redis:
        return Redis(self.place)


@dataclasses.dataclass
class Ground(Site):
    plan: Plan


@dataclasses.dataclass
class Case:
    """One point of one series."""

    series: str
    x: float
    take: Callable[[int], Sample]
    samples: list[Sample] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Curve:
    key: str
    title: str
    x_name: str
    # Starts everything; each case must be warm when it returns. The second value are figures of other kinds.
    start: Callable[[Ground], tuple[list[Case], dict]]
    # What these figures can and cannot show.
    note: str
    log_x: bool = False

    def measure(self, ground: Ground) -> tuple[list[Case], dict]:
        """All points in turn, round after round."""
        with ground.within(self.key) as mine:
            say(f"{self.key}: starting")
            cases, more = self.start(mine)
            for number in range(1, ground.plan.rounds + 1):
                say(f"{self.key}: round {number} of {ground.plan.rounds}")
                for case in cases:
                    case.samples.append(case.take(ground.plan.seconds))
            return cases, more
