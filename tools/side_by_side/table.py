"""The rows of `tools/spu_side_by_side.py` as a table."""

from __future__ import annotations

from typing import Any

OWN, PEER = "secmoe", "spu-0.9.5-cheetah"
Row = dict[str, Any]


def table(rows: list[Row]) -> str:
    """Markdown: SPU's figures, ours, and how many times ours SPU's are."""
    head = ["operation", "shape", "CPU s: SPU", "ours", "ratio", "wall s: SPU", "ours", "ratio"]
    head += ["MB: SPU", "ours", "ratio", "depth: SPU", "ours"]
    lines = [head, ["---"] * len(head)]
    ours = {(row["operation"], row["shape"]): row for row in rows if row["framework"] == OWN}
    for row in rows:
        own = ours.get((row["operation"], row["shape"]))
        if row["framework"] != PEER or own is None:
            continue
        cells = [f"{row['operation']}, {row['form']}" if row["form"] else row["operation"], row["shape"]]
        for name, unit in (("cpu_s", 1.0), ("wall_s", 1.0), ("bytes", 1e6)):
            cells += [f"{row[name] / unit:.3g}", f"{own[name] / unit:.3g}", f"{row[name] / own[name]:.2g}"]
        lines.append([*cells, str(row["depth"]), str(own["depth"])])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
