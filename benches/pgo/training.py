"""What a build is trained with: the measured cases, and mixtures of what a site asks and changes, for a few seconds each.

Not all that Cloakroom can do: requests and answers over HTTP/1.1 with Redis, SQLite, memory and signed cookies. The compiler
takes what is never done for rare.
"""

import pathlib
import random

from compare import ours
from compare.case import Case, Ground
from compare.measure import Measurement, Plan, Running
from harness.load import CONNECTIONS, wrk
from harness.processes import workplace
from harness.redis import Redis
from harness.sessions import OTHER_COOKIE, check_parsed, created, start_backend

SESSIONS = 1000
SECONDS = 3
# Of a hundred visitors, so many have no session.
STRANGERS = 20
# Of a hundred requests, so many are for these paths of the backend's.
PATHS = {"/": 75, "/update": 10, "/large": 5, "/upload": 5, "/cycle": 2, "/create?7": 2, "/flush": 1}
UPLOAD = 8192
LINES = 5000
# What an operator may turn on besides.
HEADERS = f'{ours.EXPOSED}id = true\nid_key = "{ours.KEY}"\nexpires_in = true\n'
# A slow disk is no fault of the build.
STORES = {
    "near_cache": ours.redis(True),
    "get": ours.redis(False),
    "db": lambda ground, name, _: ours.sqlite(ground, name) + '\ntimeout = "30s"',
}


def train(binary: pathlib.Path, time_limit: int) -> None:
    """Puts load on every case of a build. One that answers wrongly is a fault."""
    plan = Plan(rounds=1, seconds=SECONDS, sessions=SESSIONS)
    with workplace(time_limit) as place:
        ground = Ground(place, Redis(place), start_backend(place).port, SESSIONS)
        alike, mixed = Measurement(ground, plan), Measurement(ground, plan)
        for case in ours.cases(binary):
            alike.start(case)
        alike.every("the same request again and again", alike.take_round)
        alike.require_all()
        for key, store in STORES.items():
            start = ours.with_sessions(binary, store, HEADERS, access_log=True)
            mixed.start(Case(f"{key}_mixed", f"{key}, mixed", "session", start, header=ours.DATA))
        mixed.every("all kinds of requests", take_mixture)
        mixed.require_all()


def take_mixture(one: Running) -> None:
    """A second at a time with new sessions, for those that were ended or got another key are gone."""
    port, chance = one.peer.server.port, random.Random(1)
    for _ in range(SECONDS):
        cookies = created(port, SESSIONS)
        check_parsed(port, cookies[0])
        lines = []
        for path in chance.choices(list(PATHS), list(PATHS.values()), k=LINES):
            cookie = OTHER_COOKIE if chance.randrange(100) < STRANGERS else chance.choice(cookies)
            lines.append(f"{path}\tlocalhost\t{cookie}\t{UPLOAD if path == '/upload' else ''}\n")
        one.cookies.write_text("".join(lines))
        wrk(port, "/", one.cookies, 1, CONNECTIONS)
