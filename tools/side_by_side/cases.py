"""What is measured on both sides: operations, shapes, and inputs that both workers make from the same seed.

Imported in both environments: needs numpy only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FRACTION = 18  # bits; every input is a multiple of 2^-18 below 2^5, so that float32 holds it exactly
BREAKPOINTS = (-5.0, -3.0, -1.0, 1.0, 3.0)
ROWS = (  # (c0, c1, c2) of GeLU's pieces: the table `gelu-minimax` of protocols/model/tables.py, which a worker checks
    (0.0, 0.0, 0.0),
    (-0.04069814, -0.01884089, -0.00215829),
    (-0.34009633, -0.20955264, -0.03207229),
    (0.00668518, 0.5, 0.34134475),
    (-0.34009633, 1.20955264, -0.03207229),
    (0.0, 1.0, 0.0),
)
LAYER = "MoE layer"
DENSE, DENSE_CAT, SELECT, FLOOR = "dense", "dense-cat", "select", "floor"


@dataclass(frozen=True)
class Case:
    """One operation at one shape. forms: how SPU evaluates a layer; repeats: timed runs
    after a first, untimed one; 0: the first one is timed, in a session that the cases before have set up."""

    operation: str
    sizes: tuple[int, ...]
    forms: tuple[str, ...] = ("",)
    repeats: int = 3
    slices: int = field(default=1, compare=False)

    @property
    def shape(self) -> str:
        """As the table has it; a layer's is d, f, experts, tokens."""
        if self.operation == LAYER:
            return "d={} f={} E={} n={}".format(*self.sizes)
        return "x".join(map(str, self.sizes))


EVERY = (FLOOR, DENSE_CAT, SELECT, DENSE)
CASES = (
    Case("comparison with 0", (1 << 16,)),
    Case("multiplication, truncated", (1 << 16,)),
    Case("GeLU", (1 << 14,)),
    Case("softmax", (128, 128), repeats=2),
    Case("argmax", (1, 8)),
    Case("argmax", (1, 128)),
    Case("matrix product", (1, 768, 3072)),
    Case(LAYER, (64, 128, 8, 1), EVERY),
    Case(LAYER, (64, 128, 16, 8), EVERY),
    Case(LAYER, (768, 3072, 8, 1), EVERY, repeats=0),
    Case(LAYER, (768, 3072, 128, 1), (DENSE_CAT,), repeats=0, slices=16),
)


def integers(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray[Any, Any]:
    """About normal words at 18 fractional bits: the sum of four uniform ones, the same on every platform."""
    half = round(scale * 1.7320508 / 2 * 2**FRACTION)
    total = np.zeros(shape, np.int32)
    for part in range(4):
        total += np.random.Generator(np.random.Philox([seed, part])).integers(-half, half, shape, np.int32)
    return total


def inputs(case: Case) -> dict[str, np.ndarray[Any, Any]]:
    """Integers at 18 fractional bits, by name. A layer's experts come one by one: see `expert`."""
    name, sizes = case.operation, case.sizes
    if name == "matrix product":
        n, d, f = sizes
        return {"x": integers(1, n, d), "w": integers(2, f, d, scale=d**-0.5)}
    if name == LAYER:
        d, f, E, n = sizes
        return {"x": integers(1, n, d), "residual": integers(2, n, d), "router": integers(3, E, d, scale=d**-0.5)}
    if name.startswith("multiplication"):
        return {"x": integers(1, *sizes), "y": integers(2, *sizes)}
    return {"x": integers(1, *sizes, scale=3.0 if name == "GeLU" else 1.0)}


def expert(case: Case, e: int) -> tuple[np.ndarray[Any, Any], ...]:
    """w1 (f, d), v (f, d) and w2 (d, f) of expert e."""
    d, f = case.sizes[:2]
    base = 100 + 10 * e
    return (
        integers(base, f, d, scale=d**-0.5),
        integers(base + 1, f, d, scale=d**-0.5),
        integers(base + 2, d, f, scale=f**-0.5),
    )


def digest(case: Case) -> str:
    """Of the inputs and the last expert, so that the driver sees that both workers had the same."""
    found = hashlib.blake2b(digest_size=16)
    for value in inputs(case).values():
        found.update(value.tobytes())
    if case.operation == LAYER:
        for value in expert(case, case.sizes[2] - 1):
            found.update(value.tobytes())
    return found.hexdigest()


def gelu(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The piecewise polynomial in float64; segments are right-closed."""
    c = np.array(ROWS)[np.searchsorted(BREAKPOINTS, x, side="left")]
    return np.asarray(c[..., 0] + c[..., 1] * x + c[..., 2] * x * x)


def real(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Words as float64."""
    return x.astype(np.float64) / 2**FRACTION


def reference(case: Case, form: str = "") -> np.ndarray[Any, Any]:
    """The operation in float64."""
    given = {name: real(value) for name, value in inputs(case).items()}
    x = given["x"]
    if case.operation.startswith("comparison"):
        return np.asarray(x >= 0)
    if case.operation.startswith("multiplication"):
        return np.asarray(x * given["y"])
    if case.operation == "GeLU":
        return gelu(x)
    if case.operation == "softmax":
        e = np.exp(x - x.max(1, keepdims=True))
        return np.asarray(e / e.sum(1, keepdims=True))
    if case.operation == "argmax":
        return np.argmax(x, axis=1)
    if case.operation == "matrix product":
        return np.asarray(x @ given["w"].T)
    logits = x @ given["router"].T
    chosen = np.argmax(logits, axis=1)
    p = 1 / np.exp(logits - logits.max(1, keepdims=True)).sum(1)
    out = given["residual"].copy()
    for row, e in enumerate(chosen):
        w1, v, w2 = (real(part) for part in expert(case, 0 if form == FLOOR else int(e)))
        y = w2 @ (gelu(w1 @ x[row]) * (v @ x[row]))
        out[row] += y if form == FLOOR else p[row] * y
    return out
