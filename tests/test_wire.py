"""The wire encoding: exact lengths, one encoding per value, everything else refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.concrete import CONCRETE, from_words, to_words
from sim.ring import Ring, RingArray, Spec
from sim.shapes import SHAPES, blank
from sim.wire import (
    MOST_ELEMENTS,
    AnySpec,
    Blob,
    BlobSpec,
    WireMismatch,
    decode,
    describe,
    encode,
    spec_from_json,
    spec_of,
    spec_to_json,
)

SHAPES_ = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> RingArray:
    spec = Spec(Ring(draw(st.integers(1, 64))), draw(SHAPES_))
    edge = st.sampled_from([0, 1 % spec.ring.modulus, spec.ring.mask, spec.ring.modulus >> 1])
    words = draw(st.lists(st.one_of(edge, st.integers(0, spec.ring.mask)), min_size=spec.size, max_size=spec.size))
    return from_words(spec.ring, np.array(words, dtype=np.uint64).reshape(spec.shape))


def slow_encode(words: list[int], l: int) -> bytes:
    """One big integer: element i at bit i l, little-endian."""
    total = sum(word << (i * l) for i, word in enumerate(words))
    return total.to_bytes(-(-len(words) * l // 8), "little")


@given(arrays())
def test_encoding_is_the_little_endian_bit_stream(x: RingArray) -> None:
    data = encode(x)
    assert data == slow_encode([int(v) for v in to_words(x).reshape(-1)], x.ring.l)
    assert len(data) == x.spec.nbytes
    back = decode(data, x.spec)
    assert back.spec == x.spec
    assert back.backend is CONCRETE
    assert back.value.dtype == x.value.dtype
    assert np.array_equal(to_words(back), to_words(x))


@pytest.mark.parametrize("l", range(1, 65))
def test_every_width(l: int) -> None:
    """Odd counts, the all-ones word and a strided (transposed, broadcast) array."""
    ramp = np.arange(9, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) & np.uint64((1 << l) - 1)
    x = from_words(Ring(l), ramp.reshape(3, 3))
    for y in (x, x.transpose(), x[::2], x[:, 1:2].broadcast(3, 4), x.const(-1, (1,))):
        assert encode(y) == slow_encode([int(v) for v in to_words(y).reshape(-1)], l)
        assert np.array_equal(to_words(decode(encode(y), y.spec)), to_words(y))


@given(arrays(), st.integers(-2, 3))
def test_another_length_is_refused(x: RingArray, change: int) -> None:
    data = encode(x)
    wrong = data[:change] if change < 0 else data + bytes(change)
    if len(wrong) != len(data):
        with pytest.raises(WireMismatch, match=f"expected {len(data)} bytes .* got {len(wrong)}"):
            decode(wrong, x.spec)


@given(arrays())
def test_padding_must_be_zero(x: RingArray) -> None:
    data = bytearray(encode(x))
    for bit in range(x.spec.bits, 8 * len(data)):
        data[-1] ^= 1 << bit % 8
        with pytest.raises(WireMismatch, match=f"non-zero padding after {x.spec.bits} bits"):
            decode(bytes(data), x.spec)
        data[-1] ^= 1 << bit % 8


def test_decoded_words_are_not_the_senders_memory() -> None:
    data = bytearray(encode(from_words(Ring(64), [1, 2])))
    x = decode(bytes(data), Spec(Ring(64), (2,)))
    data[0] = 9
    assert to_words(x).tolist() == [1, 2]


@given(
    st.builds(Spec, st.integers(1, 64).map(Ring), SHAPES_)
    | st.builds(BlobSpec, st.text(), st.integers(0, MOST_ELEMENTS))
)
def test_specs_survive_json(spec: AnySpec) -> None:
    header = spec_to_json(spec)
    assert spec_from_json(header["kind"], header["dtype"], header["shape"]) == spec
    assert str(spec.nbytes) in describe(spec)


@pytest.mark.parametrize(
    "header",
    [
        ("ring", "z2^0", [1]),
        ("ring", "z2^65", [1]),
        ("ring", "z2^", [1]),
        ("ring", "z2^-1", [1]),
        ("ring", "z2^\u00b2", [1]),
        ("ring", "z2^08", [1]),
        ("ring", "z2^" + "9" * 5000, [1]),
        ("ring", "z2^8 ", [1]),
        ("ring", "u64", [1]),
        ("ring", "z2^8", [-1]),
        ("ring", "z2^8", [1.0]),
        ("ring", "z2^8", ["1"]),
        ("ring", "z2^8", [True]),
        ("ring", "z2^8", 3),
        ("ring", "z2^8", None),
        ("keys", "z2^8", [1]),
        ("keys", "bytes", []),
        ("keys", "bytes", [1, 2]),
        ("keys", "bytes", [-1]),
        ("keys", "bytes", ["x"]),
        ("keys", "float64", [1]),
        (3, "bytes", [1]),
    ],
    ids=lambda h: str(h)[:30],
)
def test_other_headers_are_refused(header: tuple[Any, Any, Any]) -> None:
    with pytest.raises(WireMismatch, match="expected a ring array or a byte string"):
        spec_from_json(*header)


def test_payloads_know_their_spec() -> None:
    x = blank(Spec(Ring(3), (5,)))
    assert x.backend is SHAPES
    assert spec_of(x) == Spec(Ring(3), (5,))
    assert spec_of(Blob(BlobSpec("keys", 7), None)) == BlobSpec("keys", 7)
    assert Blob(BlobSpec("keys", 7), None).nbytes == 7
    assert BlobSpec("keys", 7).shape == (7,)
