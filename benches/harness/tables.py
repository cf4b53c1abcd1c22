"""Markdown tables."""

from collections.abc import Sequence


def table(columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    """Columns with a name, and whether they have numbers."""
    lines = [row([name for name, _ in columns]), row(["--:" if numeric else "---" for _, numeric in columns])]
    return "\n".join(lines + [row(cells) for cells in rows])


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
