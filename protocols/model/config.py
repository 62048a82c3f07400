"""Shapes and weights of the sparse Mixture-of-Experts layer and of the Transformer around it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from reprlib import repr as shortened
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Activation = Literal["gelu", "relu", "silu"]
Task = Literal["text", "image"]

# A model's name becomes part of file names and is printed.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
WHOLE_NUMBERS = ("d", "f", "E", "k", "layers", "heads", "max_tokens", "vocabulary", "side", "patch")
ACTIVATIONS: tuple[Activation, ...] = ("gelu", "relu", "silu")
LARGEST = 1 << 31  # of a number in a file
SHOWN = 120  # characters of a foreign value in an error


class ConfigError(ValueError):
    """A configuration that describes no layer."""


class WeightShapeError(ValueError):
    """Weights whose shapes differ from those the configuration names."""


@dataclass(frozen=True)
class MoeConfig:
    """The public shape of one sparse MoE layer.

    d model width, f hidden width of an expert, E experts, k selected per token. `gated`: W2(act(W1 x) * (V x)),
    otherwise W2(act(W1 x)). `renormalise`: the k selected probabilities are divided by their sum; only for k > 1,
    since for k = 1 that would be the constant 1 and the router could not be trained.
    """

    d: int
    f: int
    E: int
    k: int = 1
    gated: bool = True
    activation: Activation = "gelu"
    renormalise: bool = False

    def __post_init__(self) -> None:
        if min(self.d, self.f, self.k) < 1 or self.E < 2:
            raise ConfigError(
                f"expected d, f, k >= 1 and E >= 2, got d={self.d}, f={self.f}, k={self.k}, E={self.E}: "
                "correct the shape"
            )
        if self.k > self.E:
            raise ConfigError(f"expected k <= E, got k={self.k}, E={self.E}: select at most E experts")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"expected activation {', '.join(ACTIVATIONS)}, got {self.activation!r}: choose one")
        if self.renormalise and self.k == 1:
            raise ConfigError("expected renormalise only with k > 1, got k=1: use the plain top-1 probability")


def balanced_capacity(tokens: int, k: int, E: int, factor: Fraction) -> int:
    """Rows of an expert: factor times its mean load, rounded up, and no more than there are tokens. [CryptoMoE]"""
    return min(tokens, -(-tokens * k * factor // E))


@dataclass(frozen=True)
class MoeWeights:
    """Weights of one layer: float64, or uint64 words after quantisation.

    router [E, d], w1 [E, f, d], v [E, f, d] or None when not gated, w2 [E, d, f].
    """

    router: Array = field(repr=False)
    w1: Array = field(repr=False)
    v: Array | None = field(repr=False)
    w2: Array = field(repr=False)

    def check(self, config: MoeConfig) -> None:
        """Raise WeightShapeError unless the shapes are those of `config`."""
        d, f, E = config.d, config.f, config.E
        wanted = {"router": (E, d), "w1": (E, f, d), "v": (E, f, d) if config.gated else None, "w2": (E, d, f)}
        for name, shape in wanted.items():
            value = getattr(self, name)
            got = None if value is None else value.shape
            if got != shape:
                raise WeightShapeError(f"expected {name} of shape {shape}, got {got}: give weights of this shape")

    def bound(self) -> float:
        """The largest absolute value among the weights, which are floats."""
        parts = [self.router, self.w1, self.w2] + ([] if self.v is None else [self.v])
        return max(float(np.abs(part).max()) for part in parts)


@dataclass(frozen=True)
class ModelConfig(MoeConfig):
    """A whole encoder: `layers` blocks of width d, then layer norm, mean pool over real tokens and a linear head.

    task "text": tokens are ids below `vocabulary`; id 0 is padding and id 1 the unknown word. task "image": a token is
    a patch of `patch` x `patch` pixels out of `side` x `side`, flattened, scaled to [0, 1]. `classes` are the names of
    the head's outputs. `name`: up to 64 letters, digits and `_.-`, a letter or digit first.
    """

    name: str = "model"
    task: Task = "text"
    layers: int = 2
    heads: int = 4
    max_tokens: int = 48
    vocabulary: int = 0
    side: int = 0
    patch: int = 0
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"expected a name of up to 64 letters, digits and _.-, a letter or digit first, got {self.name!r}: "
                "rename the model"
            )
        if min(self.layers, self.heads, self.max_tokens) < 1:
            raise ConfigError(
                f"expected layers, heads, max_tokens >= 1, got layers={self.layers}, heads={self.heads}, "
                f"max_tokens={self.max_tokens}: correct the shape"
            )
        if self.d % self.heads:
            raise ConfigError(f"expected heads to divide d, got d={self.d}, heads={self.heads}: change one of them")
        if self.task not in ("text", "image"):
            raise ConfigError(f"expected the task text or image, got {self.task!r}: choose one")
        if self.task == "image" and (self.patch < 1 or self.max_tokens * self.patch**2 != self.side**2):
            raise ConfigError(
                f"expected max_tokens = (side / patch)^2, got side={self.side}, patch={self.patch}, "
                f"max_tokens={self.max_tokens}: correct one of them"
            )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**asdict(self), "classes": list(self.classes)}

    @staticmethod
    def from_json(fields: Any) -> ModelConfig:
        """The inverse of to_json; ConfigError on anything else: unknown or missing fields, values of another type."""
        names = {own.name for own in dataclasses.fields(ModelConfig)}
        if not isinstance(fields, dict) or not fields.keys() <= names:
            got = sorted(fields.keys() - names)[0] if isinstance(fields, dict) else type(fields).__name__
            raise ConfigError(f"expected the fields of a model configuration, got {shortened(got)}: correct them")
        for name, (holds, what) in _FIELDS.items():
            if name in fields and not holds(fields[name]):
                raise ConfigError(f"expected {what} for {name}, got {shortened(fields[name])[:SHOWN]}: correct it")
        try:
            return ModelConfig(**{**fields, "classes": tuple(fields["classes"])})
        except (TypeError, KeyError) as error:
            raise ConfigError(f"expected the fields of a model configuration, one is missing: {error}") from error


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_word, value))


# What a value from a file must be; ranges are the business of the class.
_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = MappingProxyType(
    {
        **dict.fromkeys(WHOLE_NUMBERS, (_is_size, f"a whole number from 0 to {LARGEST}")),
        **dict.fromkeys(("gated", "renormalise"), (lambda value: type(value) is bool, "true or false")),
        **dict.fromkeys(("name", "task", "activation"), (_is_word, "a printable text")),
        "classes": (_are_words, "a list of printable names"),
    }
)
