"""Which models and protocols `secmoe cost` prices: published shapes, shapes of checkpoints, and rivals by name."""

from __future__ import annotations

from pathlib import Path

from protocols.he.params import ParamSet
from protocols.layer_plan import LITERAL, REASSOCIATED, LayerPlan
from protocols.model.checkpoint.checkpoint import CONFIG
from protocols.model.checkpoint.layouts import CheckpointConfig
from protocols.model.checkpoint.tensors import read_json
from protocols.model.config import MoeConfig
from protocols.model.tables import Table
from protocols.pricing.configured import shape_from_config
from protocols.pricing.operators import SparseProtocol
from protocols.pricing.shapes import SHAPES, ModelShape
from secmoe.layer_protocols import PROTOCOLS, LayerProtocol

ALL = "all"
MOST_EXPERTS = 1 << 12
MOST_TOKENS = 1 << 12


class UnknownShape(ValueError):
    """A model that has no published shape here and is no checkpoint."""


class ExpertList(ValueError):
    """Numbers of experts, or of tokens, that are no such list."""


class UnknownProtocol(ValueError):
    """A protocol for sparse layers that is not built."""


def model_shape(given: str) -> ModelShape:
    """A published shape by name, or that of a checkpoint: its folder, or its config.json. UnknownShape;
    CheckpointConfig for a configuration of no known family."""
    if given in SHAPES:
        return SHAPES[given]
    path = Path(given)
    file = path / CONFIG if path.is_dir() else path
    if not file.is_file():
        raise UnknownShape(
            f"--model {given}: expected {', '.join(SHAPES)}, or a checkpoint's folder or config.json, there is none"
        )
    return shape_from_config(read_json(file, CheckpointConfig))


def numbers(text: str, what: str, most: int) -> tuple[int, ...]:
    """Whole numbers from 1 in a list with commas, each once. ExpertList."""
    found = tuple(text.split(","))
    told = f"--{what} {text}: expected whole numbers from 1 to {most:,}, such as 8,16,32"
    if not all(word.isdecimal() and len(word) <= len(str(most)) and 1 <= int(word) <= most for word in found):
        raise ExpertList(told)
    if len(set(map(int, found))) < len(found):
        raise ExpertList(f"{told}, each once")
    return tuple(map(int, found))


def sparse_protocols() -> dict[str, SparseProtocol]:
    """By name: what may compute the sparse layers of a model."""
    found = {name: _protocol(name, kind, REASSOCIATED) for name, kind in PROTOCOLS.items()}
    literal = {f"{name}-{LITERAL}": kind for name, kind in PROTOCOLS.items() if kind.literal}
    return found | {name: _protocol(name, kind, LITERAL) for name, kind in literal.items()}


def chosen_protocols(text: str) -> list[SparseProtocol]:
    """Protocols by their names in a list with commas, each once, or all of them. UnknownProtocol."""
    known = sparse_protocols()
    names = list(known) if text == ALL else text.split(",")
    wrong = [name for name in names if name not in known]
    if wrong or len(set(names)) < len(names):
        raise UnknownProtocol(f"--protocol {text}: expected {', '.join(known)}, each once, or {ALL}")
    return [known[name] for name in names]


def _protocol(name: str, kind: LayerProtocol, order: str) -> SparseProtocol:
    def plan(shape: MoeConfig, n: int, params: ParamSet, activation: Table | str) -> LayerPlan:
        """With the protocol's own set where it is one of the query's ring and fraction."""
        own = kind.params or params
        fits = (own.ring_bits, own.frac_bits) == (params.ring_bits, params.frac_bits)
        return kind.plan(shape, n, own if fits else params, activation, order)

    return SparseProtocol(name, kind.text, plan)
