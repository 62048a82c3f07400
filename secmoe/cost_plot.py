"""Prices as a picture: a stacked bar for each protocol and number of experts, bytes above, seconds below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from protocols.pricing.operators import OPERATORS
from transcripts.page import PAGES
from transcripts.place import new_place

SUFFIX = ".svg"
LEFT, TOP, HEIGHT, BAR, GAP, BETWEEN, FOOT, LEGEND = 64, 56, 220, 30, 10, 26, 74, 210
STEPS = (1, 2, 2.5, 5, 10)  # of an axis, times powers of ten
TICKS = 5


class PlotError(ValueError):
    """The place for a plot cannot be used."""


@dataclass(frozen=True)
class Bar:
    """parts: (operator, value), in the order of OPERATORS, from below."""

    protocol: str
    experts: int
    parts: tuple[tuple[str, float], ...]

    @property
    def total(self) -> float:
        return sum(value for _, value in self.parts)


@dataclass(frozen=True)
class Panel:
    """Bars of one unit."""

    title: str
    unit: str
    bars: tuple[Bar, ...]


def checked_plot(path: str | Path) -> Path:
    """A place for a new plot: the suffix, a folder that exists, nothing there yet. Raises PlotError."""
    return new_place(path, (SUFFIX,), "cost", "plot", lambda told: PlotError(f"--plot {told}"))


def plot(title: str, panels: Sequence[Panel]) -> str:
    """An SVG document, with its style inside."""
    head, body = drawing(title, panels).split("\n", 1)
    return f"{head}\n<style>{(PAGES / 'cost.css').read_text('utf-8')}</style>\n{body}"


def drawing(title: str, panels: Sequence[Panel]) -> str:
    """An SVG element without style: a page has that in its own."""
    wide = max(_width(panel.bars) for panel in panels)
    width, each = LEFT + wide + LEGEND, HEIGHT + FOOT + 24
    height = TOP + each * len(panels)
    parts = [
        f'<svg class="cost" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}">',
        f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>',
    ]
    for i, panel in enumerate(panels):
        parts += _panel(panel, wide, TOP + i * each)
    shown = [name for name in OPERATORS if any(name in dict(bar.parts) for panel in panels for bar in panel.bars)]
    for i, name in enumerate(reversed(shown)):
        y = TOP + 18 * i
        x = LEFT + wide + 20
        parts.append(f'<rect class="{_class(name)}" x="{x}" y="{y}" width="12" height="12"/>')
        parts.append(f'<text class="small" x="{x + 18}" y="{y + 10}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _class(operator: str) -> str:
    return f"op{OPERATORS.index(operator)}"


def _groups(bars: Sequence[Bar]) -> list[list[Bar]]:
    """By protocol, in the order given."""
    found: dict[str, list[Bar]] = {}
    for bar in bars:
        found.setdefault(bar.protocol, []).append(bar)
    return list(found.values())


def _width(bars: Sequence[Bar]) -> int:
    return sum(max(len(group) * (BAR + GAP), 110) + BETWEEN for group in _groups(bars))


def _step(top: float) -> float:
    """A round distance of about TICKS lines up to a positive value."""
    rough = top / TICKS
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in STEPS if step * power >= rough * (1 - 1e-9))


def _panel(panel: Panel, wide: int, top: int) -> Iterator[str]:
    most = max(bar.total for bar in panel.bars) or 1.0
    step = _step(most)
    lines = math.ceil(most / step - 1e-9)
    scale, foot = HEIGHT / (lines * step), top + HEIGHT
    yield f'<text x="{LEFT}" y="{top - 10}">{escape(panel.title)}</text>'
    for line in range(lines + 1):
        y = foot - line * step * scale
        yield f'<line class="grid" x1="{LEFT}" x2="{LEFT + wide}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="small" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{line * step:,.6g}</text>'
    at = LEFT
    for group in _groups(panel.bars):
        for i, bar in enumerate(group):
            yield from _bar(bar, panel.unit, at + GAP + i * (BAR + GAP), foot, scale)
        yield f'<text class="small" x="{at + GAP}" y="{foot + 46}">{escape(group[0].protocol)}</text>'
        at += max(len(group) * (BAR + GAP), 110) + BETWEEN
    yield f'<line class="axis" x1="{LEFT}" x2="{LEFT + wide}" y1="{foot}" y2="{foot}"/>'
    yield f'<text class="small" x="{LEFT - 6}" y="{foot + 16}" text-anchor="end">experts</text>'


def _bar(bar: Bar, unit: str, x: int, foot: int, scale: float) -> Iterator[str]:
    y = float(foot)
    for name, value in bar.parts:
        high = value * scale
        y -= high
        told = f"{bar.protocol}, {bar.experts} experts, {name}: {value:,.3f} of {bar.total:,.3f} {unit}"
        yield f'<rect class="{_class(name)}" x="{x}" y="{y:.2f}" width="{BAR}" height="{high:.2f}">'
        yield f"<title>{escape(told)}</title></rect>"
    yield f'<text class="small" x="{x + BAR / 2}" y="{foot + 16}" text-anchor="middle">{bar.experts}</text>'
    yield f'<text class="small" x="{x + BAR / 2}" y="{foot + 30}" text-anchor="middle">{bar.total:,.4g}</text>'
