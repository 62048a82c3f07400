"""Public shapes of Mixture-of-Experts Transformers: facts, each with its source.

[SecMoE] measures two models with 8 input tokens: "Switch-Base", which is [Switch]'s, and "MoE-Small", of which only the
size is published. [Mixtral], [OLMoE] and [DeepSeekMoE] are decoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from protocols.model.config import MoeConfig

BUCKETS = 32  # of T5's relative positions
SPARSE = 0


@dataclass(frozen=True)
class ModelShape:
    """Public sizes of a model whose blocks have the norm first.

    layer: of its sparse layers, with the number of experts that the model is published with. encoder, decoder: an entry
    per block, SPARSE or the hidden width of a dense feed-forward in its place; a decoder beside an encoder attends to
    it as well. groups: heads of keys and values. rotary: base of rotary positions, 0 for a table of relative ones.
    shared: hidden width of the experts that every token takes, together. epsilon: of the norms. tied: the head is the
    embedding. experts: to price by default. left_out: what the model has and this program prices nowhere.
    """

    name: str
    source: str
    layer: MoeConfig
    heads: int
    groups: int
    vocabulary: int
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    experts: tuple[int, ...]
    rotary: float = 0.0
    shared: int = 0
    epsilon: float = 1e-6
    tied: bool = False
    left_out: str = ""

    def with_experts(self, E: int) -> ModelShape:
        """The same model with another number of experts. ConfigError where that is no layer."""
        return replace(self, layer=replace(self.layer, E=E))

    @property
    def parameters(self) -> int:
        """Weights of the whole model."""
        d, E, matrices = self.layer.d, self.layer.E, 3 if self.layer.gated else 2
        attention = 2 * d * d + 2 * d * (d // self.heads * self.groups)
        sparse = E * matrices * d * self.layer.f + E * d + matrices * d * self.shared
        total = self.vocabulary * d * (1 if self.tied else 2)
        for blocks, attends in ((self.encoder, 1), (self.decoder, 2 if self.encoder else 1)):
            table = 0 if self.rotary else BUCKETS * self.heads
            total += len(blocks) * (attends * (attention + d) + d) + (d + table if blocks else 0)
            total += sum(sparse if width == SPARSE else matrices * d * width for width in blocks)
        return total


def _switch(name: str, source: str, d: int, f: int, heads: int, encoder: int, decoder: int, every: int) -> ModelShape:
    """T5's form: every so-manieth block is sparse, the others dense with the width of an expert."""

    def blocks(count: int) -> tuple[int, ...]:
        return tuple(SPARSE if i % every == every - 1 else f for i in range(count))

    layer = MoeConfig(d, f, 8, gated=False, activation="relu")
    kinds, experts = (blocks(encoder), blocks(decoder)), (16, 32, 64, 128)
    return ModelShape(name, source, layer, heads, heads, 32128, *kinds, experts, tied=True)


def _gated(d: int, f: int, E: int, k: int, renormalise: bool) -> MoeConfig:
    return MoeConfig(d, f, E, k, activation="silu", renormalise=renormalise)


_SHAPES = (
    _switch("switch-base", "[Switch], as google/switch-base-8 is configured", 768, 3072, 12, 12, 12, 2),
    _switch(
        "moe-small",
        "derived: [SecMoE] publishes 124M parameters at 8 experts and no shape; T5-small's widths, an encoder of 6 "
        "blocks, all sparse, have 123M",
        512, 2048, 8, 6, 0, 1,
    ),
    ModelShape(
        "mixtral-8x7b", "[Mixtral]", _gated(4096, 14336, 8, 2, True), 32, 8, 32000, (), (SPARSE,) * 32, (8,),
        rotary=1e6, epsilon=1e-5,
    ),
    ModelShape(
        "olmoe", "[OLMoE]", _gated(2048, 1024, 64, 8, False), 16, 16, 50304, (), (SPARSE,) * 16, (64,), rotary=1e4,
        epsilon=1e-5, left_out="the norms of queries and keys",
    ),
    ModelShape(
        "deepseekmoe", "[DeepSeekMoE], 16B", _gated(2048, 1408, 64, 6, False), 16, 16, 102400, (),
        (10944, *(SPARSE,) * 27), (64,), rotary=1e4, shared=2 * 1408,
    ),
)  # fmt: skip
SHAPES: Mapping[str, ModelShape] = MappingProxyType({shape.name: shape for shape in _SHAPES})
