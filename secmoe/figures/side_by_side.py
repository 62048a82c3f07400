"""The rows of `tools/spu_side_by_side.py` as a table."""

from __future__ import annotations

from typing import Any

from secmoe.figures.markdown import markdown_table

OWN, PEER = "secmoe", "spu-0.9.5-cheetah"
Row = dict[str, Any]


def table(rows: list[Row]) -> str:
    """Markdown: SPU's figures, ours, and how many times ours SPU's are."""
    head = ["operation", "shape", "CPU s: SPU", "ours", "ratio", "wall s: SPU", "ours", "ratio"]
    head += ["MB: SPU", "without refills", "its runs, with refills", "ours", "ratio", "depth: SPU", "ours"]
    lines = []
    ours = {(row["operation"], row["shape"]): row for row in rows if row["framework"] == OWN}
    for row in rows:
        own = ours.get((row["operation"], row["shape"]))
        if row["framework"] != PEER or own is None:
            continue
        cells = [f"{row['operation']}, {row['form']}" if row["form"] else row["operation"], row["shape"]]
        for name in ("cpu_s", "wall_s"):
            cells += [f"{row[name]:.3g}", f"{own[name]:.3g}", f"{row[name] / own[name]:.2g}"]
        cells += [f"{row[name] / 1e6:.3g}" for name in ("bytes", "least_bytes")]
        cells += [f"{row['runs']}, {row['refills']}" if row["runs"] else ""]
        cells += [f"{own['bytes'] / 1e6:.3g}", f"{row['bytes'] / own['bytes']:.2g}"]
        lines.append([*cells, str(row["depth"]), str(own["depth"])])
    widths = {row["digits"] for row in rows if "digits" in row}
    told = f"\n\nOurs with digits of {', '.join(map(str, sorted(widths)))} bits." if widths else ""
    return markdown_table(head, lines) + told
