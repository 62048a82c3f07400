"""Texts to token ids and images to patches; padding to a public length.

A text is unescaped from HTML, lowered and cut into words (letters with inner apostrophes), digit runs and the signs of
`SIGNS`; every digit becomes 0 and a run longer than LONGEST_NUMBER is cut, so that a phone number is one word of the
vocabulary. Anything else separates words. Id 0 pads, id 1 is a word outside the vocabulary.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

PAD = 0
UNKNOWN = 1
RESERVED = ("<pad>", "<unknown>")
SIGNS = "£$€!?"
LONGEST_NUMBER = 11

# A character reference that names no character, of more digits than Python converts.
_ENDLESS = re.compile(r"&#[0-9]{1000,};?")
_WORD = re.compile(rf"[^\W\d_]+(?:'[^\W\d_]+)*|\d+|[{re.escape(SIGNS)}]")


class EmptyText(ValueError):
    """A text without a single word."""


class TextTooLong(ValueError):
    """A text with more tokens than the model takes."""


class PadError(ValueError):
    """A padded length that is shorter than the tokens or longer than the model takes."""


class ImageShapeError(ValueError):
    """An image of the wrong size."""


def split(text: str) -> list[str]:
    """The words of a text, normalised as the module says."""
    text = html.unescape(_ENDLESS.sub("\N{REPLACEMENT CHARACTER}", text))
    plain = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return [_number(word) if word[0].isdecimal() else word for word in _WORD.findall(plain)]


def _number(word: str) -> str:
    return "0" * min(len(word), LONGEST_NUMBER)


@dataclass(frozen=True)
class Vocabulary:
    """Known words in id order; words[0] and words[1] are the reserved ones."""

    words: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {word: i for i, word in enumerate(self.words)})

    def encode(self, text: str, max_tokens: int) -> NDArray[np.int64]:
        """Ids [n], 1 <= n <= max_tokens; EmptyText or TextTooLong otherwise."""
        words = split(text)
        if not words:
            raise EmptyText("expected at least one word, got a text without any: type a message")
        if len(words) > max_tokens:
            raise TextTooLong(f"expected at most {max_tokens} tokens, got {len(words)}: shorten the text")
        return np.array([self._ids.get(word, UNKNOWN) for word in words], dtype=np.int64)

    def decode(self, ids: NDArray[np.int64]) -> list[str]:
        """The words of ids, reserved ones included."""
        return [self.words[i] for i in ids]


def pad_to(ids: NDArray[np.int64], length: int | None, max_tokens: int) -> NDArray[np.int64]:
    """ids followed by PAD up to `length`; unchanged for None. PadError unless len(ids) <= length <= max_tokens."""
    if length is None:
        return ids
    if not len(ids) <= length <= max_tokens:
        raise PadError(
            f"expected a padded length from {len(ids)}, the tokens, to {max_tokens}, the maximum, got {length}: "
            "choose a length in that range"
        )
    return np.concatenate([ids, np.full(length - len(ids), PAD, dtype=np.int64)])


def patches(image: NDArray[np.uint8], side: int, patch: int, white: int = 16) -> NDArray[np.float64]:
    """An image of side * side grey values 0 .. white as [(side / patch)^2, patch^2] in [0, 1], row by row."""
    if image.size != side * side:
        raise ImageShapeError(
            f"expected an image of {side} x {side} pixels, got {image.size} values: give one whole image"
        )
    m = side // patch
    blocks = image.reshape(m, patch, m, patch).swapaxes(1, 2).reshape(m * m, patch * patch)
    return np.asarray(blocks.astype(np.float64) / white)
