"""Our end, in this repository's environment: the cases it is told, one JSON line each.

Both parties in one process. Correlated OTs come from iterations of Ferret (b12), as the pool of a whole query has them;
a run pays its share of an iteration, in bytes and in time, by the OTs that it takes, as `secmoe cost` shares a query's.
The reserve that the first iteration consumes is set-up. The CPU time is that of the process: the driver and both
parties. Every result is compared bit for bit with the fixed-point functionality, in faithful mode: nothing is rounded
by chance.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocols import functionalities as F
from protocols.cleartext.norms import ARGMAX, SOFTMAX
from protocols.compare import drelu
from protocols.he.packing import LinearPlan
from protocols.he.params import PARAM_SETS
from protocols.he.service import HeService
from protocols.layer_plan import LayerPlan, LayerWeights
from protocols.linear import linear
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.tables import GELU_MINIMAX
from protocols.moe import moe_layer
from protocols.ot.amounts import Making
from protocols.ot.lpn import B12
from protocols.ot.service import OtService, OtState, carry_out, provision
from protocols.polynomial import piecewise
from protocols.products import mul
from protocols.softmax import argmax, softmax
from protocols.truncate import truncate
from secmoe.timing_ot import taking
from side_by_side.cases import BREAKPOINTS, CASES, FRACTION, LAYER, ROWS, Case, digest, expert, inputs, reference
from sim.concrete import from_words, to_signed, to_words
from sim.cost import Cost
from sim.party import Party
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.world import Execution, Session

PARAMS = PARAM_SETS["P64s"]
RING = Ring(PARAMS.ring_bits)
BUDGET = 2.0**-20  # statistical distance of a session: of several runs, one after the other
Array = np.ndarray[Any, Any]
BITS = {"s": FRACTION, "l": RING.l}
WIDTHS = range(1, 9)  # of digits, in bits
LARGE = 1 << 16  # words of a comparison that the width is chosen for
OT_BYTES = B12.nbytes / B12.net


def amortised(cost: Cost) -> float:
    """Bytes of a protocol with the share of the iterations that its OTs have."""
    return cost.nbytes + OT_BYTES * (cost.cot_client + cost.cot_server)


def best_digits() -> int:
    """The width of digits at which a large comparison sends fewest bytes."""
    words = blank(Spec(RING, (LARGE,)))
    return min(WIDTHS, key=lambda w: amortised(drelu.declared(words, w=w)))


class QueryPools(OtService):
    """Pools as large queries have them: iterations of Ferret only, of which each leaves the next one's reserve."""

    async def provision(self, p: Party, state: OtState, amounts: Mapping[str, int]) -> None:
        await provision(p, amounts, lambda role, n, start: carry_out(p, role, state.pools[role], _plan(n, start)))


def _plan(n: int, start: int) -> Making:
    """Of n COTs, at least one, where `start` remain."""
    if start - n >= B12.reserve:
        return Making(n, start, 0, ())
    soft = max(B12.reserve - start, 0)
    return Making(n, start, soft, (B12,) * -(-(n + B12.reserve - start - soft) // B12.net))


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


def task(case: Case, w: int) -> Task:
    """The case with digits of w bits."""
    given = {name: value.astype(np.int64) for name, value in inputs(case).items()}
    x, name = given["x"], case.operation
    if name == LAYER:
        return _layer(case, given, w)
    if name == "matrix product":
        n, d, f = case.sizes
        plan = LinearPlan(PARAMS, n, d, f)
        service = HeService([plan], BUDGET)
        steps = [(linear, {"plan": plan}), (truncate, {"f": FRACTION, "w": w})]
        floors = (x @ given["w"].T) >> FRACTION
        return Task(steps, [x], floors, [QueryPools(), service], (service.prepare(plan, given["w"]),))
    if name.startswith("multiplication"):
        product = (x * given["y"]) >> FRACTION
        return Task([(mul, {}), (truncate, {"f": FRACTION, "w": w})], [x, given["y"]], product, [QueryPools()])
    if name.startswith("comparison"):
        return Task([(drelu, {"w": w})], [x], np.asarray(x >= 0).astype(np.int64), [QueryPools()])
    if name == "GeLU":
        public = {"table": GELU_MINIMAX, "s": FRACTION}
        return Task([(piecewise, {**public, "w": w})], [x], F.PIECEWISE.compute(x, **public), [QueryPools()])
    if name == "argmax":
        return Task([(argmax, {"w": w})], [x], ARGMAX.compute(x), [QueryPools()])
    return Task([(softmax, {**BITS, "w": w})], [x], SOFTMAX.compute(x, **BITS), [QueryPools()])


def _layer(case: Case, given: dict[str, Array], w: int) -> Task:
    d, f, E, n = case.sizes
    plan = LayerPlan(MoeConfig(d=d, f=f, E=E), n, PARAMS, GELU_MINIMAX, w=w)
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
    return Task([(moe_layer, {"plan": plan})], [x, residual], out, [QueryPools(), service], (weights,))


def _pooled(runs: Sequence[Execution]) -> tuple[int, float]:
    """Bytes and CPU seconds of making what these runs take."""
    nbytes = sum(message.nbytes for run in runs for message in run.scope(f"{run.prefix}/pool"))
    seconds = sum(
        t for run in runs for (_, scope), t in run.cpu_by_scope.items() if scope.startswith(f"{run.prefix}/pool")
    )
    return nbytes, seconds


def measured(case: Case, w: int) -> dict[str, Any]:
    """Least CPU and wall time of the repeats, making of OTs apart, and their share of it; the set-up of the session."""
    work = task(case, w)
    begun = time.process_time(), time.perf_counter()
    session = Session(work.services)
    set_up = {"cpu_s": time.process_time() - begun[0], "wall_s": time.perf_counter() - begun[1]}
    set_up |= {"bytes": session.setup.cost.nbytes, "depth": session.setup.cost.rounds}
    times, refills = list[tuple[float, float]](), 0
    for turn in range(case.repeats + 1):
        begun = time.process_time(), time.perf_counter()
        runs = work.once(session)
        made, making = _pooled(runs)
        times.append((time.process_time() - begun[0] - making, time.perf_counter() - begun[1] - making))
        if turn == 0:
            set_up["bytes"] += made
        else:
            refills += made > 0
    cots = [sum(run.reserved.get(f"cot.{role.value}", 0) for run in runs) for role in Role]
    each = session.run(taking, [], [], n=B12.net)  # an iteration
    share = sum(cots) * _pooled([each])[1] / B12.net
    total = runs[-1].outputs[CLIENT] + runs[-1].outputs[SERVER]
    out = to_signed(total)
    if not np.array_equal(to_words(total), to_words(from_words(total.ring, work.expected))):
        sys.exit(f"{case.operation} {case.shape}: expected the fixed-point functionality's words, got others")
    floats = reference(case)
    error = 0.0 if floats.dtype.kind in "bi" else float(np.abs(out / 2.0**FRACTION - floats).max())
    counted = times[1:] or times
    row = {"cpu_s": min(cpu for cpu, _ in counted) + share, "wall_s": min(wall for _, wall in counted) + share}
    nbytes = sum(run.cost.nbytes for run in runs) - made
    row |= {"bytes": nbytes + OT_BYTES * sum(cots), "least_bytes": nbytes, "runs": len(counted), "refills": refills}
    depth = sum(run.cost.rounds for run in runs) - sum(_depth(run) for run in runs)
    return {"form": "", **row, "digits": w, "depth": depth, "error": error, "set_up": set_up}


def _depth(run: Execution) -> int:
    """Of making what the run takes, before it."""
    return max((message.depth for message in run.scope(f"{run.prefix}/pool")), default=0)


def main() -> None:
    words = tuple(GELU_MINIMAX.breakpoints), tuple(tuple(row) for row in GELU_MINIMAX.coefficients)
    if words != (BREAKPOINTS, ROWS):
        sys.exit("side_by_side/cases.py: expected the coefficients of the table gelu-minimax, got others")
    w = int(sys.argv[1]) if len(sys.argv) > 1 else best_digits()
    for line in sys.stdin:
        case = CASES[int(line)]
        print(json.dumps({"digest": digest(case), "rows": [measured(case, w)]}), flush=True)


if __name__ == "__main__":
    main()
