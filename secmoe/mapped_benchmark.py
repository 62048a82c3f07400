"""A sparse layer whose experts stay in a file on disk: more of them than memory holds as words."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from protocols import functionalities as F
from protocols.he.service import HeService
from protocols.layer_plan import LayerPlan, LayerWeights
from protocols.model.config import MoeWeights
from protocols.model.fixed_point import FixedPoint
from protocols.model.mapped import MappedExperts
from protocols.moe import moe_layer
from secmoe.benchmarks import Draw, Layer, Subject, Words
from sim.cost import Cost
from sim.role import CLIENT, SERVER


@dataclass(frozen=True)
class Mapped:
    """A ReLU layer of two matrices an expert, weights of a real scale in float16, mapped from a safetensors file."""

    d: int
    f: int
    E: int
    n: int

    @property
    def name(self) -> str:
        return f"{self._layer.name}, mapped"

    @cached_property
    def _layer(self) -> Layer:
        return Layer(self.d, self.f, self.E, self.n, relu=True)

    @property
    def plan(self) -> LayerPlan:
        return self._layer.plan

    @property
    def cost(self) -> Cost:
        return self._layer.cost

    def subject(self) -> Subject:
        """Writes the file, maps it and unlinks it: it is gone with the last reference to its tensors."""
        plan = self.plan
        draw, service = Draw(plan.params), HeService(plan.plans)
        fixed_point = FixedPoint(plan.params.ring_bits, plan.params.frac_bits)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "layer.safetensors"
            self._write(path)
            w1, w2 = (MappedExperts.opened(path, [key], fixed_point) for key in ("w1", "w2"))
        router, x = draw.words(self.E, self.d, scale=self.d**-0.5), draw.words(self.n, self.d)
        mapped: Any = (w1, None, w2)  # in place of arrays: the engine asks for rows, nothing else reads them
        prepared = LayerWeights.prepare(service.prepare, plan, MoeWeights(router, *mapped))
        share = draw.shared(x)
        client, server = ([share[role], share[role], None] for role in (CLIENT, SERVER))
        server[-1] = prepared
        return Subject(moe_layer, plan, client, server, service, lambda: expected(plan, router, w1, w2, x))

    def _write(self, path: Path) -> None:
        """w1 (E, f, d) and w2 (E, d, f), expert by expert."""
        E, d, f = self.E, self.d, self.f
        size = 2 * E * f * d
        header = ", ".join(
            f'"{name}": {{"dtype": "F16", "shape": [{E}, {rows}, {columns}], "data_offsets": [{low}, {low + size}]}}'
            for name, rows, columns, low in (("w1", f, d, 0), ("w2", d, f, size))
        )
        rng = np.random.Generator(np.random.Philox(E))
        with path.open("wb") as file:
            text = f"{{{header}}}".encode()
            file.write(struct.pack("<Q", len(text)) + text)
            for _ in range(2 * E):
                file.write((rng.standard_normal(f * d, np.float32) * np.float32(d**-0.5)).astype(np.float16).tobytes())


def expected(plan: LayerPlan, router: Words, w1: MappedExperts, w2: MappedExperts, x: Words) -> Words:
    """The layer with x as its own residual, in plain integers, of one token and the one expert that it takes."""
    a, l = plan.arithmetic, plan.params.ring_bits
    logits = F.LINEAR.compute(x, router) >> np.int64(a.s)
    winners, hot = F.TOP_K.compute(logits, k=1, l=l)
    p = F.PROBABILITIES.compute(logits, winners, s=a.s, l=l, renormalise=False)
    chosen = int(np.argmax(hot))
    one, matrices = hot[:, :, chosen : chosen + 1], (w[chosen : chosen + 1, :] for w in (w1, w2))
    y = F.SELECTED_EXPERT.compute(one, x, *matrices, up=plan.up, arithmetic=a, activation=plan.activation)
    words: Words = x + ((p[..., None] * y).sum(1) >> np.int64(a.s))
    return words
