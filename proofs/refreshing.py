"""Refreshing: every output share is uniform, for all inputs, over both parties' randomness (judgement J3).

An optional property: composition needs privacy and correctness only. What refreshes may be opened without re-sharing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from proofs.private import Peeler
from proofs.trace import Seen, Trace
from proofs.verdict import Status, Verdict
from sim.role import Role


@dataclass(frozen=True)
class _Nobody:
    """The corrupted party of a proof in which all draws are unseen."""

    value: str = "nobody"


def refreshing(run: Trace, role: Role) -> Verdict:
    """PROVED if the party's output shares are jointly uniform, else UNKNOWN with the first that is not."""
    start = time.perf_counter()
    nobody: Any = _Nobody()
    outputs = run.outputs[role]
    peeler = Peeler(run.dag, [Seen(f"output {i}", number, False) for i, number in enumerate(outputs)], nobody)
    peeler.run()
    stuck = [i for i, number in enumerate(outputs) if not peeler.is_symbol(number) or outputs.count(number) > 1]
    detail = f"output {stuck[0]} of the {role.value} is not a fresh symbol" if stuck else ""
    status: Status = "UNKNOWN" if stuck else "PROVED"
    return Verdict(status, f"refreshing, {role.value}", "optimistic sampling", detail, time.perf_counter() - start)
