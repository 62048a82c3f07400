"""The float Transformer against loops over scalars, its invariances, and the agreement of its entry points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocols.model.architecture import (
    NORM_EPSILON,
    ItemError,
    LayerError,
    Model,
    TaskError,
    TokenError,
    parameter_shapes,
)
from protocols.model.config import ModelConfig
from protocols.model.store import load_model
from protocols.model.tokens import PAD, PadError

Floats = NDArray[np.float64]

MODELS = {name: load_model(name) for name in ("sms", "digits")}


def random_model(seed: int, gated: bool = True, k: int = 1) -> Model:
    config = ModelConfig(
        d=6, f=4, E=5, k=k, gated=gated, layers=2, heads=3, max_tokens=7, vocabulary=9, classes=("a", "b", "c")
    )
    rng = np.random.default_rng(seed)
    return Model(config, {name: rng.normal(size=shape) for name, shape in parameter_shapes(config).items()})


def slow_forward(model: Model, tokens: list[int]) -> list[float]:
    """The whole model with lists and math alone."""
    c, w = model.config, {name: value.tolist() for name, value in model.parameters.items()}

    def dot(a: list[float], b: list[float]) -> float:
        return math.fsum(x * y for x, y in zip(a, b, strict=True))

    def norm(x: list[float], name: str) -> list[float]:
        mean = sum(x) / len(x)
        scale = 1 / math.sqrt(sum((a - mean) ** 2 for a in x) / len(x) + NORM_EPSILON)
        parts = zip(x, w[name + ".weight"], w[name + ".bias"], strict=True)
        return [(a - mean) * scale * weight + bias for a, weight, bias in parts]

    stream = [[a + b for a, b in zip(w["embedding"][t], w["position"][i], strict=True)] for i, t in enumerate(tokens)]
    real = [i for i, t in enumerate(tokens) if t != PAD]
    for layer in range(c.layers):
        own, width = f"layers.{layer}.", c.d // c.heads
        x = [norm(row, own + "norm1") for row in stream]
        q, key, v = ([[dot(m, row) for m in w[f"{own}attention.{n}"]] for row in x] for n in ("query", "key", "value"))
        for i, row in enumerate(stream):
            mixed: list[float] = []
            for h in range(c.heads):
                part = slice(h * width, (h + 1) * width)
                e = {j: math.exp(dot(q[i][part], key[j][part]) / math.sqrt(width)) for j in real}
                mixed += [sum(e[j] * v[j][part][a] for j in real) / sum(e.values()) for a in range(width)]
            stream[i] = [a + dot(m, mixed) for a, m in zip(row, w[own + "attention.output"], strict=True)]
        for i, row in enumerate(stream):
            x_i = norm(row, own + "norm2")
            e_i = [math.exp(dot(r, x_i)) for r in w[own + "router"]]
            for j in sorted(range(c.E), key=lambda j: -e_i[j])[: c.k]:
                hidden = [dot(r, x_i) for r in w[own + "w1"][j]]
                g = [a * (1 + math.erf(a / math.sqrt(2))) / 2 for a in hidden]
                if c.gated:
                    g = [a * dot(r, x_i) for a, r in zip(g, w[own + "v"][j], strict=True)]
                y = [dot(r, g) for r in w[own + "w2"][j]]
                stream[i] = [a + e_i[j] / sum(e_i) * b for a, b in zip(stream[i], y, strict=True)]
    finals = [norm(stream[i], "final_norm") for i in real]
    pooled = [sum(column) / len(real) for column in zip(*finals, strict=True)]
    return [dot(row, pooled) + bias for row, bias in zip(w["head.weight"], w["head.bias"], strict=True)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 8), min_size=1, max_size=4), st.integers(0, 3), st.booleans())
def test_forward_equals_loops_over_scalars(seed: int, ids: list[int], padding: int, gated: bool) -> None:
    model = random_model(seed, gated, k=1 + seed % 2)
    tokens = ids + [PAD] * padding
    assert np.allclose(model.forward(np.array(tokens)).logits, slow_forward(model, tokens), rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(item=st.integers(0, 400), length=st.integers(1, 40))
def test_padding_changes_no_logit_and_no_route(item: int, length: int) -> None:
    model = MODELS["sms"]
    bare = np.asarray(model.tokens_from_item(item))
    if length < len(bare):
        with pytest.raises(PadError):
            model.tokens_from_item(item, pad=length)
        return
    padded = model.tokens_from_item(item, pad=length)
    plain, wide = model.forward(bare), model.forward(padded)
    assert len(padded) == length and np.allclose(plain.logits, wide.logits, rtol=0, atol=1e-10)
    assert (wide.routes[:, : len(bare)] == plain.routes).all() and wide.routes.shape[1] == length


@pytest.mark.parametrize("name", MODELS)
def test_moe_inputs_are_the_states_inside_forward(name: str) -> None:
    """A forward pass whose MoE layers look at their inputs sees what moe_inputs says, and the routes of moe_layer."""
    model = MODELS[name]
    for item in range(5):
        tokens, seen = model.tokens_from_item(item), []

        def look(
            x: Floats, residual: Floats, layer: int, seen: list[tuple[Floats, Floats]] = seen
        ) -> tuple[Floats, NDArray[np.int64]]:
            seen.append((x, residual))
            return model.moe_layer(x, residual, layer)

        result = model.forward(tokens, look)
        assert (result.logits == model.forward(tokens).logits).all()
        for layer, (x, residual) in enumerate(seen):
            got = model.moe_inputs(tokens, layer)
            assert (got[0] == x).all() and (got[1] == residual).all() and x.shape == (len(tokens), model.config.d)
            assert (model.moe_layer(x, residual, layer)[1] == result.routes[layer]).all()


def test_moe_weights_have_the_layer_s_shapes() -> None:
    for model in (*MODELS.values(), random_model(1, gated=False)):
        for layer in range(model.config.layers):
            model.moe_weights(layer).check(model.config)
    assert random_model(1, gated=False).moe_weights(0).v is None


def test_bad_requests_are_refused_in_one_line() -> None:
    sms, digits = MODELS["sms"], MODELS["digits"]
    for layer in (-1, 2):
        with pytest.raises(LayerError, match="from 0 to 1"):
            sms.moe_weights(layer)
        with pytest.raises(LayerError, match="from 0 to 1"):
            sms.moe_inputs(sms.tokens_from_item(0), layer)
    for item in (-1, 359):
        with pytest.raises(ItemError, match="from 0 to 358"):
            digits.tokens_from_item(item)
    with pytest.raises(ItemError, match="got item 0: it comes without held-out items"):
        random_model(0).tokens_from_item(0)
    with pytest.raises(TaskError, match="got a text"):
        digits.tokens_from_text("seven")
    with pytest.raises(PadError, match="no padding of an image"):
        digits.tokens_from_item(0, pad=12)
    for tokens in ([0, 0], [1536], [-1], [], [2] * 41):
        with pytest.raises(TokenError, match="expected"):
            sms.forward(np.array(tokens, dtype=np.int64))
    with pytest.raises(TokenError, match="integer ids"):
        sms.forward(np.ones(3))
    with pytest.raises(TokenError, match=r"\(16, 4\)"):
        digits.forward(np.ones((16, 5)))
