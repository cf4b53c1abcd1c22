"""Figures of a measurement as JSON, Markdown and a chart."""

import dataclasses
import statistics

from harness.charts import Bar, bars
from harness.load import CONNECTIONS, Round, spread
from harness.machine import sentence
from harness.tables import table

from .case import RATE
from .measure import Measurement, Running
from .ours import OTHER

GROUPS = {
    "forward": "Forwarding alone",
    "session": "A session on every request",
    "update": "A session changed by every response",
}

# A ratio; what is beyond is cut.
LONGEST_BAR = 8.0


def results(measurement: Measurement, machine: dict, versions: dict[str, str]) -> dict:
    done = [one for one in measurement.running if one.rounds]
    baseline = done[0]
    return {
        "machine": machine,
        "versions": versions,
        "plan": dataclasses.asdict(measurement.plan),
        "cases": [summary(one, baseline) for one in done],
        "missing": measurement.missing,
        "failed": measurement.failed,
    }


def summary(one: Running, baseline: Running) -> dict:
    """Medians over the rounds; ratios are taken within each round first."""
    costs = [round.cpu_us for round in one.rounds]
    case = one.case
    return {
        "key": case.key,
        "title": case.title,
        "group": case.group,
        "ours": case.ours,
        "cpu_us": statistics.median(costs),
        "spread": spread(costs),
        "ratio": statistics.median(cost / round.cpu_us for cost, round in zip(costs, baseline.rounds, strict=True)),
        "requests_per_second": statistics.median(round.requests_per_second for round in one.rounds),
        "commands": commands(one.rounds),
        "idle_kib": one.idle_kib,
        "syscalls": one.syscalls,
        "rate": case.rate,
        "served": statistics.median(latency.served for latency in one.latencies),
        "p50_us": statistics.median(latency.p50_us for latency in one.latencies),
        "p90_us": statistics.median(latency.p90_us for latency in one.latencies),
        "p99_us": statistics.median(latency.p99_us for latency in one.latencies),
        "p50_ratio": statistics.median(
            latency.p50_us / other.p50_us for latency, other in zip(one.latencies, baseline.latencies, strict=True)
        ),
        "rounds": [dataclasses.asdict(round) for round in one.rounds],
        "latencies": [dataclasses.asdict(latency) for latency in one.latencies],
    }


def commands(rounds: list[Round]) -> dict[str, float]:
    """Medians too: what an earlier case still had under way when its load ended is in single rounds only."""
    found = {name: statistics.median(round.commands.get(name, 0) for round in rounds) for name in rounds[0].commands}
    return {name: calls for name, calls in found.items() if calls > 0.01}


def markdown(results: dict) -> str:
    parts = ["# Cloakroom beside its peers", method(results["plan"]), main_table(results)]
    parts += notes(results["cases"])
    for name, text in (("Missing", results["missing"]), ("Failed", results["failed"])):
        if text:
            parts.append(f"**{name}**, so not in the table:\n" + "\n".join(f"* {title}: {why}" for title, why in text.items()))
    goals = goal_table(results)
    if goals:
        parts.append("## Goals\n\n" + goals)
    others = f"Other programs took {results['machine']['others']:.0%} of its CPU time meanwhile."
    parts.append(f"## Machine\n\n{sentence(results['machine'], results['versions'])} {others}")
    return "\n\n".join(parts) + "\n"


def notes(cases: list[dict]) -> list[str]:
    """What the marks in the table mean."""
    found = []
    slower = [case for case in cases if case["rate"] != RATE]
    if slower:
        rates = " and ".join(sorted({f"{case['rate']:,}" for case in slower}))
        found.append(f"¹ at {rates} requests a second, because it cannot serve {RATE:,} on one core: do not compare these times.")
    if any(not kept_up(case) for case in cases):
        found.append("² It could not serve the rate, so requests queued.")
    return found


def kept_up(case: dict) -> bool:
    return case["served"] > 0.9 * case["rate"]


def method(plan: dict) -> str:
    return (
        f"CPU time of the proxy's own process a request, one worker on one core, {CONNECTIONS} kept-alive connections, one of "
        f"{plan['sessions']:,} session cookies at random, 100-byte answers; {plan['rounds']} rounds of {plan['seconds']} s in turn, "
        f"medians, ratios to nginx's plain `proxy_pass` within each round. p50, p90 and p99 at {RATE:,} requests a second with Poisson "
        f"arrivals, counted from when a request was meant to leave. Memory with {plan['idle_connections']:,} idle connections. "
        "How each is taken: [benches/README.md](../README.md)."
    )


def main_table(results: dict) -> str:
    counted = any(case["syscalls"] for case in results["cases"])
    columns = [("case", False), ("to nginx", True), ("CPU µs", True), ("spread", True), ("requests/s", True), ("p50 µs", True)]
    columns += [("p90 µs", True), ("p99 µs", True), ("KiB an idle connection", True), ("store commands", False)]
    columns += [("system calls", True)] if counted else []
    rows = []
    for group, name in GROUPS.items():
        cases = sorted((case for case in results["cases"] if case["group"] == group), key=lambda case: case["cpu_us"])
        if cases:
            rows.append([f"**{name}**", *[""] * (len(columns) - 1)])
            rows += [main_row(case, counted) for case in cases]
    return table(columns, rows)


def main_row(case: dict, counted: bool) -> list[str]:
    note = ("" if case["rate"] == RATE else " ¹") + ("" if kept_up(case) else " ²")
    strong = "**" if case["ours"] else ""
    cells = [f"{strong}{case['title']}{strong}", f"{strong}{case['ratio']:.2f}{strong}", f"{case['cpu_us']:.1f}"]
    cells += [f"{case['spread']:.0%}", f"{case['requests_per_second']:,.0f}"]
    cells += [f"{case[name]:,.0f}{note}" for name in ("p50_us", "p90_us", "p99_us")]
    cells.append(f"{case['idle_kib']:.1f}")
    cells.append(", ".join(f"{calls:.2f} {name}" for name, calls in sorted(case["commands"].items())))
    if counted:
        cells.append(f"{case['syscalls']:.1f}" if case["syscalls"] else "")
    return cells


@dataclasses.dataclass
class Goal:
    what: str
    value: float | None
    limit: float


def goals(results: dict) -> list[Goal]:
    """What this project set out to reach; None where a case is not there."""
    cases = {case["key"]: case for case in results["cases"]}

    def value(key: str, name: str) -> float | None:
        return cases[key][name] if key in cases else None

    def beside_lua(key: str) -> float | None:
        lua = f"lua_{key}"
        return cases[key]["cpu_us"] / cases[lua]["cpu_us"] if {key, lua} <= cases.keys() else None

    idle = max((case["idle_kib"] for key, case in cases.items() if case["ours"] and not key.endswith(OTHER)), default=None)
    return [
        Goal("route without sessions", value("plain", "ratio"), 1.0),
        Goal("session on every request, near cache hot", value("near_cache", "ratio"), 1.0),
        Goal("session on every request, one Redis GET each", value("get", "ratio"), 1.25),
        Goal("the same, to nginx + Lua + GET", beside_lua("get"), 0.5),
        Goal("its keys in seven headers, to nginx + Lua + GET that parses", beside_lua("get_parsed"), 0.5),
        Goal("session changed by every response", value("update", "ratio"), 2.0),
        Goal("`signed_cookies`", value("signed_cookies", "ratio"), 1.4),
        Goal("p50 at a fixed rate, near cache hot", value("near_cache", "p50_ratio"), 1.05),
        Goal("KiB an idle connection, the largest of Cloakroom's cases", idle, 6.0),
    ]


def goal_table(results: dict) -> str:
    """None at all if no case of Cloakroom was measured."""
    found = goals(results)
    if all(goal.value is None for goal in found):
        return ""
    rows = []
    for goal in found:
        met = "not measured" if goal.value is None else "met" if goal.value <= goal.limit else "**not met**"
        rows.append([goal.what, f"{goal.limit:.2f}", "" if goal.value is None else f"{goal.value:.2f}", met])
    return table(
        [("to nginx in the same run, if nothing else is said", False), ("at most", True), ("measured", True), ("", False)], rows
    )


def chart(results: dict) -> str:
    """Bars of CPU time a request; what is far beyond the others is cut."""
    groups = []
    for group, name in GROUPS.items():
        cases = sorted((case for case in results["cases"] if case["group"] == group), key=lambda case: case["cpu_us"])
        if cases:
            groups.append((name, [bar(case) for case in cases]))
    subtitle = (
        "CPU time of the proxy a request, as a multiple of nginx's plain proxy_pass in the same run (dashed). Less is better."
    )
    longest = max(case["ratio"] for case in results["cases"])
    return bars("What a request costs", subtitle, groups, limit=min(longest, LONGEST_BAR), mark=1.0)


def bar(case: dict) -> Bar:
    kind = "ours" if case["ours"] else "base" if case["key"] == "nginx" else "peer"
    return Bar(case["title"].replace("`", ""), case["ratio"], kind, f"({case['cpu_us']:.1f} µs)")
