"""Texts to ids, padding, patches: properties over any text, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.model.tokens import (
    LONGEST_NUMBER,
    PAD,
    RESERVED,
    UNKNOWN,
    EmptyText,
    ImageShapeError,
    PadError,
    TextTooLong,
    Vocabulary,
    pad_to,
    patches,
    split,
)

VOCABULARY = Vocabulary((*RESERVED, "free", "don't", "0000", "£", "!"))
MOST = 12


@given(st.text(max_size=200))
def test_split_is_stable_on_any_text(text: str) -> None:
    """Words are never empty, never reserved, carry no digit but 0, and splitting them again changes nothing."""
    words = split(text)
    assert all(word and word not in RESERVED for word in words)
    assert all(set(word) == {"0"} and len(word) <= LONGEST_NUMBER for word in words if word[0].isdecimal())
    assert split(" ".join(words)) == words


@given(st.text(max_size=80))
def test_encode_gives_one_id_a_word_or_refuses(text: str) -> None:
    words = split(text)
    if not words:
        with pytest.raises(EmptyText, match="at least one word"):
            VOCABULARY.encode(text, MOST)
    elif len(words) > MOST:
        with pytest.raises(TextTooLong, match=f"at most {MOST} tokens, got {len(words)}"):
            VOCABULARY.encode(text, MOST)
    else:
        ids = VOCABULARY.encode(text, MOST)
        assert PAD not in ids
        back = VOCABULARY.decode(ids)
        assert [
            a == b or (a == RESERVED[UNKNOWN] and b not in VOCABULARY.words) for a, b in zip(back, words, strict=True)
        ]
        assert all(a == b for a, b in zip(back, words, strict=True) if b in VOCABULARY.words)


def test_split_by_example() -> None:
    assert split("FREE entry!! Don’t miss £1000 &amp; call 08452810075over18's") == [
        *("free", "entry", "!", "!", "don't", "miss", "£", "0000", "call", "00000000000", "over", "00", "s")
    ]
    assert split("<pad> <unknown> 你好 ² 123456789012345") == ["pad", "unknown", "你好", "²", "00000000000"]


@given(st.integers(1, MOST), st.integers(-1, MOST + 3))
def test_padding_appends_up_to_a_public_length_or_refuses(n: int, length: int) -> None:
    ids = np.arange(2, n + 2)
    assert pad_to(ids, None, MOST) is ids
    if n <= length <= MOST:
        padded = pad_to(ids, length, MOST)
        assert padded.tolist() == ids.tolist() + [PAD] * (length - n)
    else:
        with pytest.raises(PadError, match=f"got {length}"):
            pad_to(ids, length, MOST)


def test_patches_cut_an_image_row_by_row() -> None:
    image = np.arange(16, dtype=np.uint8)
    assert (patches(image, 4, 2) * 16).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert (patches(image, 4, 4) * 16).tolist() == [image.tolist()]
    with pytest.raises(ImageShapeError, match="4 x 4"):
        patches(image[:15], 4, 2)
