"""Which tensors a checkpoint's sparse layers have: names and shapes by family, from `config.json`.

Families, by `model_type`: switch_transformers [Switch], mixtral, olmoe, qwen2_moe. A sparse layer is the router, the
experts and the root-mean-square norm in front of them. Of qwen2_moe the routed experts alone: its shared expert, a
dense layer behind a sigmoid gate, is named, checked, and left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from types import MappingProxyType
from typing import Any

from protocols.model.config import Activation, MoeConfig

MOST = 1 << 20  # of a size in a configuration
MOST_LAYERS = 4096
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {"relu": "relu", "gelu": "gelu", "silu": "silu", "swish": "silu"}
)

Fields = Mapping[str, Any]
Shapes = dict[str, tuple[int, ...]]


class CheckpointConfig(ValueError):
    """A configuration that describes no checkpoint of a known family, or one that the layer cannot compute."""


@dataclass(frozen=True)
class SparseLayer:
    """One sparse layer. place: the block it stands in; moe: what all names of its sparse part begin with; router,
    experts, other: names after that; experts: of w1, v (gated) and w2, `{}` for the number; norm: whole name of the
    norm's weight [d]; epsilon: of the norm; capacity: the most tokens of a sequence that the family's expert takes,
    None for any number; shared: hidden width of a shared expert, 0 for none."""

    place: str
    shape: MoeConfig
    moe: str
    router: str
    experts: tuple[str, ...]
    norm: str
    epsilon: float
    capacity: int | None = None
    shared: int = 0

    def tensors(self) -> Shapes:
        """Name and shape of every tensor of the layer."""
        d, f, E = self.shape.d, self.shape.f, self.shape.E
        *first, last = self.experts
        found: Shapes = {self.norm: (d,), self.moe + self.router: (E, d)}
        for expert in range(E):
            found |= {self.moe + name.format(expert): (f, d) for name in first}
            found[self.moe + last.format(expert)] = (d, f)
        if self.shared:
            wide = {"gate_proj": (self.shared, d), "up_proj": (self.shared, d), "down_proj": (d, self.shared)}
            found |= {f"{self.moe}shared_expert.{name}.weight": shape for name, shape in wide.items()}
            found[self.moe + "shared_expert_gate.weight"] = (1, d)
        return found


def sparse_layers(fields: Fields) -> list[SparseLayer]:
    """All sparse layers of a configuration, in the order of computation. CheckpointConfig; ConfigError for shapes that
    describe no layer."""
    family = fields.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise CheckpointConfig(
            f"expected model_type {', '.join(FAMILIES)}, got {shortened(family)}: take a checkpoint of one of them"
        )
    layers = list(FAMILIES[family](fields))
    if not layers:
        raise CheckpointConfig(f"expected a sparse layer in the {family} configuration, got none: take another model")
    return layers


def _switch(fields: Fields) -> Iterator[SparseLayer]:
    if fields.get("router_bias") or fields.get("is_gated_act"):
        raise CheckpointConfig("expected router_bias and is_gated_act to be false, got true: no such layer is built")
    shape = MoeConfig(
        size(fields, "d_model"),
        size(fields, "d_ff"),
        size(fields, "num_experts"),
        gated=False,
        activation=_activation(fields, "dense_act_fn"),
    )
    epsilon, capacity = _epsilon(fields, "layer_norm_epsilon"), size(fields, "expert_capacity")
    for side, layers, sublayer in (("encoder", "num_layers", 1), ("decoder", "num_decoder_layers", 2)):
        count = size(fields, layers, MOST_LAYERS)
        step = _step(fields, f"{side}_sparse_step", f"num_sparse_{side}_layers", count)
        for i in range(count):
            if i % step == 1 or step == 1:
                place = f"{side}.block.{i}"
                own = f"{place}.layer.{sublayer}."
                names = ("experts.expert_{}.wi.weight", "experts.expert_{}.wo.weight")
                norm = own + "layer_norm.weight"
                yield SparseLayer(
                    place, shape, own + "mlp.", "router.classifier.weight", names, norm, epsilon, capacity
                )


def _step(fields: Fields, name: str, sparse: str, count: int) -> int:
    """Every how many blocks a sparse one comes; a file may name the number of sparse ones only."""
    if name in fields:
        return size(fields, name)
    return count // size(fields, sparse, count)


def _decoder_only(
    fields: Fields, part: str, router: str, experts: tuple[str, ...], count: str, width: str, norm_key: str | None
) -> Iterator[SparseLayer]:
    """Blocks `model.layers.I`, gated experts behind `post_attention_layernorm`. norm_key: the field that says whether
    probabilities are divided by their sum; None: they are."""
    k = size(fields, "num_experts_per_tok")
    shape = MoeConfig(
        size(fields, "hidden_size"),
        size(fields, width),
        size(fields, count),
        k,
        activation=_activation(fields, "hidden_act"),
        renormalise=norm_key is None or _flag(fields, norm_key),
    )
    epsilon = _epsilon(fields, "rms_norm_eps")
    for i in range(size(fields, "num_hidden_layers", MOST_LAYERS)):
        place = f"model.layers.{i}"
        norm = f"{place}.post_attention_layernorm.weight"
        yield SparseLayer(place, shape, f"{place}.{part}.", router, experts, norm, epsilon)


def _mixtral(fields: Fields) -> Iterator[SparseLayer]:
    names = ("experts.{}.w1.weight", "experts.{}.w3.weight", "experts.{}.w2.weight")
    return _decoder_only(
        fields, "block_sparse_moe", "gate.weight", names, "num_local_experts", "intermediate_size", None
    )


PROJECTIONS = ("experts.{}.gate_proj.weight", "experts.{}.up_proj.weight", "experts.{}.down_proj.weight")


def _olmoe(fields: Fields) -> Iterator[SparseLayer]:
    return _decoder_only(
        fields, "mlp", "gate.weight", PROJECTIONS, "num_experts", "intermediate_size", "norm_topk_prob"
    )


def _qwen2_moe(fields: Fields) -> Iterator[SparseLayer]:
    step, dense = size(fields, "decoder_sparse_step"), fields.get("mlp_only_layers") or []
    shared = size(fields, "shared_expert_intermediate_size")
    if not isinstance(dense, list):
        raise CheckpointConfig(f"expected a list of layers for mlp_only_layers, got {shortened(dense)}: correct it")
    layers = _decoder_only(
        fields, "mlp", "gate.weight", PROJECTIONS, "num_experts", "moe_intermediate_size", "norm_topk_prob"
    )
    for i, layer in enumerate(layers):
        if i not in dense and (i + 1) % step == 0:
            yield SparseLayer(**{**vars(layer), "shared": shared})


FAMILIES: Mapping[str, Callable[[Fields], Iterator[SparseLayer]]] = MappingProxyType(
    {"switch_transformers": _switch, "mixtral": _mixtral, "olmoe": _olmoe, "qwen2_moe": _qwen2_moe}
)


def size(fields: Fields, name: str, most: int = MOST) -> int:
    """A whole number from 1 in a configuration. CheckpointConfig."""
    value = fields.get(name)
    if type(value) is not int or not 1 <= value <= most:
        told = f"expected a whole number from 1 to {most} for {name}, got {shortened(value)}"
        raise CheckpointConfig(f"{told}: correct config.json")
    return value


def _flag(fields: Fields, name: str) -> bool:
    value = fields.get(name, False)
    if type(value) is not bool:
        raise CheckpointConfig(f"expected true or false for {name}, got {shortened(value)}: correct it")
    return value


def _epsilon(fields: Fields, name: str) -> float:
    value = fields.get(name)
    if not isinstance(value, float) or not 0 < value < 1 or not math.isfinite(value):
        raise CheckpointConfig(f"expected a number between 0 and 1 for {name}, got {shortened(value)}: correct it")
    return value


def _activation(fields: Fields, name: str) -> Activation:
    value = fields.get(name)
    if not isinstance(value, str) or value not in ACTIVATIONS:
        told = ", ".join(ACTIVATIONS)
        raise CheckpointConfig(f"expected {told} for {name}, got {shortened(value)}: no such activation is built")
    return ACTIVATIONS[value]
