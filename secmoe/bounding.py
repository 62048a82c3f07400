"""`secmoe prove --bounds`: noise, flooding, ranges, approximation errors and security of everything that is shipped."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.text import Text

from proofs.limits import Bound


def print_bounds(console: Console, bounds: list[Bound], in_full: bool) -> None:
    """One line per bound; without `in_full` one line per kind of bound, and every bound that does not hold."""
    for bound in bounds:
        if in_full or not bound.holds:
            told = f"{bound.name}: {bound.subject}: {bound.verdict}: {bound.statement} ({bound.method})"
            console.print(Text(told), soft_wrap=True)
    kinds = Counter(bound.name for bound in bounds)
    told = ", ".join(f"{name} {n}" for name, n in kinds.items())
    wrong = sum(not bound.holds for bound in bounds)
    console.print(Text(f"bounds: {len(bounds)}, of them refuted: {wrong} ({told})"), soft_wrap=True)
    for assumption in sorted({a for bound in bounds for a in bound.assumptions}):
        console.print(Text(f"bounds rest on: {assumption}"), soft_wrap=True)


def bounds_json(bounds: list[Bound]) -> list[dict[str, Any]]:
    """Every bound as JSON values."""
    return [{**vars(bound), "assumptions": list(bound.assumptions)} for bound in bounds]
