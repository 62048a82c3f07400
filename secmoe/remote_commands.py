"""The commands `secmoe serve`, `query`, `join` and `key`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from rich.text import Text

from protocols.model.architecture import Model
from protocols.model.store import load_model
from secmoe.conversing import LOOPBACK
from secmoe.exit import SUCCESS
from secmoe.inputs import RUNS, read_params, read_tokens
from secmoe.joining import join
from secmoe.layer import LayerRun, activation_name, layer_shape
from secmoe.progress import Progress
from secmoe.querying import connect, query
from secmoe.serving import LayerServer, Served, listen, serve
from sim.remote.cipher import PresharedKey
from transcripts.record import checked_output
from transcripts.show import open_console

SHOWN_WORDS = 8
FAITHFUL = "faithful"


class TimeoutOption(ValueError):
    """A time limit that is none."""


class LimitOption(ValueError):
    """A number of queries that ends before the first."""


def make_key(options: argparse.Namespace) -> int:
    """A fresh key in a new file."""
    path = Path(options.key_file)
    PresharedKey.create(path)
    told = f"{path}: 32 random bytes, mode 600; whoever has a copy can query the server and pose as either end"
    print(json.dumps({"key": str(path)}) if options.json else told)
    return SUCCESS


def serve_layer(options: argparse.Namespace) -> int:
    """Answer queries, one line each, until the limit."""
    timeout = _timeout(options)
    limit = 1 if options.once else options.limit
    if limit == 0:
        raise LimitOption("--limit 0: expected at least 1 query; leave the option out for any number")
    path = Path(options.key)
    fresh = not path.exists()
    model = load_model(options.model)
    run = _run(options, model, model.config.max_tokens)
    key = PresharedKey.create(path) if fresh else PresharedKey.read(path)
    if not options.no_record:
        Path(options.records).mkdir(exist_ok=True)
    records = None if options.no_record else Path(options.records)
    with listen(options.port) as listener:
        server = LayerServer(model, run, key, timeout=timeout, records=records, keep_private=options.record_private)
        port = listener.getsockname()[1]
        if options.json:
            print(json.dumps({"model": run.model, "layer": run.layer, "port": port, "key": str(path)}), flush=True)
        else:
            told = f"serving {run.model}, layer {run.layer}, parameters {run.params.name}, on {LOOPBACK}:{port}"
            print(f"{told}; key {path}{' (new: give it to the client)' if fresh else ''}", flush=True)
        serve(listener, server, limit, _tell_json if options.json else _tell)
    return SUCCESS


def _tell_json(served: Served) -> None:
    print(json.dumps(served.to_json()), flush=True)


def _tell(served: Served) -> None:
    bits = "nothing" if math.isinf(served.epsilon_bits) else f"2^-{served.epsilon_bits:.1f}"
    if served.error is not None:
        outcome = f"FAILED: {' '.join(served.error.split())}"
    else:
        outcome = f"answered, {served.tokens} tokens, {served.received:,} bytes in, {served.sent:,} out"
    record = "" if served.record is None else f"; transcript {served.record}"
    told = f"query {served.number}: {outcome}; {served.cpu:.2f} s CPU; epsilon so far {bits}{record}"
    print("".join(c if c.isprintable() else "?" for c in told), flush=True)


def query_layer(options: argparse.Namespace) -> int:
    """One query; prints the output's digest and first words."""
    timeout = _timeout(options)
    key = PresharedKey.read(Path(options.key))
    out = None if options.out is None else checked_output(options.out)
    model = load_model(options.model, front=options.layer)
    tokens = read_tokens(model, options.text, options.input, options.pad)
    run = _run(options, model, len(tokens))
    progress = Progress(f"{run.model}, {len(tokens)} tokens")
    try:
        answer = query(
            lambda: connect(options.port, timeout),
            model,
            tokens,
            run,
            key,
            out,
            RUNS,
            timeout=timeout,
            keep_private=options.record_private,
            progress=progress,
        )
    except Exception as error:
        for note in getattr(error, "__notes__", ()):
            print(f"secmoe: {note}", file=sys.stderr)
        raise
    if options.json:
        print(json.dumps(answer.to_json()))
        return SUCCESS
    console, costs = open_console(), answer.costs
    words = run.fixed_point.signed(answer.output).reshape(-1)[:SHOWN_WORDS] / 2.0**run.params.frac_bits
    lines = (
        f"{run.model}, layer {run.layer}: {run.tokens} tokens, parameters {run.params.name}, order {run.order}",
        f"output {answer.output.shape[0]} x {answer.output.shape[1]}: {' '.join(f'{word:.5f}' for word in words)} ...",
        f"    digest {answer.digest}",
        f"{costs.messages} messages, {costs.rounds} rounds, {costs.c2s:,} bytes out, {costs.s2c:,} in "
        f"({answer.sent:,} and {answer.received:,} on the wire), {answer.seconds:.2f} s",
        "the server learned: the number of tokens; the client learned: the output",
        f"transcript of this side {answer.record}\n    session {answer.session}\n    seal    {answer.seal}",
    )
    console.print(Text("\n".join(lines)), soft_wrap=True)
    return SUCCESS


def join_sides(options: argparse.Namespace) -> int:
    """Both sides' records as one transcript."""
    recorder = join(Path(options.client), Path(options.server), Path(options.out))
    seal = None if recorder.seal_value is None else recorder.seal_value.hex()
    if options.json:
        print(json.dumps({"transcript": str(recorder.path), "digest": recorder.chain.hex(), "seal": seal}))
    else:
        told = f"JOINED: both sides agree on every byte\ntranscript {recorder.path}"
        open_console().print(Text(f"{told}\n    digest {recorder.chain.hex()}\n    seal   {seal}"), soft_wrap=True)
    return SUCCESS


def _run(options: argparse.Namespace, model: Model, tokens: int) -> LayerRun:
    config = model.config
    activation = activation_name(config, options.gelu)
    shape, params = layer_shape(config), read_params(options.params)
    return LayerRun("secmoe", config.name, options.layer, tokens, shape, params, activation, options.order, FAITHFUL)


def _timeout(options: argparse.Namespace) -> float:
    if not 0 < options.timeout < 1e6:
        raise TimeoutOption(f"--timeout {options.timeout}: expected seconds above 0 and below a million")
    return float(options.timeout)
