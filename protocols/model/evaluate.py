"""The figures of the model cards: `python -m protocols.model.evaluate sms`. From the shipped files alone (`topic`: and
its source, which holds its held-out items), no randomness but FOLD_SEED.

What routes reveal: a ridge classifier predicts an item's label from the experts its tokens took, in FOLDS-fold
cross-validation over the held-out items, classes weighted equally; the same classifier sees only the number of tokens,
for comparison.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.model.architecture import HeldOut, ItemError, Model, MoeFunction
from protocols.model.config import Array, ModelConfig, balanced_capacity
from protocols.model.fixed_point import FixedPoint, dequantise, quantise, quantise_weights
from protocols.model.oracle import sparse_moe_layer, with_room
from protocols.model.store import load_model, with_held_out
from protocols.model.tokens import PAD
from protocols.model.training.topic import topic

Floats = NDArray[np.float64]

FOLDS = 5
FOLD_SEED = 0
RIDGE = 1.0
FACTORS = (Fraction(1), Fraction(3, 2), Fraction(2))  # of capacity [CryptoMoE]
RINGS = (FixedPoint(64, 18), FixedPoint(32, 12))


def baseline_features(config: ModelConfig, items: Array) -> Floats:
    """What the linear baseline sees: which words occur [N, vocabulary], or the pixels [N, side^2] in [0, 1]."""
    if config.task == "image":
        return np.asarray(items, dtype=np.float64) / 16
    present = np.zeros((len(items), config.vocabulary))
    np.put_along_axis(present, items.astype(np.int64), 1.0, axis=1)
    present[:, PAD] = 0.0
    return present


def route_features(model: Model, routes: Sequence[NDArray[np.int64]]) -> Floats:
    """What a leaky server sees of each item: for text how often each (layer, expert) is taken, as shares and as
    presence; for images, whose patches have fixed places, the expert of each (layer, place)."""
    config, rows = model.config, []
    for route in routes:
        taken = np.eye(config.E)[route[:, :, 0]]  # [layers, n, E]
        if config.task == "image":
            rows.append(taken.ravel())
        else:
            counts = taken.sum(axis=1)
            shares = counts / counts.sum(axis=1, keepdims=True)
            rows.append(np.concatenate([shares.ravel(), np.minimum(counts, 1).ravel()]))
    return np.stack(rows)


def cross_validated(features: Floats, labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Predictions [N] of the ridge classifier, each from the folds that do not hold the item."""
    order = np.random.default_rng(FOLD_SEED).permutation(len(labels))
    predicted = np.empty(len(labels), dtype=np.int64)
    x = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    y = np.eye(classes)[labels] * 2 - 1
    for test in np.array_split(order, FOLDS):
        rest = np.setdiff1d(order, test)
        weight = 1.0 / np.bincount(labels[rest], minlength=classes)[labels[rest], None] * len(rest) / classes
        gram = x[rest].T @ (x[rest] * weight) + RIDGE * np.eye(x.shape[1])
        predicted[test] = (x[test] @ np.linalg.solve(gram, x[rest].T @ (y[rest] * weight))).argmax(axis=1)
    return predicted


def balanced(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Mean over the classes of the share of their items that is predicted right; chance is 1 / classes."""
    return float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)]))


def held_out_of(model: Model) -> HeldOut:
    """The held-out items; ItemError for a model without."""
    if model.held_out is None:
        raise ItemError(f"expected held-out items beside model {model.config.name}, got none: put their file there")
    return model.held_out


def fixed_moe(model: Model, fp: FixedPoint, factor: Fraction | None = None) -> MoeFunction:
    """The sparse MoE layers as the exact oracle computes them, with the default table; states back in float64.

    factor: with a balanced capacity of n k / E times so much per expert, of which the rest is dropped [CryptoMoE].
    """
    weights = [quantise_weights(model.moe_weights(i), fp) for i in range(model.config.layers)]

    def compute(x: Floats, residual: Floats, layer: int) -> tuple[Floats, NDArray[np.int64]]:
        words, room = (quantise(x, fp), quantise(residual, fp)), None
        if factor is not None:
            room = balanced_capacity(len(x), model.config.k, model.config.E, factor)
        trace = sparse_moe_layer(*words, weights[layer], model.config, fp, capacity=room)
        return dequantise(trace.output, fp), trace.routes

    return compute


def fixed_figures(model: Model) -> dict[str, Any]:
    """For each ring of RINGS: accuracy with both MoE layers in exact fixed point, everything else in float64, and the
    share of tokens and layers that take the same expert as in float64."""
    held_out, values = held_out_of(model), {}
    tokens = [model.tokens_from_item(i) for i in range(len(held_out))]
    plain = [model.forward(item) for item in tokens]
    for fp in RINGS:
        exact = fixed_moe(model, fp)
        fixed = [model.forward(item, exact) for item in tokens]
        predicted = np.array([trace.logits.argmax() for trace in fixed])
        same = np.concatenate([(one.routes == other.routes).ravel() for one, other in zip(plain, fixed, strict=True)])
        values[f"accuracy_l{fp.l}_s{fp.s}"] = float((predicted == held_out.labels).mean())
        values[f"route_agreement_l{fp.l}_s{fp.s}"] = float(same.mean())
    return values


def capacity_figures(model: Model, first: int | None = None) -> dict[str, Any]:
    """For each of FACTORS: accuracy with both MoE layers in exact fixed point and of balanced capacity, and the share
    of choices that are dropped; and the accuracy of nothing dropped. The rest of the model in float64. [CryptoMoE]

    first: only so many of the held-out items.
    """
    held_out, fp, config = held_out_of(model), RINGS[0], model.config
    labels = held_out.labels[:first]
    tokens = [model.tokens_from_item(i) for i in range(len(labels))]
    values = dict[str, Any]()
    for factor in (None, *FACTORS):
        moe = fixed_moe(model, fp, factor)
        found = [model.forward(item, moe) for item in tokens]
        name = "undropped" if factor is None else f"capacity_{float(factor):g}"
        values[f"accuracy_{name}"] = float((np.array([one.logits.argmax() for one in found]) == labels).mean())
        if factor is not None:
            layers = [routes for one in found for routes in one.routes]
            served = [with_room(r, balanced_capacity(len(r), config.k, config.E, factor)) for r in layers]
            values[f"dropped_{name}"] = float(1 - np.concatenate([s.ravel() for s in served]).mean())
    return values


def figures(model: Model) -> dict[str, Any]:
    """Every figure of the model card, by name."""
    held_out, config = held_out_of(model), model.config
    labels = held_out.labels
    tokens = [model.tokens_from_item(i) for i in range(len(held_out))]
    results = [model.forward(item) for item in tokens]
    predicted = np.array([result.logits.argmax() for result in results])
    scores = baseline_features(config, held_out.items) @ held_out.baseline_weight.T + held_out.baseline_bias
    linear = scores.argmax(axis=1)
    lengths = np.array([[len(item), np.log(len(item))] for item in tokens])
    routes = [result.routes for result in results]
    taken = np.eye(config.E)[np.concatenate(routes, axis=1)[:, :, 0]].sum(axis=1)  # [layers, E]
    from_routes = cross_validated(route_features(model, routes), labels, len(config.classes))
    from_length = cross_validated(lengths, labels, len(config.classes))
    counts = np.bincount(labels, minlength=len(config.classes))
    return {
        "model": config.name,
        "held_out": len(labels),
        "parameters": sum(value.size for value in model.parameters.values()),
        "largest_weight": max(float(np.abs(value).max()) for value in model.parameters.values()),
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": balanced(predicted, labels),
        "recall": {name: float((predicted[labels == c] == c).mean()) for c, name in enumerate(config.classes)},
        "linear_accuracy": float((linear == labels).mean()),
        "linear_balanced_accuracy": balanced(linear, labels),
        "majority_accuracy": float(counts.max() / counts.sum()),
        "expert_load": (taken / taken.sum(axis=1, keepdims=True)).tolist(),
        "label_from_routes_balanced": balanced(from_routes, labels),
        "label_from_length_balanced": balanced(from_length, labels),
    }


def show(values: dict[str, Any]) -> str:
    """The figures as one JSON object, one figure a line, numbers to four places."""
    rounded = json.loads(json.dumps(values), parse_float=lambda text: round(float(text), 4))
    return "{\n" + ",\n".join(f'  "{name}": {json.dumps(value)}' for name, value in rounded.items()) + "\n}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="The figures of a model card.")
    parser.add_argument("model", help="a shipped model or the path of a model file")
    parser.add_argument("--fixed", action="store_true", help="with the MoE layers in exact fixed point as well")
    parser.add_argument("--capacity", action="store_true", help="only what a balanced capacity of the experts costs")
    parser.add_argument("--source", type=Path, help="for topic: the file that its card names")
    options = parser.parse_args(arguments)
    model = load_model(options.model)
    if options.source is not None:
        found = topic(options.source)
        held_out = slice(found.training, None)
        model = with_held_out(model, found.items[held_out], found.labels[held_out], found.digests)
    if options.capacity:
        print(show(capacity_figures(model)))
        return
    print(show(figures(model) | (fixed_figures(model) if options.fixed else {})))


if __name__ == "__main__":
    main()
