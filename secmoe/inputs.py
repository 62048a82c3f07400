"""What the user gives: a text, a held-out item or a file; a model; a parameter set; a place for the transcript."""

from __future__ import annotations

import json
import warnings
from datetime import datetime
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.he.params import PARAM_SETS, ParamSet, param_set
from protocols.model.architecture import Model, Tokens
from protocols.model.tokens import patches
from secmoe.layer import PARAMETER_FIELDS, ParameterFields, params_from_fields
from transcripts.layout import SUFFIX
from transcripts.record import checked_output

RUNS = Path("runs")
GREY_LEVELS = 16
MOST_INPUT_BYTES = 1 << 20  # a text or an image that a model takes is far smaller
MOST_STATES_BYTES = 1 << 26
MOST_DIGITS = 18


class NoInput(ValueError):
    """Neither a text nor an item nor a file, or more than one."""


class InputFileError(ValueError):
    """An input file that does not read."""


class PadOption(ValueError):
    """A padded length for an input that has only one."""


class ParameterFileError(ValueError):
    """A parameter file that does not read."""


def read_tokens(model: Model, text: str | None, item: str | None, pad: int | None) -> Tokens:
    """The tokens of TEXT, of held-out item N, or of a file: UTF-8 text, or an image (.npy, or numbers as text)."""
    if (text is None) == (item is None):
        raise NoInput(
            'expected either a text or --input: secmoe run "some text", or secmoe run --model digits --input 3'
        )
    if pad is not None and model.config.task == "image":
        raise PadOption(f"--pad {pad}: images of {model.config.name} have one length; leave the option out")
    if text is not None:
        return model.tokens_from_text(text, pad)
    assert item is not None
    if item.isdecimal():
        if len(item) > MOST_DIGITS:
            raise InputFileError(f"--input: expected the number of a held-out item, got one of {len(item)} digits")
        return model.tokens_from_item(int(item), pad)
    path = Path(item)
    if not path.is_file():
        fault = "that is not a regular file" if path.exists() else "there is no such file"
        raise InputFileError(f"--input {item}: expected the number of a held-out item or a file, {fault}")
    if (size := path.stat().st_size) > MOST_INPUT_BYTES:
        raise InputFileError(f"--input {item}: expected at most {MOST_INPUT_BYTES:,} bytes, got {size:,}; shorten it")
    if model.config.task == "text":
        try:
            return model.tokens_from_text(path.read_text(encoding="utf-8"), pad)
        except UnicodeDecodeError as error:
            raise InputFileError(f"--input {item}: expected UTF-8 text: {error}") from error
    return _image(model, path)


def _image(model: Model, path: Path) -> Tokens:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Mapped, so that a header's shape is held against the size of the file before memory is taken for it.
            grey = np.array(np.lib.format.open_memmap(path, "r") if path.suffix == ".npy" else np.loadtxt(path))
    except Exception as error:  # numpy's readers fail in a dozen ways on a file of another kind
        raise InputFileError(f"--input {path}: expected an image as .npy or as numbers in a text: {error}") from error
    if grey.dtype.kind not in "iuf" or not ((grey >= 0) & (grey <= GREY_LEVELS) & (grey == np.rint(grey))).all():
        raise InputFileError(f"--input {path}: expected whole grey values from 0 to {GREY_LEVELS}")
    return patches(grey.astype(np.uint8).reshape(-1), model.config.side, model.config.patch)


def read_states(name: str) -> NDArray[np.float64]:
    """Hidden states [tokens, d] from a .npy file of floating-point numbers. InputFileError."""
    path = Path(name)
    if not path.is_file():
        raise InputFileError(f"--input {name}: expected a .npy file of hidden states, there is no such file")
    if (size := path.stat().st_size) > MOST_STATES_BYTES:
        raise InputFileError(f"--input {name}: expected at most {MOST_STATES_BYTES:,} bytes, got {size:,}; shorten it")
    try:
        states = np.lib.format.open_memmap(path, "r")
    except Exception as error:  # numpy's reader fails in a dozen ways on a file of another kind
        raise InputFileError(f"--input {name}: expected hidden states as .npy: {error}") from error
    if states.dtype.kind != "f":
        raise InputFileError(f"--input {name}: expected floating-point hidden states, got {states.dtype}")
    return states.astype(np.float64)


def read_params(name: str) -> ParamSet:
    """A shipped parameter set by name, or one described in a JSON file; its 128-bit check always runs."""
    path = Path(name)
    if name in PARAM_SETS or path.suffix != ".json":
        return param_set(name)
    if path.exists() and not path.is_file():
        raise ParameterFileError(f"--params {name}: expected a file, got something that is not a regular file")
    try:
        if path.stat().st_size > MOST_INPUT_BYTES:
            raise ParameterFileError(f"--params {name}: expected at most {MOST_INPUT_BYTES:,} bytes; shorten it")
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ParameterFileError:
        raise
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, a number without end
        wanted = ", ".join(PARAMETER_FIELDS)
        raise ParameterFileError(f"--params {name}: expected a JSON object with {wanted}: {error}") from error
    try:
        return params_from_fields(fields)
    except ParameterFields as error:
        raise ParameterFileError(f"--params {name}: {error}") from error


def output_path(given: str | None, model: str) -> Path:
    """The transcript's place: the one given, or a fresh name in ./runs. Raises OutputError."""
    if given is not None:
        return checked_output(given)
    stem = f"{model}-{datetime.now():%Y%m%d-%H%M%S}"
    names = (stem + (f"-{copy}" if copy else "") for copy in count())
    return next(RUNS / (name + SUFFIX) for name in names if not any(RUNS.glob(f"*{name}.*")))
