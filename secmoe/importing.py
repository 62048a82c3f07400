"""`secmoe import`: a foreign framework's trace as a kept run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.text import Text

from secmoe.exit import SUCCESS
from secmoe.inputs import output_path
from sim.role import CLIENT, SERVER
from transcripts.importers import Imported, keep
from transcripts.importers.spu import SpuImporter
from transcripts.show import open_console


class RootOption(ValueError):
    """--root that is not KEY=RANK."""


def import_trace(options: argparse.Namespace) -> int:
    """Import the traces of rank 0 and rank 1."""
    importer = SpuImporter(options.client_rank, options.content_length, dict(_root(text) for text in options.root))
    done = keep(importer, [Path(name) for name in options.traces], output_path(options.out, "spu"))
    if options.json:
        print(json.dumps(done.to_json()))
    else:
        open_console().print(Text("\n".join(_lines(done))), soft_wrap=True)
    return SUCCESS


def _root(text: str) -> tuple[str, int]:
    key, _, rank = text.rpartition("=")
    if not key or rank not in ("0", "1"):
        raise RootOption(f"--root: expected KEY=0 or KEY=1, with a key or a tag of the trace, got {text!r}")
    return key, int(rank)


def _lines(done: Imported) -> list[str]:
    sizes = f"{done.nbytes[CLIENT]:,} bytes client to server, {done.nbytes[SERVER]:,} back"
    told = [f"{done.path}: {done.messages:,} messages, {sizes}, at least {done.rounds:,} rounds"]
    if done.cut:
        told.append(f"cut by the trace: {done.cut:,} messages; their lengths are lower bounds")
    if done.uncertain:
        told.append(
            f"direction not in the trace: {done.uncertain:,} messages, of which half crossed the wire; see --root"
        )
    return [*told, f"seal   {done.seal.hex()}"]
