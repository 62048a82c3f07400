"""Rows of maxima, softmax and norms."""

from __future__ import annotations

from protocols.catalog.examples import EXP64, R8, R32, R64, word
from protocols.catalog.layers import TINY
from protocols.entry import Case, Entry, Secret
from protocols.norms import layer_norm, rms_norm, rsqrt
from protocols.row_products import RowPlan, row_squares
from protocols.softmax import argmax, maximum, softmax
from sim.ring import Ring

EXP32 = {"s": 12, "l": 32}
CAUSAL = ((True, False, False), (True, True, False), (True, True, True))
UNIT = {"unit": 1 << 30, "bits": 24, "scale": 24}
NORM64 = {"s": 18, "reach": 1, "eps": 2.0**-4}
NORM32 = {**NORM64, "s": 12}
ROWS = RowPlan(TINY, 2, 4)


def _wide(*shape: int, ring: Ring = R64, margin: int = 2) -> tuple[Secret, ...]:
    """A word of the lowest quarter (or eighth) of its ring in size."""
    half = 1 << (ring.l - margin)
    return (word(*shape, ring=ring, low=-half, high=half - 1),)


def _rows(bits: int) -> Secret:
    return word(2, 4, low=1 - (1 << bits), high=(1 << bits) - 1)


NORMS: tuple[Entry, ...] = (
    Entry(
        maximum,
        (Case("64, 5 of them", _wide(2, 5)), Case("8, 4 of them", _wide(2, 4, ring=R8)), Case("one", _wide(3, 1))),
    ),
    Entry(
        argmax,
        (Case("64, 5 classes", _wide(2, 5)), Case("64, 2 classes", _wide(2, 2)), Case("8, 4", _wide(2, 4, ring=R8))),
    ),
    Entry(
        softmax,
        (
            Case("64, 3 of them", _wide(2, 3, margin=3), EXP64),
            Case("64, causal", _wide(1, 3, 3, margin=3), {**EXP64, "allowed": CAUSAL}),
            Case("34 into 64, 2 of them", _wide(1, 2, ring=Ring(34), margin=3), {**EXP64, "into": R64}),
            Case("32, 2 of them", _wide(2, 2, ring=R32, margin=3), EXP32),
        ),
    ),
    Entry(
        rsqrt,
        (
            Case("64, 5 octaves", (word(3, low=1 << 28, high=(1 << 33) - 1),), {**UNIT, "low": 28, "high": 33}),
            Case(
                "36, one octave",
                (word(3, ring=Ring(36), low=1 << 30, high=(1 << 31) - 1),),
                {**UNIT, "low": 30, "high": 31},
            ),
        ),
    ),
    *(
        Entry(
            norm,
            (
                Case("64, 4 words", (_rows(19),), NORM64),
                Case("32, 3 words", (word(1, 3, ring=R32, low=1 - (1 << 13), high=(1 << 13) - 1),), NORM32),
                Case("64, under encryption", (_rows(19),), {**NORM64, "plan": ROWS}, plans=ROWS.plans),
            ),
        )
        for norm in (layer_norm, rms_norm)
    ),
    Entry(row_squares, (Case("2 rows of 4", (word(2, 4),), {"plan": ROWS}, plans=ROWS.plans),)),
)
