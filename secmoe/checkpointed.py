"""`secmoe run --checkpoint` and `secmoe model`: one sparse layer of a local Hugging Face checkpoint."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proofs.limits.row import bits
from protocols.layer_plan import REASSOCIATED, LayerWeights
from protocols.model.checkpoint.checkpoint import Rounding, open_checkpoint, rounding
from protocols.model.checkpoint.layouts import SparseLayer
from protocols.model.config import MoeWeights
from protocols.model.fixed_point import FixedPoint, quantise_weights
from protocols.truncate import FAITHFUL
from secmoe.exit import FAILED, SUCCESS
from secmoe.in_range import require_checkpoint_range, tightest
from secmoe.inputs import output_path, read_params, read_states
from secmoe.layer import LayerRun, activation_name
from secmoe.names import SECMOE
from secmoe.progress import Progress
from secmoe.report import ALL_NETWORKS, print_outcome
from secmoe.run import LayerInput, private_layer
from transcripts.show import open_console

MOST_TOKENS = 512
DEFAULT_MODEL = "sms"  # of the option that a checkpoint replaces
LEFT_OUT = "the shared expert, a dense layer, is left out"

Json = dict[str, Any]


class CheckpointOption(ValueError):
    """An option that a run of a checkpoint's layer does not have, or needs."""


def run_checkpoint(options: argparse.Namespace) -> int:
    """Run one sparse layer in private on given or random hidden states; exit 1 unless the output is what the
    fixed-point oracle admits. options: of `secmoe run` with a checkpoint."""
    _require_options(options)
    checkpoint = open_checkpoint(Path(options.checkpoint))
    layer = checkpoint.layer(options.layer)
    states = _states(options, layer.shape.d)
    hidden, residual = checkpoint.moe_inputs(states, options.layer)
    activation = activation_name(layer.shape, options.gelu, options.protocol)
    sizes = (checkpoint.name, options.layer, len(states), layer.shape, read_params(options.params))
    asked = LayerRun(options.protocol, *sizes, activation, options.order, options.truncation or FAITHFUL)
    out = output_path(options.out, checkpoint.name)
    weights = checkpoint.weights(options.layer)
    rounded = rounding(weights, asked.fixed_point)
    check = partial(require_checkpoint_range, weights, checkpoint.gain(options.layer), asked)
    outcome = private_layer(
        LayerInput(hidden, residual, weights, check),
        asked,
        out,
        seed=None if options.seed is None else str(options.seed).encode(),
        keep_private=options.record_private,
        progress=Progress(f"{checkpoint.name}, {len(states)} tokens"),
    )
    if options.json:
        print(json.dumps(outcome.to_json() | _place(layer) | {"rounding": [asdict(row) for row in rounded]}))
    else:
        console = open_console()
        _line(console, f"{layer.place} of {checkpoint.folder}{'; ' + LEFT_OUT if layer.shared else ''}")
        console.print(_rounding_table(rounded, asked.fixed_point))
        print_outcome(console, outcome, ALL_NETWORKS if options.network is None else (options.network,))
    return SUCCESS if outcome.comparison.within_bound else FAILED


def show_checkpoint(options: argparse.Namespace) -> int:
    """What a checkpoint holds; with a layer, what rounding does to its weights and what the parameter set admits.

    Raises WeightsOutOfBound for weights that the set does not admit, OutOfRange for a value that may leave the ring.
    """
    checkpoint = open_checkpoint(Path(options.folder))
    console = open_console()
    if options.layer is None:
        rows = [_layer_row(number, layer) for number, layer in enumerate(checkpoint.layers)]
        if options.json:
            print(json.dumps({"family": checkpoint.family, "tensors": len(checkpoint.tensors), "layers": rows}))
        else:
            _line(console, f"{checkpoint.folder}: {checkpoint.family}, {len(checkpoint.tensors)} tensors")
            console.print(_table([{key: str(value) for key, value in row.items()} for row in rows]))
        return SUCCESS
    layer = checkpoint.layer(options.layer)
    params = read_params(options.params)
    activation = activation_name(layer.shape, None)
    asked = LayerRun(SECMOE, checkpoint.name, options.layer, 1, layer.shape, params, activation, REASSOCIATED, FAITHFUL)
    fp = asked.fixed_point
    weights = checkpoint.weights(options.layer)
    rounded = rounding(weights, fp)
    noise = _noise(asked, weights)
    gain = checkpoint.gain(options.layer)
    require_checkpoint_range(weights, gain, asked)
    worst = tightest(weights, gain, asked)
    if options.json:
        limits = {"noise_room_bits": noise, "range": {"least_room": worst.name, "factor": float(worst.headroom)}}
        rows = [asdict(row) for row in rounded]
        print(
            json.dumps(
                {"family": checkpoint.family, **_place(layer), "rounding": rows, "params": params.name, **limits}
            )
        )
        return SUCCESS
    _line(console, f"{layer.place} of {checkpoint.folder}{'; ' + LEFT_OUT if layer.shared else ''}")
    console.print(_rounding_table(rounded, fp))
    room = ", ".join(f"{name} {free:.1f}" for name, free in noise.items())
    _line(console, f"{params.name} admits the weights; bits of noise to spare: {room}")
    _line(
        console,
        f"every value fits {asked.ring}; least room: {worst.name} <= {bits(worst.largest)}, limit {bits(worst.limit)}",
    )
    return SUCCESS


def _require_options(options: argparse.Namespace) -> None:
    model = None if options.model == DEFAULT_MODEL else options.model
    unfit = {"TEXT": options.text, "--answer": options.answer, "--pad": options.pad, "--model": model}
    for name, value in unfit.items():
        if value is not None:
            raise CheckpointOption(f"{name}: a layer of a checkpoint takes hidden states; leave it out")
    if options.layer is None:
        raise CheckpointOption("expected --layer I beside --checkpoint: secmoe model DIR lists the sparse layers")
    if (options.tokens is None) == (options.input is None):
        raise CheckpointOption("expected either --tokens N, random hidden states, or --input FILE.npy with its own")
    if options.tokens is not None and not 1 <= options.tokens <= MOST_TOKENS:
        raise CheckpointOption(f"--tokens: expected 1 to {MOST_TOKENS}, got {options.tokens}")


def refuse_tokens(options: argparse.Namespace) -> None:
    """Raises CheckpointOption for random hidden states of a model that takes texts or images."""
    if options.tokens is not None:
        raise CheckpointOption("--tokens: expected --checkpoint beside it; a shipped model takes a text or --input")


def _states(options: argparse.Namespace, d: int) -> NDArray[np.float64]:
    if options.input is not None:
        return read_states(options.input)
    return np.random.default_rng(options.seed).standard_normal((options.tokens, d))


def _noise(asked: LayerRun, weights: MoeWeights) -> dict[str, float]:
    """Bits by which each matrix's noise stays below what flooding hides. WeightsOutOfBound."""
    fp = asked.fixed_point
    words = quantise_weights(weights, fp)
    gate = None if words.v is None else fp.signed(words.v)
    signed = MoeWeights(fp.signed(words.router), fp.signed(words.w1), gate, fp.signed(words.w2))
    prepared = LayerWeights.prepare(asked.he.prepare, asked.plan, signed)
    found = {"router": prepared.router, **vars(prepared.experts)}
    kappa = asked.params.kappa
    return {name: own.report.flood - kappa - own.report.bound for name, own in found.items() if own is not None}


def _place(layer: SparseLayer) -> Json:
    return {"place": layer.place, "left_out": ["shared expert"] if layer.shared else []}


def _layer_row(number: int, layer: SparseLayer) -> Json:
    shape = layer.shape
    return {
        "layer": number,
        "place": layer.place,
        **{name: getattr(shape, name) for name in ("d", "f", "E", "k", "gated", "activation", "renormalise")},
        "parameters": sum(int(np.prod(size)) for size in layer.tensors().values()),
    }


def _rounding_table(rows: list[Rounding], fp: FixedPoint) -> Table:
    ulp = 2.0**-fp.s
    return _table(
        [
            {
                "rounded": row.name,
                "values": f"{row.values:,}",
                "largest": f"{row.largest:.4g}",
                "max error": f"{row.max_error:.2e}",
                "ulp": f"{row.max_error / ulp:.3f}",
                "rms error": f"{row.rms_error:.2e}",
                "rms ulp": f"{row.rms_error / ulp:.3f}",
                "lost": f"{row.lost:,}",
            }
            for row in rows
        ]
    )


def _table(rows: list[dict[str, str]]) -> Table:
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row.values()))
    return table


def _line(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)
