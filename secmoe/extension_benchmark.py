"""Correlated OTs per second of CPU on one core, both parties together, and bytes of each: SoftSpoken and Ferret.

They are measured in turns in one process, so that their ratios do not depend on what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from protocols.ot.aes import TweakableHash
from protocols.ot.ferret import Iteration, mark, mark_delta
from protocols.ot.functionalities import COT
from protocols.ot.lpn import PRESETS, Preset
from protocols.ot.softspoken import (
    BASE_OTS,
    LeafStreams,
    base_choices,
    extend_receiver,
    extend_sender,
    extension_bits,
    grow_punctured,
    grow_trees,
)

COTS, TURNS = 1 << 18, 5
CHECKED = 9  # COTs of each turn that are held against their functionality
DELTA = bytes(range(200, 216))
SOFTSPOKEN = "SoftSpoken"


class WrongCots(ValueError):
    """An extension whose COTs are not the functionality's."""


def nbytes() -> dict[str, float]:
    """Bytes of a COT by the way it is made, without the reserve that an iteration of Ferret consumes."""
    presets = {f"Ferret {preset.name}": preset.nbytes / preset.net for preset in PRESETS}
    return {SOFTSPOKEN: extension_bits(COTS) / 8 / COTS, **presets}


def extension_rows() -> list[dict[str, Any]]:
    """A row for each way: its name, bytes of a COT, COTs per CPU second of both parties in the best of the turns."""
    ways = {SOFTSPOKEN: (COTS, _softspoken())}
    ways |= {f"Ferret {preset.name}": (preset.net, _ferret(preset)) for preset in PRESETS}
    for _, both in ways.values():
        both()
    turns = [{name: _cpu(both) for name, (_, both) in ways.items()} for _ in range(TURNS)]
    return [
        {"name": name, "bytes_per_cot": nbytes()[name], "cots_per_s": cots / min(turn[name] for turn in turns)}
        for name, (cots, _) in ways.items()
    ]


def _cpu(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _check(received: Any, choices: Any, sent: Any, delta: Any) -> None:
    if not np.array_equal(received[:CHECKED], COT.compute(choices[:CHECKED], sent[:CHECKED], delta)):
        raise WrongCots("OT extension: the COTs are not the functionality's; report this")


def _softspoken() -> Callable[[], None]:
    keys = np.random.default_rng(1).integers(0, 256, (BASE_OTS, 2, 16), dtype=np.uint8)
    prg = TweakableHash(b"k" * 16)
    leaves, sums = grow_trees(prg, keys)
    mine = LeafStreams(prg, leaves, None)
    chosen = keys[np.arange(BASE_OTS), base_choices(DELTA)]
    theirs = LeafStreams(prg, grow_punctured(prg, DELTA, chosen, sums), DELTA)

    def both() -> None:
        d, choices, t = extend_receiver(mine, COTS)
        q = extend_sender(theirs, DELTA, d, COTS)
        _check(t, choices, q, np.frombuffer(DELTA, np.uint64))

    return both


def _ferret(preset: Preset) -> Callable[[], None]:
    rng = np.random.default_rng(2)
    delta = mark_delta(np.frombuffer(DELTA, np.uint64))
    q, u = rng.integers(0, 2**64, (preset.reserve, 2), np.uint64), rng.integers(0, 2, preset.reserve, np.uint8)
    t = COT.compute(u, q, delta)
    mark(q, None)
    mark(t, u)
    y, z = np.zeros((preset.outputs, 2), np.uint64), np.zeros((preset.outputs, 2), np.uint64)

    def both() -> None:
        message = Iteration(b"bench", 0, preset).sender(delta, q, y)
        Iteration(b"bench", 0, preset).receiver(t, message, z)
        _check(z, (z[:CHECKED, 0] & np.uint64(1)).astype(np.uint8), y, delta)

    return both
