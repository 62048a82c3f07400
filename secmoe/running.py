"""`secmoe run`: what is asked for, made into a run of a whole model or of one layer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocols.he.params import ParamSet
from protocols.model.architecture import Model, Tokens
from protocols.model.store import load_model
from protocols.truncate import FAITHFUL
from secmoe.checkpointed import refuse_tokens, run_checkpoint
from secmoe.exit import FAILED, SUCCESS
from secmoe.inputs import output_path, read_params, read_tokens
from secmoe.layer import LayerRun, activation_name, layer_shape
from secmoe.names import SECMOE
from secmoe.progress import Progress
from secmoe.report import ALL_NETWORKS, print_outcome
from secmoe.run import LayerInput, private_layer
from secmoe.whole import ModelRun, checked_options, refused_answer
from secmoe.whole_run import print_model_outcome, private_model
from transcripts.show import open_console

Found = tuple[Any, Callable[..., None], bool]  # an outcome, how it is shown, and whether it is as it should be


def run(options: argparse.Namespace) -> int:
    """Run, record, print; exit 1 unless the output is what the fixed-point oracle admits. options: of `secmoe run`.

    Of a checkpoint one sparse layer runs. Otherwise, without a layer, the whole model runs, but for protocols of
    one layer, which every one but secmoe is: then the first.
    """
    if options.checkpoint is not None:
        return run_checkpoint(options)
    refuse_tokens(options)
    model = load_model(options.model)
    config = model.config
    tokens = read_tokens(model, options.text, options.input, options.pad)
    if options.layer is None and options.protocol != SECMOE:
        options.layer = 0
    if options.layer is not None:
        model.moe_weights(options.layer)
    kind = _model_outcome if options.layer is None else _layer_outcome
    outcome, show, good = kind(
        options,
        model,
        tokens,
        read_params(options.params),
        activation_name(config, options.gelu, options.protocol),
        output_path(options.out, config.name),
        {
            "seed": None if options.seed is None else str(options.seed).encode(),
            "keep_private": options.record_private,
            "progress": Progress(f"{config.name}, {len(tokens)} tokens", layers=config.layers),
        },
    )
    if options.json:
        print(json.dumps(outcome.to_json()))
    else:
        show(open_console(), outcome, ALL_NETWORKS if options.network is None else (options.network,))
    return SUCCESS if good else FAILED


def _model_outcome(
    options: argparse.Namespace,
    model: Model,
    tokens: Tokens,
    params: ParamSet,
    activation: str,
    out: Path,
    how: dict[str, Any],
) -> Found:
    """The whole model."""
    answer = checked_options(options.answer, options.truncation)
    asked = ModelRun.of(model.config, len(tokens), answer, params, activation, options.order)
    outcome = private_model(model, tokens, asked, out, **how)
    return outcome, print_model_outcome, outcome.answer.exact


def _layer_outcome(
    options: argparse.Namespace,
    model: Model,
    tokens: Tokens,
    params: ParamSet,
    activation: str,
    out: Path,
    how: dict[str, Any],
) -> Found:
    """One layer, on hidden states that are computed in the clear."""
    refused_answer(options.answer)
    sizes = (model.config.name, options.layer, len(tokens), layer_shape(model.config))
    truncation = options.truncation or FAITHFUL
    asked = LayerRun(options.protocol, *sizes, params, activation, options.order, truncation)
    outcome = private_layer(LayerInput.of(model, tokens, asked), asked, out, **how)
    return outcome, print_outcome, outcome.comparison.within_bound
