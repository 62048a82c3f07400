"""The shape of a model from the configuration of its checkpoint."""

from __future__ import annotations

from protocols.model.checkpoint.layouts import CheckpointConfig, Fields, size, sparse_layers
from protocols.pricing.shapes import SPARSE, ModelShape

SWITCH = "switch_transformers"
LEFT_OUT = {
    "olmoe": "the norms of queries and keys",
    "qwen2_moe": "the biases of queries, keys and values, and the gate of the shared expert",
}
LOWEST_BASE = 1.0


def shape_from_config(fields: Fields) -> ModelShape:
    """Of a family that `sparse_layers` knows. Raises CheckpointConfig and ConfigError as it does."""
    layers, family = sparse_layers(fields), str(fields["model_type"])
    sparse, first = {layer.place for layer in layers}, layers[0]
    experts, name = (first.shape.E,), f"{family}-{first.shape.E}"
    if family == SWITCH:
        heads, width = size(fields, "num_heads"), size(fields, "d_kv")
        _require_split(first.shape.d, heads, width)
        encoder, decoder = (
            tuple(SPARSE if f"{side}.block.{i}" in sparse else first.shape.f for i in range(size(fields, count)))
            for side, count in (("encoder", "num_layers"), ("decoder", "num_decoder_layers"))
        )
        tied = fields.get("tie_word_embeddings", True) is True
        sizes = heads, heads, size(fields, "vocab_size")
        streams = encoder, decoder, experts
        return ModelShape(name, "config.json", first.shape, *sizes, *streams, epsilon=first.epsilon, tied=tied)
    heads = size(fields, "num_attention_heads")
    groups = size(fields, "num_key_value_heads") if fields.get("num_key_value_heads") is not None else heads
    if fields.get("head_dim") is not None:
        _require_split(first.shape.d, heads, size(fields, "head_dim"))
    count = size(fields, "num_hidden_layers")
    places = [f"model.layers.{i}" in sparse for i in range(count)]
    dense = SPARSE if all(places) else size(fields, "intermediate_size")
    base = fields.get("rope_theta", 1e4)
    if isinstance(base, bool) or not isinstance(base, int | float) or not base >= LOWEST_BASE:
        raise CheckpointConfig(f"expected a number from {LOWEST_BASE:g} for rope_theta, got {base!r:.40}: correct it")
    return ModelShape(
        name,
        "config.json",
        first.shape,
        heads,
        groups,
        size(fields, "vocab_size"),
        (),
        tuple(SPARSE if is_sparse else dense for is_sparse in places),
        experts,
        rotary=float(base),
        shared=first.shared,
        epsilon=first.epsilon,
        tied=fields.get("tie_word_embeddings") is True,
        left_out=LEFT_OUT.get(family, ""),
    )


def _require_split(d: int, heads: int, width: int) -> None:
    if heads * width != d:
        raise CheckpointConfig(
            f"expected heads of {d} / {heads} words, got {width}: only heads that split the width are built"
        )
