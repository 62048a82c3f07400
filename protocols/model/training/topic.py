"""The data set of `topic`: where does a sentence come from, a tweet, a film review, a product review or an editorial?

Read from the texts of Hutto and Gilbert (ICWSM 2014) inside the source distribution of vaderSentiment 0.5; none of that
package's code is run. Its sentences are not shipped: of the held-out part only digests, of the training part only words
that occur in at least LEAST_COUNT of its sentences.

Reviews and editorials come as sentences of numbered documents: a document is held out as a whole. Which one is decided
by the digest of its name, so that the split needs no seed.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protocols.model.tokens import split
from protocols.model.training.data import HELD_OUT_PART, Data, encoded, frequent_words, require_digest

SOURCE = "vaderSentiment-0.5.zip"
SOURCE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {
    "tweet": "tweets_GroundTruth.txt",
    "film": "movieReviewSnippets_GroundTruth.txt",
    "product": "amazonReviewSnippets_GroundTruth.txt",
    "editorial": "nytEditorialSnippets_GroundTruth.txt",
}
CLASSES = tuple(FILES)
LEAST_TOKENS = 6  # shorter sentences have no topic
MAX_TOKENS = 40
MOST_PER_CLASS = 3600  # near the smallest class: the others are thinned out
LEAST_COUNT = 5
VOCABULARY = 1536
DIGEST_BYTES = 16


@dataclass(frozen=True)
class Sentence:
    """words: normalised; label: index of the class; document: its name; own: digest of the words."""

    words: tuple[str, ...]
    label: int
    document: str
    own: bytes

    @property
    def held_out(self) -> bool:
        """Whether the sentence's document is one of the held-out fifth."""
        return _digest(self.document)[0] % HELD_OUT_PART == 0


def topic(source: Path) -> Data:
    """Sentences of LEAST_TOKENS to MAX_TOKENS tokens, each normalised word sequence once, at most MOST_PER_CLASS of a
    class; mixed. vocabulary from the training part alone. DataError for another source."""
    require_digest(source, SOURCE, SOURCE_SHA256)
    known: dict[tuple[str, ...], Sentence] = {}
    for sentence in _sentences(source):
        if LEAST_TOKENS <= len(sentence.words) <= MAX_TOKENS:
            known.setdefault(sentence.words, sentence)
    kept, counts = [], [0] * len(CLASSES)
    for sentence in sorted(known.values(), key=lambda sentence: sentence.own):
        counts[sentence.label] += 1
        if counts[sentence.label] <= MOST_PER_CLASS:
            kept.append(sentence)
    # Another order than the one that thins a class out, which would put its sentences first.
    ordered = sorted(kept, key=lambda sentence: sentence.own[::-1])
    parts = [[sentence for sentence in ordered if sentence.held_out is held] for held in (False, True)]
    rows, training = parts[0] + parts[1], len(parts[0])
    vocabulary = frequent_words([sorted(set(row.words)) for row in parts[0]], LEAST_COUNT, VOCABULARY)
    items = encoded([row.words for row in rows], vocabulary, MAX_TOKENS)
    digests = np.array([list(row.own) for row in parts[1]], dtype=np.uint8)
    return Data(items, np.array([row.label for row in rows]), training, vocabulary, digests)


def _sentences(source: Path) -> Iterator[Sentence]:
    with zipfile.ZipFile(source) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(ARCHIVE))) as archive:
        for label, (name, file) in enumerate(FILES.items()):
            member = archive.extractfile(f"hutto_ICWSM_2014/{file}")
            assert member is not None  # its digest is known: the member is there
            # The tweets and some film reviews hold bytes that are no UTF-8; what is replaced separates words.
            for line in member.read().decode("utf-8-sig", errors="replace").splitlines():
                number, _, text = line.split("\t", 2)
                words = tuple(split(text))
                yield Sentence(words, label, f"{name}/{number.split('_')[0]}", _digest(" ".join(words)))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()
