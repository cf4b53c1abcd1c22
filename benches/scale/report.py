"""Figures of the curves as JSON, Markdown and charts."""

import dataclasses
import statistics

from harness.charts import Curve as Line
from harness.charts import curves
from harness.load import CONNECTIONS, spread
from harness.machine import sentence
from harness.tables import table

from .ground import NGINX, Case, Curve, Plan


Measured = dict[str, tuple[list[Case], dict]]


def results(measured: Measured, failed: dict[str, str], plan: Plan, machine: dict, versions: dict) -> dict:
    return {
        "machine": machine,
        "versions": versions,
        "plan": dataclasses.asdict(plan),
        "curves": {key: curve_results(cases, figures) for key, (cases, figures) in measured.items()},
        "failed": failed,
    }


TRIAL = "**A short trial, to see that everything works. Ratios of one round are rough, and times mean nothing.**"


def trial(results: dict) -> bool:
    return results["plan"]["rounds"] < 3


def curve_results(cases: list[Case], figures: dict) -> dict:
    return {"points": [point(case, yardstick(case, cases)) for case in cases], "figures": figures}


def yardstick(case: Case, cases: list[Case]) -> Case:
    """nginx under the same load, or the only one there is."""
    baselines = [other for other in cases if other.series == NGINX]
    return next((other for other in baselines if other.x == case.x), baselines[0])


def point(case: Case, baseline: Case) -> dict:
    """Medians over the rounds; ratios are taken within each round first."""
    samples = case.samples
    names = ("cpu_us", "requests_per_second", "p50_us", "p99_us", "resident_mib", "hits", "redis_us", "redis_in", "redis_out")
    return {
        "series": case.series,
        "x": case.x,
        "ratio": statistics.median(one.cpu_us / other.cpu_us for one, other in zip(samples, baseline.samples, strict=True)),
        "spread": spread([sample.cpu_us for sample in samples]),
        **{name: median([getattr(sample, name) for sample in samples]) for name in (*names, "invalidations")},
        "commands": samples[-1].commands,
        "rounds": [dataclasses.asdict(sample) for sample in samples],
    }


def median(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def markdown(results: dict, known: list[Curve]) -> str:
    plan = results["plan"]
    parts = [
        "# What a request costs as things grow",
        f"CPU time of the proxy's own process a request, one worker on one core unless it says otherwise, {CONNECTIONS} "
        f"kept-alive connections at full load, 100-byte answers; {plan['rounds']} rounds of {plan['seconds']} s, all points of "
        "a curve in turn, medians; **to nginx** is the ratio to nginx's plain `proxy_pass` within each round, under the same "
        "load where there is one. Absolute times and throughput are this machine's, on which everything shares two cores. "
        "How it is measured: [benches/scale/README.md](../scale/README.md); what follows from it: "
        "[docs/scaling.md](../../docs/scaling.md).",
    ]
    if trial(results):
        parts.append(TRIAL)
    for curve in known:
        if curve.key in results["curves"]:
            parts += [f"## {curve.title}", curve.note, f"![{curve.title}](scale-{curve.key}.svg)"]
            parts.append(curve_table(curve, results["curves"][curve.key]["points"]))
    if results["failed"]:
        parts.append("**Failed**:\n" + "\n".join(f"* {key}: {why}" for key, why in results["failed"].items()))
    others = f"Other programs took {results['machine']['others']:.0%} of its CPU time meanwhile."
    parts.append(f"## Machine\n\n{sentence(results['machine'], results['versions'])} {others}")
    return "\n\n".join(parts) + "\n"


@dataclasses.dataclass
class Column:
    title: str
    name: str
    form: str
    # The curves that have it; none: all.
    curves: tuple[str, ...] = ()


COLUMNS = (
    Column("to nginx", "ratio", ".2f"),
    Column("CPU µs", "cpu_us", ".1f"),
    Column("spread", "spread", ".0%"),
    Column("requests/s", "requests_per_second", ",.0f"),
    Column("p50 µs", "p50_us", ",.0f", ("idle", "workers")),
    Column("p99 µs", "p99_us", ",.0f", ("idle", "workers")),
    Column("resident MiB", "resident_mib", ".0f", ("idle", "sessions")),
    Column("hits", "hits", ".0%", ("sessions", "proxies")),
    Column("Redis CPU µs", "redis_us", ".1f", ("sessions", "size", "proxies")),
    Column("bytes from Redis", "redis_out", ",.0f", ("size", "proxies")),
    Column("invalidations a write", "invalidations", ".2f", ("proxies",)),
)


def curve_table(curve: Curve, points: list[dict]) -> str:
    columns = [column for column in COLUMNS if not column.curves or curve.key in column.curves]
    commands = curve.key in ("sessions", "proxies")
    heads = [("", False), (curve.x_name, True), *((column.title, True) for column in columns)]
    rows = []
    order = {series: place for place, series in enumerate(dict.fromkeys(point["series"] for point in points))}
    for one in sorted(points, key=lambda one: (order[one["series"]], one["x"])):
        cells = [one["series"], f"{one['x']:,g}" if one["x"] < 1000 else f"{one['x']:,.0f}"]
        cells += ["" if one[column.name] is None else format(max(one[column.name], 0), column.form) for column in columns]
        if commands:
            cells.append(", ".join(f"{calls:.2f} {name}" for name, calls in sorted(one["commands"].items())))
        rows.append(cells)
    return table(heads + ([("Redis commands", False)] if commands else []), rows)


def chart(curve: Curve, points: list[dict]) -> str:
    everywhere = sorted({one["x"] for one in points})
    lines = []
    for series in dict.fromkeys(one["series"] for one in points):
        found = [(one["x"], one["cpu_us"]) for one in points if one["series"] == series]
        if len(found) == 1 and series == NGINX:
            # One figure for all points, drawn through.
            found = [(x, found[0][1]) for x in everywhere]
        lines.append(Line(series.replace("`", ""), found))
    if curve.key == "proxies":
        for series in dict.fromkeys(one["series"] for one in points if one["redis_us"] is not None):
            lines.append(Line(f"Redis: {series}", [(one["x"], one["redis_us"]) for one in points if one["series"] == series]))
    whose = "the proxies and of Redis" if curve.key == "proxies" else "the proxy"
    subtitle = f"CPU µs for each request, of {whose}. Flat is good."
    return curves(curve.title, subtitle, curve.x_name, "CPU µs", lines, curve.log_x)
