"""Charts as SVG, written by hand. They follow the reader's choice of light or dark."""

import dataclasses
import math
from collections.abc import Sequence
from html import escape

WIDTH = 860
# Readable on white and on near-black alike; `ours` stands out.
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
  .title { font-size: 16px; font-weight: 600; } .quiet { fill: #59636e; font-size: 12px; }
  .strong { font-weight: 600; } .end { text-anchor: end; } .middle { text-anchor: middle; }
  .grid { stroke: #d1d9e0; stroke-width: 1; } .mark { stroke: #59636e; stroke-width: 1.5; stroke-dasharray: 4 3; }
  .paper { fill: #ffffff; } .over { paint-order: stroke; stroke: #ffffff; stroke-width: 5; }
  .ours { fill: #0969da; } .peer { fill: #8c959f; } .base { fill: #59636e; }
  .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
  .s0 { stroke: #0969da; } .s1 { stroke: #bc4c00; } .s2 { stroke: #1a7f37; } .s3 { stroke: #8250df; } .s4 { stroke: #59636e; }
  .f0 { fill: #0969da; } .f1 { fill: #bc4c00; } .f2 { fill: #1a7f37; } .f3 { fill: #8250df; } .f4 { fill: #59636e; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .quiet { fill: #9198a1; } .grid { stroke: #3d444d; } .mark { stroke: #9198a1; } .paper { fill: #0d1117; } .over { stroke: #0d1117; }
    .ours { fill: #4493f8; } .peer { fill: #656c76; } .base { fill: #9198a1; }
    .s0 { stroke: #4493f8; } .s1 { stroke: #f0883e; } .s2 { stroke: #3fb950; } .s3 { stroke: #ab7df8; } .s4 { stroke: #9198a1; }
    .f0 { fill: #4493f8; } .f1 { fill: #f0883e; } .f2 { fill: #3fb950; } .f3 { fill: #ab7df8; } .f4 { fill: #9198a1; }
  }
"""
COLOURS = 5


@dataclasses.dataclass
class Bar:
    label: str
    value: float
    # "ours", "peer" or "base".
    kind: str = "peer"
    # Stands behind the value.
    note: str = ""


@dataclasses.dataclass
class Curve:
    name: str
    points: Sequence[tuple[float, float]]


def bars(title: str, subtitle: str, groups: Sequence[tuple[str, Sequence[Bar]]], limit: float, mark: float | None = None) -> str:
    """Horizontal bars in named groups. One that is longer than `limit` is cut, and says how long it is."""
    left, right, step = 300, 130, 24
    scale = (WIDTH - left - right) / limit
    parts, y = [], 84
    for name, group in groups:
        parts.append(text(16, y, name, "strong"))
        y += 10
        for bar in group:
            cut = bar.value > limit
            length = min(bar.value, limit) * scale
            parts.append(text(left - 10, y + 15, bar.label, "end strong" if bar.kind == "ours" else "end"))
            parts.append(f'<rect class="{bar.kind}" x="{left}" y="{y + 2}" width="{length:.1f}" height="{step - 7}" rx="2"/>')
            if cut:
                # A gap near the end says that the bar goes on.
                parts.append(f'<path class="paper" d="M{left + length - 22:.1f} {y + 21}l7 -21h5l-7 21z"/>')
            words = f"{bar.value:.2f}  {bar.note}".strip()
            parts.append(text(left + length + 7, y + 15, words, "over strong" if cut else "over"))
            y += step
        y += 26
    y -= 20
    if mark is not None:
        parts.insert(0, f'<line class="mark" x1="{left + mark * scale:.1f}" y1="72" x2="{left + mark * scale:.1f}" y2="{y}"/>')
    return svg(y + 12, title, subtitle, parts)


def curves(title: str, subtitle: str, x_name: str, y_name: str, series: Sequence[Curve], log_x: bool = False) -> str:
    """Lines over a common x axis; the y axis begins at zero, so that flat looks flat."""
    left, top, right, height = 70, 92, 200, 300
    width = WIDTH - left - right
    ticks_x = sorted({x for curve in series for x, _ in curve.points})
    place = math.log if log_x else float
    low, high = place(ticks_x[0]), place(ticks_x[-1])
    steps = rounded_steps(max(y for curve in series for _, y in curve.points))

    def at(x: float, y: float) -> tuple[float, float]:
        share = (place(x) - low) / (high - low) if high > low else 0.5
        return left + share * width, top + height - y / steps[-1] * height

    parts = []
    for value in steps:
        _, y = at(ticks_x[0], value)
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}"/>')
        parts.append(text(left - 8, y + 4, number(value), "end quiet"))
    taken = -math.inf
    for x in ticks_x:
        where, _ = at(x, 0)
        if where - taken > 48:
            parts.append(text(where, top + height + 20, number(x), "middle quiet"))
            taken = where
    parts.append(text(left + width / 2, top + height + 42, x_name, "middle quiet"))
    parts.append(text(left - 54, top - 12, y_name, "quiet"))
    for index, curve in enumerate(series):
        points = [at(x, y) for x, y in sorted(curve.points)]
        parts.append(f'<polyline class="line s{index % COLOURS}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
        parts += [f'<circle class="f{index % COLOURS}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points]
    parts += names(series, [at(*max(curve.points))[1] for curve in series], left + width + 14)
    return svg(top + height + 60, title, subtitle, parts)


def names(series: Sequence[Curve], heights: Sequence[float], x: float) -> list[str]:
    """Each curve's name beside its end, moved down where two would lie on each other."""
    parts, free = [], -math.inf
    for y, index in sorted(zip(heights, range(len(series)), strict=True)):
        free = max(y, free + 18)
        parts.append(text(x, free + 4, series[index].name, f"f{index % COLOURS} strong"))
    return parts


def rounded_steps(largest: float) -> list[float]:
    """About five round numbers from zero to at least the largest."""
    raw = (largest or 1) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    return [step * index for index in range(math.ceil(round(largest / step, 9)) + 1)]


def number(value: float) -> str:
    if value >= 1e6 and value % 1e5 == 0:
        return f"{value / 1e6:g} M"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def svg(height: float, title: str, subtitle: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" role="img">'
    lines = [head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>"]
    lines.append(f'<rect class="paper" width="{WIDTH}" height="{height:.0f}" rx="6"/>')
    lines += [text(16, 28, title, "title"), text(16, 48, subtitle, "quiet"), *parts, "</svg>"]
    return "\n".join(lines) + "\n"
