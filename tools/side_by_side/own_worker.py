"""Our end, in this repository's environment: the cases it is told, one JSON line each.

Both parties in one process. The bytes are those of a whole run, extension of correlated OTs included; the CPU time is
that of the process: the driver and both parties. Every result is compared bit for bit with the fixed-point
functionality, in faithful mode: nothing is rounded by chance.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocols import functionalities as F
from protocols.cleartext.norms import ARGMAX, SOFTMAX
from protocols.compare import drelu
from protocols.he.packing import LinearPlan
from protocols.he.params import PARAM_SETS
from protocols.he.service import HeService
from protocols.linear import linear
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.tables import GELU_MINIMAX
from protocols.moe import LayerPlan, LayerWeights, moe_layer
from protocols.ot.service import OtService
from protocols.polynomial import piecewise
from protocols.products import mul
from protocols.softmax import argmax, softmax
from protocols.truncate import truncate
from side_by_side.cases import BREAKPOINTS, CASES, FRACTION, LAYER, ROWS, Case, digest, expert, inputs, reference
from sim.concrete import from_words, to_signed, to_words
from sim.ring import Ring, RingArray
from sim.role import CLIENT, SERVER
from sim.world import Execution, Session

PARAMS = PARAM_SETS["P64s"]
RING = Ring(PARAMS.ring_bits)
BUDGET = 2.0**-20  # statistical distance of a session: of several runs, one after the other
Array = np.ndarray[Any, Any]
BITS = {"s": FRACTION, "l": RING.l}


@dataclass(frozen=True)
class Task:
    """Protocols to run one after the other, the first on shares of `given`, each other on the one before's output."""

    steps: Sequence[tuple[Any, dict[str, Any]]]
    given: Sequence[Array]
    expected: Array
    services: Sequence[Any]
    weights: tuple[Any, ...] = ()  # the server's last positional inputs; the client has None in their places

    def once(self, session: Session) -> list[Execution]:
        found: list[Execution] = []
        ours, theirs = zip(*(_shares(x) for x in self.given), strict=True)
        for protocol, public in self.steps:
            last = self.weights if not found else ()
            found.append(session.run(protocol, [*ours, *(None for _ in last)], [*theirs, *last], **public))
            ours, theirs = (found[-1].outputs[CLIENT],), (found[-1].outputs[SERVER],)
        return found


def _shares(x: Array) -> tuple[RingArray, RingArray]:
    mask = from_words(RING, np.frombuffer(os.urandom(8 * x.size), np.uint64).reshape(x.shape))
    return mask, from_words(RING, x.astype(np.int64)) - mask


def task(case: Case) -> Task:
    given = {name: value.astype(np.int64) for name, value in inputs(case).items()}
    x, name = given["x"], case.operation
    if name == LAYER:
        return _layer(case, given)
    if name == "matrix product":
        n, d, f = case.sizes
        plan = LinearPlan(PARAMS, n, d, f)
        service = HeService([plan], BUDGET)
        steps = [(linear, {"plan": plan}), (truncate, {"f": FRACTION})]
        floors = (x @ given["w"].T) >> FRACTION
        return Task(steps, [x], floors, [OtService(), service], (service.prepare(plan, given["w"]),))
    if name.startswith("multiplication"):
        product = (x * given["y"]) >> FRACTION
        return Task([(mul, {}), (truncate, {"f": FRACTION})], [x, given["y"]], product, [OtService()])
    if name.startswith("comparison"):
        return Task([(drelu, {})], [x], np.asarray(x >= 0).astype(np.int64), [OtService()])
    if name == "GeLU":
        public = {"table": GELU_MINIMAX, "s": FRACTION}
        return Task([(piecewise, public)], [x], F.PIECEWISE.compute(x, **public), [OtService()])
    if name == "argmax":
        return Task([(argmax, {})], [x], ARGMAX.compute(x), [OtService()])
    return Task([(softmax, BITS)], [x], SOFTMAX.compute(x, **BITS), [OtService()])


def _layer(case: Case, given: dict[str, Array]) -> Task:
    d, f, E, n = case.sizes
    plan = LayerPlan(MoeConfig(d=d, f=f, E=E), n, PARAMS, GELU_MINIMAX)
    service = HeService(plan.plans, BUDGET)
    experts = [np.empty((E, *shape), np.int32) for shape in ((f, d), (f, d), (d, f))]
    for e in range(E):
        for place, part in zip(experts, expert(case, e), strict=True):
            place[e] = part
    w1, v, w2 = experts
    weights = LayerWeights.prepare(service.prepare, plan, MoeWeights(given["router"], w1, v, w2))
    x, residual = given["x"], given["residual"]
    # The functionality on the experts that are selected, renumbered: it multiplies every matrix it is given.
    logits = (x @ given["router"].T) >> FRACTION
    winners, hot = F.TOP_K.compute(logits, k=1, l=RING.l)
    p = F.PROBABILITIES.compute(logits, winners, **BITS, renormalise=False)
    used = sorted(set(np.argmax(hot[:, 0], axis=1)))
    some = [part[used].astype(np.int64) for part in experts]
    y = F.SELECTED_EXPERT.compute(
        hot[:, :, used], x, *some, up=plan.up, arithmetic=plan.arithmetic, activation=plan.activation
    )
    out = residual + ((p[..., None] * y).sum(1) >> FRACTION)
    return Task([(moe_layer, {"plan": plan})], [x, residual], out, [OtService(), service], (weights,))


def measured(case: Case) -> dict[str, Any]:
    """Least CPU and wall time of the repeats; bytes and depth of a run; the set-up of its session."""
    work = task(case)
    begun = time.process_time(), time.perf_counter()
    session = Session(work.services)
    set_up = {"cpu_s": time.process_time() - begun[0], "wall_s": time.perf_counter() - begun[1]}
    set_up |= {"bytes": session.setup.cost.nbytes, "depth": session.setup.cost.rounds}
    times = list[tuple[float, float]]()
    for _ in range(case.repeats + 1):
        begun = time.process_time(), time.perf_counter()
        runs = work.once(session)
        times.append((time.process_time() - begun[0], time.perf_counter() - begun[1]))
    total = runs[-1].outputs[CLIENT] + runs[-1].outputs[SERVER]
    out = to_signed(total)
    if not np.array_equal(to_words(total), to_words(from_words(total.ring, work.expected))):
        sys.exit(f"{case.operation} {case.shape}: expected the fixed-point functionality's words, got others")
    floats = reference(case)
    error = 0.0 if floats.dtype.kind in "bi" else float(np.abs(out / 2.0**FRACTION - floats).max())
    counted = times[1:] or times
    row = {"cpu_s": min(cpu for cpu, _ in counted), "wall_s": min(wall for _, wall in counted)}
    row |= {"bytes": sum(run.cost.nbytes for run in runs), "depth": sum(run.cost.rounds for run in runs)}
    return {"form": "", **row, "error": error, "set_up": set_up}


def main() -> None:
    words = tuple(GELU_MINIMAX.breakpoints), tuple(tuple(row) for row in GELU_MINIMAX.coefficients)
    if words != (BREAKPOINTS, ROWS):
        sys.exit("side_by_side/cases.py: expected the coefficients of the table gelu-minimax, got others")
    for line in sys.stdin:
        case = CASES[int(line)]
        print(json.dumps({"digest": digest(case), "rows": [measured(case)]}), flush=True)


if __name__ == "__main__":
    main()
