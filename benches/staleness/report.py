"""Distributions as JSON, Markdown and a chart."""

import dataclasses
import math

from harness.charts import Bar, bars
from harness.machine import sentence
from harness.tables import table

from .measure import CONNECTIONS, EVERY, Background, Trials

TARGET_MS = 5
MAX_AGE_MS = 30_000
ENOUGH = 1000
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def results(measured: list[Trials], background: Background, machine: dict, versions: dict[str, str]) -> dict:
    return {
        "machine": machine,
        "versions": versions,
        "background": dataclasses.asdict(background),
        "cases": [summary(one) for one in measured],
    }


def summary(one: Trials) -> dict:
    delays = sorted(one.delays)
    return {
        "kind": one.kind,
        "load": one.load,
        "trials": len(delays),
        "none": sum(delay == 0 for delay in delays) / len(delays),
        "early": one.early / len(delays),
        "ms": {name: percentile(delays, share) / 1e6 for name, share in SHARES.items()},
        "gap_ms": {name: percentile(sorted(one.gaps), share) / 1e6 for name, share in SHARES.items()},
        "faults": one.regressions + one.revived,
        "delays_us": [round(delay / 1000) for delay in delays if delay],
    }


def percentile(values: list[int], share: float) -> int:
    return values[max(math.ceil(share * len(values)), 1) - 1]


def markdown(results: dict) -> str:
    background, worst = results["background"], max(one["ms"]["p99"] for one in results["cases"])
    longest = max(one["ms"]["max"] for one in results["cases"])
    columns = [("change", False), ("", False), ("trials", True), ("no old answer", True)]
    columns += [(f"{name} ms", True) for name in SHARES] + [("gap p50 ms", True), ("gap p99 ms", True), ("old after new", True)]
    rows = []
    for one in results["cases"]:
        cells = [one["kind"], one["load"], f"{one['trials']:,}", f"{one['none']:.1%}"]
        cells += [f"{one['ms'][name]:.2f}" for name in SHARES]
        rows.append([*cells, f"{one['gap_ms']['p50']:.2f}", f"{one['gap_ms']['p99']:.2f}", str(one["faults"])])
    text = "\n\n".join(
        [
            "# How long another proxy shows a session as it was",
            "Two proxies with near caches on one Redis. A session that the second has in its memory is changed, ended or given a "
            "new key through the first. From the moment that answer has arrived: how long until the **start** of the last request "
            "to the second proxy that was still answered with the old session (0 if there is none).",
            f"* The second is asked once every {EVERY} µs on {CONNECTIONS} connections in turn; **gap** is what lay between two "
            "such requests in fact, after the change. Nothing shorter can be told.\n"
            "* **no old answer**: trials in which the old session was not seen again at all.\n"
            "* **old after new**: answers with the old session to requests that began after a right answer had arrived, and "
            "sessions that were back when all were asked for again at the end. One is a fault, and the command fails.\n"
            f"* **under load**: {background['rate']:,.0f} other requests a second arrive at both together, a tenth of them writes; "
            f"that is half of the {background['capacity']:,.0f} that they serve on this machine.\n"
            "* `session.cycle_grace` is 0 here. By default the old key of a cycled session answers reads for ten seconds, on "
            "purpose.",
            "![Delays](staleness.svg)",
            table(columns, rows),
            f"Target: p99 below {TARGET_MS} ms: {verdict(worst < TARGET_MS)} (the largest is {worst:.2f} ms). Never above "
            f"`max_age` ({MAX_AGE_MS / 1000:.0f} s): {verdict(longest <= MAX_AGE_MS)} (the longest is {longest:.2f} ms).",
            f"## Machine\n\n{sentence(results['machine'], results['versions'])} Other programs took "
            f"{results['machine']['others']:.0%} of its CPU time meanwhile.",
        ]
    )
    if min(one["trials"] for one in results["cases"]) < ENOUGH:
        text += f"\n\n**A short trial: fewer than {ENOUGH:,} of a kind have no p99 worth the name.**"
    return text + "\n"


def verdict(met: bool) -> str:
    return "met" if met else "**not met**"


def chart(results: dict) -> str:
    groups = []
    for one in results["cases"]:
        found = [Bar(name, one["ms"][name], "ours" if name == "p99" else "peer", "ms") for name in SHARES]
        groups.append((f"{one['kind']}, {one['load']}, {one['trials']:,} trials", found))
    subtitle = "From the answer at one proxy to the last request at another that got the old session. Dashed: the target for p99."
    return bars("How long another proxy shows a session as it was", subtitle, groups, limit=1.5 * TARGET_MS, mark=TARGET_MS)
