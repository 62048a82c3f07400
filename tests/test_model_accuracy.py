"""The whole model in fixed point on every held-out item: the classes are the float model's."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.model.encoder import STREAM_REACH, encoder
from protocols.model.fixed_point import FixedPoint, dequantise
from protocols.model.folded import client_words, fold
from tests.topic_source import needs_source, whole_model

POINTS = 0.005
# Least share of items of one class with the float model, and largest median error of a logit, by ring.
BOUNDS = {FixedPoint(64, 18): (1.0, 5e-3), FixedPoint(32, 12): (0.998, 1e-2)}


@pytest.mark.parametrize(
    "every",
    [
        pytest.param(4, id="every fourth", marks=pytest.mark.slow),
        pytest.param(1, id="all", marks=pytest.mark.nightly),
    ],
)
@pytest.mark.parametrize("fp", BOUNDS, ids=lambda fp: f"{fp.l} bits")
@pytest.mark.parametrize("name", ["sms", "digits", pytest.param("topic", marks=needs_source)])
def test_classes_of_held_out_items(name: str, fp: FixedPoint, every: int) -> None:
    model = whole_model(name)
    words, held_out = fold(model, fp), model.held_out
    assert held_out is not None
    fixed, plain, errors, highest = [], [], [], 0.0
    for i in range(0, len(held_out), every):
        tokens = model.tokens_from_item(i)
        trace, logits = encoder(client_words(model.config, tokens, fp), words, model.config, fp), model.forward(tokens)
        fixed.append(trace.label)
        plain.append(int(logits.logits.argmax()))
        errors.append(float(np.abs(dequantise(trace.logits, fp) - logits.logits).max()))
        highest = max(highest, float(np.abs(dequantise(trace.stream, fp)).max()))
    least, median = BOUNDS[fp]
    accuracy, float_accuracy = (float((np.array(found) == held_out.labels[::every]).mean()) for found in (fixed, plain))
    assert float((np.array(fixed) == np.array(plain)).mean()) >= least
    assert abs(accuracy - float_accuracy) <= POINTS
    assert float(np.median(errors)) < median
    assert highest < 2.0 ** (STREAM_REACH - 1)  # the norms' declared range, with a bit to spare
