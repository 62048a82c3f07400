"""Small kept runs for the tests of reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from protocols.he.params import PARAM_SETS
from protocols.model.config import MoeConfig
from secmoe.layer import LayerRun
from secmoe.whole import ModelRun
from sim.message import Message
from sim.role import CLIENT
from sim.wire import BlobSpec
from sim.world import Execution
from transcripts.record import Recorder

SHAPE = MoeConfig(2, 2, 2, gated=False, activation="relu")
TINY = LayerRun("secmoe", "", 0, 1, SHAPE, PARAM_SETS["P32tiny"], "relu", "reassociated", "faithful")
MODEL = ModelRun("", 2, SHAPE, 5, 1, 1, 2, "one-hot", "class", PARAM_SETS["P64tiny"], "relu", "reassociated")
ANOTHER = replace(PARAM_SETS["P32tiny"], name="mine", kappa=41)


def keep(path: Path, run: LayerRun | ModelRun = TINY, seeded: bool = False, **public: Any) -> Path:
    """A sealed transcript of one message with the public parameters of a run, and more of them."""
    with Recorder(path, {**run.to_public(), **public}, seeded=seeded) as recorder:
        message = Message(CLIENT, "r1/moe_layer/x", "r1/moe_layer", 1, BlobSpec("x", 20), bytes(20))
        recorder.add(Execution({}, (message,), {}, {}, {}, "r1"))
        recorder.seal()
    return path
