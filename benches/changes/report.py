"""Before and after, as Markdown."""

import statistics

from harness.machine import sentence
from harness.tables import table

COLUMNS = [
    ("change", False),
    ("commits", False),
    ("case", False),
    ("before", True),
    ("after", True),
    ("difference", True),
    ("least and most in one round", False),
]

# Of earlier runs of benches/compare/run --against.
NOT_KEPT = """\
* **The connection to the backend driven by the request's own task** instead of by one of its own. Nothing waits for another
  task's turn then: p50 at 5,000 requests a second fell by 2 to 5 %. At full load a request cost 7 % more CPU time, with 1 %
  fewer instructions, because the code of each step comes by turns then, not many times in a row. Doing so only while a worker
  has little to do cost 2 % and kept half of what was gained, for a hundred lines about who is to be woken.
* **Large pages** (`MIMALLOC_ALLOW_LARGE_OS_PAGES=1`): no difference that could be told from chance."""


def markdown(results: dict) -> str:
    rounds = len(results["changes"][0]["before_us"])
    parts = [
        "# What each change saved",
        "CPU time of the proxy's own process a request, as in [compare.md](compare.md): `before` and `after` are ratios to "
        "nginx's plain `proxy_pass`, the difference is between the two builds themselves. All builds in turn in one run, "
        f"{rounds} rounds, every other one in the opposite order, medians; each pair is compared within a round first. A difference "
        "whose least and most have not the same sign is not told from chance; and chance alone gives them the same sign in one of "
        f"{2 ** (rounds - 1)} rows. What a profile saves (`scripts/build-pgo`) stands in compare.md.",
        table(COLUMNS, [row for one in results["changes"] for row in rows(one)]),
        "## Tried, and not kept\n\n" + NOT_KEPT,
        f"## Machine\n\n{sentence(results['machine'], results['versions'])} "
        f"Other programs took {results['machine']['others']:.0%} of its CPU time meanwhile.",
    ]
    return "\n\n".join(parts) + "\n"


def rows(one: dict) -> list[list[str]]:
    changes = [after / before - 1 for before, after in zip(one["before_us"], one["after_us"], strict=True)]
    about = [one["what"], f"{one['before']} → {one['after']}"]
    ratios = [f"{to_nginx(one, name):.2f}" for name in ("before_us", "after_us")]
    found = [[*about, one["case"], *ratios, f"{statistics.median(changes):+.1%}", f"{min(changes):+.1%} … {max(changes):+.1%}"]]
    if "before_idle_kib" in one:
        before, after = one["before_idle_kib"], one["after_idle_kib"]
        found.append([*about, "KiB an idle connection", f"{before:.1f}", f"{after:.1f}", f"{after / before - 1:+.1%}", ""])
    return found


def to_nginx(one: dict, name: str) -> float:
    return statistics.median(cost / nginx for cost, nginx in zip(one[name], one["nginx_us"], strict=True))
