"""SPU's end, in an environment of its own: protocol CHEETAH, 64-bit ring, 18 fractional bits, both parties in process.

One core and one thread per party (`max_concurrency` 1), so that the order of the link trace is the order of a party's
calls and depth is exact. Weights belong to rank 1 (`experimental_enable_colocated_optimization`, without which SPU
multiplies them as if both parties shared them). Exponentials take whichever of SPU's forms is the cheaper: EXP_PADE of
few (11 kB against 9 MB for a row of 8), the default EXP_TAYLOR of many (the rows of a softmax). CPU time is that of the
process, both parties; bytes are those that SPU's own profile reports per execution. The untimed first run takes the
set-up. SPU's pool of OTs is refilled in some runs and not in others. It runs as often as a budget of CPU time admits:
its bytes are the mean from behind the first refill to the last one, or those of the least run where there are not two.
Its times are those of the fastest run.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spu.api as api
import spu.libspu as libspu
import spu.utils.frontend as frontend

from side_by_side.cases import (
    BREAKPOINTS,
    CASES,
    DENSE,
    DENSE_CAT,
    FLOOR,
    FRACTION,
    LAYER,
    ROWS,
    SELECT,
    Case,
    digest,
    expert,
    inputs,
    reference,
)
from side_by_side.depth import chain

SECRET = libspu.Visibility.VIS_SECRET
PADE = libspu.RuntimeConfig.EXP_PADE
SERVER = 1  # the rank that owns the weights
PARTIES = range(2)
RECEIVE_MS = 3_600_000  # one party waits while the other multiplies
STEPS = np.diff(np.array(ROWS), axis=0).astype(np.float32)
SENT = re.compile(r"Link details: total send bytes (\d+), recv bytes \d+")
BUDGET, MOST_RUNS = 20.0, 40  # CPU seconds and runs of one form of a case
REFILL = 1 << 16  # bytes above the least run from which a run is told to contain a refill
MOST_ERROR = 2.0**-4  # of values of order 1: SPU's exponential, its reciprocal and its truncations are approximate
Array = np.ndarray[Any, Any]
Function = Callable[..., Any]


def gelu(x: Any) -> Any:
    """The piecewise polynomial as muxes of differences: in this form SPU sends least."""
    square, y = x * x, 0.0
    for b, (c0, c1, c2) in zip(BREAKPOINTS, STEPS, strict=True):
        y = y + jnp.where(x > b, c0 + c1 * x + c2 * square, 0.0)
    return y


def routed(x: Any, router: Any) -> tuple[Any, Any]:
    """The one-hot row of the selected expert, and its softmax probability."""
    logits = x @ router.T
    t = (jnp.argmax(logits, axis=1)[:, None] == jnp.arange(router.shape[0])).astype(jnp.float32)
    return t, 1.0 / jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True)).sum(1)


def dense(x: Any, residual: Any, router: Any, *experts: Any) -> Any:
    """Every expert by itself, then the selected one's output."""
    t, p = routed(x, router)
    each = [(gelu(x @ w1.T) * (x @ v.T)) @ w2.T for w1, v, w2 in zip(*[iter(experts)] * 3, strict=True)]
    return residual + p[:, None] * sum(t[:, e : e + 1] * y for e, y in enumerate(each))


def gathered(x: Any, t: Any, w1: Any, v: Any, w2: Any) -> Any:
    """All experts as one matrix; what is not selected becomes 0 before the last product.

    w1, v: (E f, d); w2: (d, E f).
    """
    n, E = t.shape
    g = (gelu(x @ w1.T) * (x @ v.T)).reshape(n, E, -1) * t[:, :, None]
    return g.reshape(n, -1) @ w2.T


def dense_cat(x: Any, residual: Any, router: Any, w1: Any, v: Any, w2: Any) -> Any:
    t, p = routed(x, router)
    return residual + p[:, None] * gathered(x, t, w1, v, w2)


def select(x: Any, residual: Any, router: Any, w1: Any, v: Any, w2: Any) -> Any:
    """One-hot rows times all weights, then the products of shares. w1, v: (E, f d); w2: (E, d f)."""
    t, p = routed(x, router)
    n, d = x.shape
    h, u = (jnp.einsum("nd,nfd->nf", x, (t @ w).reshape(n, -1, d)) for w in (w1, v))
    return residual + p[:, None] * jnp.einsum("nf,ndf->nd", gelu(h) * u, (t @ w2).reshape(n, d, -1))


def floor(x: Any, residual: Any, w1: Any, v: Any, w2: Any) -> Any:
    """One known expert, without routing."""
    return residual + (gelu(x @ w1.T) * (x @ v.T)) @ w2.T


class Parties:
    """Both ranks of one session, each a thread, and the logs from which bytes and depth are read."""

    def __init__(self, folder: Path) -> None:
        options = libspu.logging.LogOptions()
        options.enable_console_logger = False
        self.profile, self.trace, self.marks = folder / "profile.log", folder / "trace.log", 0
        options.system_log_path, options.trace_log_path = str(self.profile), str(self.trace)
        options.trace_content_length = 16
        libspu.logging.setup_logging(options)
        config = libspu.RuntimeConfig(
            protocol=libspu.ProtocolKind.CHEETAH, field=libspu.FieldType.FM64, fxp_fraction_bits=FRACTION
        )
        config.enable_pphlo_profile = True
        config.experimental_enable_colocated_optimization = True
        config.max_concurrency = 1
        self.io = api.Io(len(PARTIES), config)
        self.config, self.sessions = config, dict[Any, list[Any]]()
        self.links = self.linked("notes")

    def linked(self, name: str) -> list[Any]:
        """Both ends of a link of its own."""
        desc = libspu.link.Desc()
        desc.id, desc.recv_timeout_ms = name, RECEIVE_MS
        for rank in PARTIES:
            desc.add_party(f"rank{rank}", f"thread{rank}")
        return self.both(lambda rank: libspu.link.create_mem(desc, rank))

    def session(self, exponential: Any) -> list[Any]:
        """Both runtimes of the session with this form of exponential."""
        if exponential not in self.sessions:
            self.config.fxp_exp_mode = exponential
            links = self.linked(f"session{len(self.sessions)}")
            self.sessions[exponential] = self.both(lambda rank: api.Runtime(links[rank], self.config))
        return self.sessions[exponential]

    def both(self, act: Callable[[int], Any]) -> list[Any]:
        with ThreadPoolExecutor(len(PARTIES)) as pool:
            return list(pool.map(act, PARTIES))

    def note(self, word: str) -> None:
        """A word in the trace, sent by both."""
        self.both(lambda rank: self.links[rank].all_gather(word))

    def program(
        self, function: Function, given: Sequence[Array], owned: Sequence[bool], exponential: Any = PADE
    ) -> Callable[[], Array]:
        """What runs a function on secrets once; those that are owned belong to the server."""
        runtimes = self.session(exponential)
        names = [f"in{i}" for i in range(len(given))]
        code, _ = frontend.compile(
            frontend.Kind.JAX, function, given, {}, names, [SECRET] * len(given), lambda out: ["out0"]
        )
        shares = [self.io.make_shares(x, SECRET, SERVER if own else -1) for x, own in zip(given, owned, strict=True)]

        def one(rank: int) -> Any:
            for name, share in zip(names, shares, strict=True):
                runtimes[rank].set_var(name, share[rank])
            runtimes[rank].run(code)
            return runtimes[rank].get_var("out0")

        return lambda: np.asarray(self.io.reconstruct(self.both(one)))

    def timed(self, run: Callable[[], Array]) -> dict[str, Any]:
        """One execution: its time, bytes and mark in the trace."""
        self.marks += 1
        seen = len(self.profile.read_text())
        self.note(f"begin{self.marks:04}")
        begun = time.process_time(), time.perf_counter()
        out = run()
        cpu, wall = time.process_time() - begun[0], time.perf_counter() - begun[1]
        self.note(f"end{self.marks:04}")
        sent = [int(n) for n in SENT.findall(self.profile.read_text()[seen:])]
        if len(sent) != len(PARTIES):
            sys.exit(f"expected a profile line of each party, got {len(sent)}")
        return {"cpu_s": cpu, "wall_s": wall, "bytes": sum(sent), "mark": self.marks, "out": out}

    def depth(self, mark: int) -> int:
        """Longest chain of messages of one execution."""
        for _ in range(100):  # the trace is written in blocks: what is asked for must not wait in one
            self.note("flush")
        text = self.trace.read_text(errors="replace")
        begin, end = (f"value={word.encode().hex()}\n" for word in (f"begin{mark:04}", f"end{mark:04}"))
        return chain(text[text.rindex(begin) : text.index(end)].splitlines()[1:-1])


def floats(x: Array) -> Array:
    """Words as float32, which holds them exactly."""
    return (x / np.float32(2**FRACTION)).astype(np.float32)


FUNCTIONS: dict[str, Function] = {
    "comparison with 0": lambda x: x >= 0,
    "multiplication, truncated": lambda x, y: x * y,
    "GeLU": gelu,
    "softmax": lambda x: jax.nn.softmax(x, axis=1),
    "argmax": lambda x: jnp.argmax(x, axis=1),
    "matrix product": lambda x, w: x @ w.T,
}


def layer(case: Case, form: str) -> tuple[Function, list[Array], list[bool]]:
    """A form of the layer, its inputs, and which of them are the server's."""
    x, residual, router = (floats(value) for value in inputs(case).values())
    E = case.sizes[2]
    if form == FLOOR:
        return floor, [x, residual, *map(floats, expert(case, 0))], [False, False, True, True, True]
    experts = [tuple(map(floats, expert(case, e))) for e in range(E)]
    owned = [False, False, True]
    if form == DENSE:
        return dense, [x, residual, router, *(w for one in experts for w in one)], owned + [True] * (3 * E)
    w1, v, w2 = zip(*experts, strict=True)
    if form == SELECT:
        flat = [np.stack([w.reshape(-1) for w in each]) for each in (w1, v, w2)]
        return select, [x, residual, router, *flat], owned + [True] * 3
    joined = [np.concatenate(w1), np.concatenate(v), np.concatenate(w2, axis=1)]
    return dense_cat, [x, residual, router, *joined], owned + [True] * 3


def least(parties: Parties, run: Callable[[], Array], repeats: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Least times and amortised bytes of many runs, and what the first run took more; with no repeats it counts."""
    first = parties.timed(run)
    runs = [] if repeats else [first]
    while len(runs) < max(repeats, 1) or (len(runs) < MOST_RUNS and sum(one["cpu_s"] for one in runs) < BUDGET):
        runs.append(parties.timed(run))
    best = min(runs, key=lambda found: found["cpu_s"])
    few = min(found["bytes"] for found in runs)
    best["wall_s"] = min(found["wall_s"] for found in runs)
    best["depth"] = parties.depth(min(runs, key=lambda found: found["bytes"])["mark"])
    refills = [turn for turn, found in enumerate(runs) if found["bytes"] > few + REFILL]
    whole = [found["bytes"] for found in runs[refills[0] + 1 : refills[-1] + 1]] if len(refills) > 1 else [few]
    best |= {"runs": len(runs), "refills": len(refills), "least_bytes": few, "bytes": sum(whole) / len(whole)}
    return best, {name: max(0, first[name] - best[name]) for name in ("cpu_s", "wall_s", "bytes")}


def measured(parties: Parties, case: Case, form: str) -> dict[str, Any]:
    if case.operation == LAYER and case.slices > 1:
        return sliced(parties, case)
    if case.operation == LAYER:
        function, given, owned = layer(case, form)
    else:
        function, given = FUNCTIONS[case.operation], [floats(value) for value in inputs(case).values()]
        owned = [False] * (len(given) - 1) + [case.operation == "matrix product"]
    exponential = libspu.RuntimeConfig.EXP_TAYLOR if case.operation == "softmax" else PADE
    best, extra = least(parties, parties.program(function, given, owned, exponential), case.repeats)
    return row(case, form, best, extra, best["out"])


def row(case: Case, form: str, best: dict[str, Any], extra: dict[str, Any], out: Array) -> dict[str, Any]:
    wanted = reference(case, form)
    exact = wanted.dtype.kind in "bi"
    error = float(np.abs(out.astype(np.float64) - wanted).max())
    if error > (0 if exact else MOST_ERROR):
        sys.exit(f"{case.operation} {form} {case.shape}: expected the float64 result, got it off by {error}")
    kept = {name: best[name] for name in ("cpu_s", "wall_s", "bytes", "least_bytes", "runs", "refills", "depth")}
    return {"form": form, **kept, "error": error, "set_up": {**extra, "depth": 0}}


def sliced(parties: Parties, case: Case) -> dict[str, Any]:
    """dense-cat of more experts than memory holds at once: the router with the probability, then the experts in equal
    slices, each a matrix of its own. Every slice is measured (once: keys and pools are there) and they add up; depth is
    that of the router and of one slice, as one matrix has it. x goes up once per slice: a few per cent of the bytes."""
    x, residual, router = (floats(value) for value in inputs(case).values())
    E = case.sizes[2]
    each = E // case.slices
    routing, extra = least(parties, parties.program(_joined_route, [x, router], [False, True]), 1)
    t, p = routing["out"][:, :E], routing["out"][:, E:]
    total = np.zeros_like(residual)
    for low in range(0, E, each):
        w1, v, w2 = zip(*(tuple(map(floats, expert(case, e))) for e in range(low, low + each)), strict=True)
        given = [x, t[:, low : low + each], np.concatenate(w1), np.concatenate(v), np.concatenate(w2, axis=1)]
        found = parties.timed(parties.program(gathered, given, [False, False, True, True, True]))
        total = total + found["out"]
        found["depth"] = parties.depth(found["mark"])
        found["least_bytes"] = found["bytes"]
        for name in ("cpu_s", "wall_s", "bytes", "least_bytes"):
            routing[name] += found[name]
    routing["depth"] += found["depth"]
    return row(case, DENSE_CAT, routing, extra, residual + p * total)


def _joined_route(x: Any, router: Any) -> Any:
    t, p = routed(x, router)
    return jnp.concatenate([t, p[:, None]], axis=1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        parties = Parties(Path(folder))
        for line in sys.stdin:
            case = CASES[int(line)]
            rows = [measured(parties, case, form) for form in case.forms]
            print(json.dumps({"digest": digest(case), "rows": rows}), flush=True)


if __name__ == "__main__":
    main()
