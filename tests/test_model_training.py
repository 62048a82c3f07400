"""The training network is the shipped architecture (needs the extra `train`)."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.model.architecture import HeldOut, Model, parameter_shapes
from protocols.model.config import ModelConfig
from protocols.model.store import load_model
from protocols.model.tokens import PAD

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("sklearn", reason="needs the extra `train`")


@pytest.mark.parametrize("name", ["sms", "digits"])
def test_torch_and_numpy_give_the_same_logits(name: str) -> None:
    from protocols.model.training.network import forward

    model = load_model(name)
    parameters = {key: torch.from_numpy(value) for key, value in model.parameters.items()}
    for item in range(20):
        tokens = np.asarray(model.tokens_from_item(item, pad=40 if name == "sms" else None))
        real = tokens != PAD if name == "sms" else np.ones(len(tokens), dtype=bool)
        logits, balance = forward(
            parameters, model.config, torch.from_numpy(tokens)[None], torch.from_numpy(real)[None], 0.0
        )
        assert np.allclose(logits[0].numpy(), model.forward(tokens).logits, rtol=0, atol=1e-9)
        assert balance >= 0


def test_initial_parameters_are_those_of_the_architecture() -> None:
    from protocols.model.training.network import initial

    config = ModelConfig(d=4, f=3, E=3, heads=2, vocabulary=4, classes=("a", "b"), max_tokens=5)
    shapes = {name: tuple(value.shape) for name, value in initial(config, torch.Generator()).items()}
    assert shapes == parameter_shapes(config)


def test_training_is_deterministic_and_learns() -> None:
    from dataclasses import replace

    from protocols.model.training import data
    from protocols.model.training.train import RECIPES, configuration, train

    source, recipe = data.digits(), replace(RECIPES["digits"], epochs=8)
    config = configuration("digits", source)
    first, second = (train(config, recipe, source.items[:300], source.labels[:300]) for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)
    model = Model(config, first, held_out=HeldOut(source.items[:300], source.labels[:300], np.zeros(1), np.zeros(1)))
    right = [model.forward(model.tokens_from_item(i)).logits.argmax() == source.labels[i] for i in range(300)]
    assert np.mean(right) > 0.5
