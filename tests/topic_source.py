"""The held-out items of `topic`, which are not shipped: from the file its card names, where the caller has it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from protocols.model.architecture import Model
from protocols.model.store import load_model, with_held_out
from protocols.model.training.topic import SOURCE, topic

VARIABLE = "SECMOE_TOPIC_SOURCE"
needs_source = pytest.mark.skipif(VARIABLE not in os.environ, reason=f"needs {SOURCE}: set {VARIABLE} to its path")


@cache
def whole_model(name: str) -> Model:
    """A shipped model with its held-out items."""
    model = load_model(name)
    if name != "topic":
        return model
    found = topic(Path(os.environ[VARIABLE]))
    held_out = slice(found.training, None)
    return with_held_out(model, found.items[held_out], found.labels[held_out], found.digests)
