"""The attack as a picture: a bar per protocol and question with its interval, the controls beside them. SVG by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from transcripts.attack import Score
from transcripts.attack_runs import Report
from transcripts.page import PAGES
from transcripts.place import new_place

SUFFIX = ".svg"
LEFT, TOP, HEIGHT, BAR, GAP, BETWEEN, FOOT = 52, 56, 240, 46, 14, 40, 64
# Told apart without colour as well: leaky bars are full, SecMoE hatched, controls empty.
HATCH = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="under" width="6" height="6"/><line class="stripe" x1="0" y1="0" x2="0" y2="6"/></pattern></defs>'
)


class PlotError(ValueError):
    """The place for a plot cannot be used."""


def checked_plot(path: str | Path) -> Path:
    """A place for a new plot: the suffix, a folder that exists, nothing there yet. Raises PlotError."""
    return new_place(path, (SUFFIX,), "attack", "plot", lambda told: PlotError(f"--plot {told}"))


def plot(report: Report) -> str:
    """The report as an SVG document, with its style inside."""
    head, body = drawing(report).split("\n", 1)
    return f"{head}\n<style>{(PAGES / 'attack.css').read_text('utf-8')}</style>\n{body}"


def drawing(report: Report) -> str:
    """The report as an SVG element without style: a page has that in its own, which its policy names."""
    panels = [(question, list(_bars(report, question))) for question in report.constant]
    widths = [len(bars) * (BAR + GAP) for _, bars in panels]
    width, height = LEFT + sum(widths) + BETWEEN * len(widths), TOP + HEIGHT + FOOT
    title = f"{report.plan.model}, layer {report.choice.layer}: what a corrupted server learns from one layer"
    parts = [
        f'<svg class="attack" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}">',
        HATCH,
        f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>',
    ]
    at = LEFT
    for (question, bars), wide in zip(panels, widths, strict=True):
        asked = {"label": "label of the item", "token": "identity of a token"}.get(question, question)
        parts.append(f'<text x="{at}" y="44">{escape(asked)}: held-out accuracy, 95 % interval</text>')
        parts += _panel(at, wide, bars)
        at += wide + BETWEEN
    return "\n".join([*parts, "</svg>\n"])


Bar = tuple[str, str, str, Score]  # class, name, world, score


def _bars(report: Report, question: str) -> Iterator[Bar]:
    for row in report.rows:
        if row.question == question:
            kind = "secmoe" if row.protocol == "secmoe" else "leaky"
            yield kind, row.protocol, row.world, row.answered.score
    yield "control", "length only" if question == "label" else "place only", "", report.public[question]
    yield "control", "constant", "", report.constant[question]


def _panel(at: int, wide: int, bars: Sequence[Bar]) -> Iterator[str]:
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        yield f'<line class="grid" x1="{at}" x2="{at + wide}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="small" x="{at - 6}" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>'
    for i, (kind, name, world, score) in enumerate(bars):
        x = at + GAP / 2 + i * (BAR + GAP)
        centre, top = x + BAR / 2, _y(score.accuracy)
        low, high = (_y(v) for v in score.interval)
        told = f"{name} {world}: {score.accuracy:.3f}, {score.interval[0]:.3f} to {score.interval[1]:.3f}, n {score.n}"
        fill = ' fill="url(#hatch)"' if kind == "secmoe" else ""
        yield f'<rect class="{kind}"{fill} x="{x:.1f}" y="{top:.1f}" width="{BAR}" height="{_y(0) - top:.1f}">'
        yield f"<title>{escape(told)}</title></rect>"
        yield f'<line class="error" x1="{centre:.1f}" x2="{centre:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        for y in (low, high):
            yield f'<line class="error" x1="{centre - 6:.1f}" x2="{centre + 6:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        words = [f"{score.accuracy:.2f}", *name.replace("-", " ").split(" "), world]
        for line, word in enumerate(words):
            y = _y(0) + 14 * (line + 1)
            yield f'<text class="small" x="{centre:.1f}" y="{y:.1f}" text-anchor="middle">{escape(word)}</text>'
    yield f'<line class="axis" x1="{at}" x2="{at + wide}" y1="{_y(0):.1f}" y2="{_y(0):.1f}"/>'


def _y(value: float) -> float:
    return TOP + HEIGHT * (1 - value)
