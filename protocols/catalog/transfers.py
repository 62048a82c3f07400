"""Rows at the OT interface."""

from __future__ import annotations

from typing import Any

import numpy as np

from protocols import functionalities as F
from protocols.catalog.examples import R8, R64, owned
from protocols.entry import ASSUMED, Case, Entry, Values
from protocols.ot.chosen import bit_triples, choose, correlate, correlate_wide
from protocols.ot.ragged import correlate_ragged
from sim.ring import Z2, Ring
from sim.role import CLIENT, SERVER


def _deltas_as_one(arguments: list[Any]) -> list[Any]:
    bits, *deltas = arguments
    return [bits, None if deltas[0] is None else tuple(deltas)]


def _is_triple(outputs: Values) -> bool:
    a, b, c = outputs
    return np.array_equal(a[..., None] & b, c)


OBLIVIOUS_TRANSFER: tuple[Entry, ...] = (
    Entry(
        choose,
        tuple(
            Case(
                f"1 of {1 << w}, {width} bits",
                (owned(r, Ring(w), 3), owned(r.peer, Z2, 3, 1 << w, width)),
                {"shape": (3,), "n_choices": 1 << w, "width": width},
                (r,),
            )
            for r, w, width in ((CLIENT, 4, 2), (SERVER, 1, 1), (CLIENT, 4, 10))
        ),
        status=ASSUMED,
        functionality=F.LOOK_UP,
    ),
    Entry(
        correlate,
        tuple(
            Case(f"{ring.l} bits", (owned(r, Z2, 4), owned(r.peer, ring, 4)), {"shape": (4,), "ring": ring}, (r,))
            for r, ring in ((CLIENT, R64), (SERVER, Ring(19)), (CLIENT, Z2))
        ),
        status=ASSUMED,
        difference=True,
        functionality=F.MULTIPLEXER,
    ),
    Entry(
        correlate_wide,
        (
            Case(
                "64 and 7 bits",
                (owned(CLIENT, Z2, 4), owned(SERVER, R64, 4), owned(SERVER, Ring(7), 4)),
                {"shape": (4,), "rings": (R64, Ring(7))},
                (CLIENT,),
                arrange=_deltas_as_one,
            ),
        ),
        status=ASSUMED,
        difference=True,
        functionality=F.SHARED_BIT_PRODUCTS,
    ),
    Entry(
        correlate_ragged,
        (
            Case(
                "8, 7 and 6 bits",
                (owned(SERVER, Z2, 3, 4), *(owned(CLIENT, Ring(l), 4) for l in (8, 7, 6))),
                {"shape": (4,), "rings": (R8, Ring(7), Ring(6))},
                (SERVER,),
                arrange=_deltas_as_one,
            ),
            Case(
                "64 and 7 bits, rows of 3",
                (owned(CLIENT, Z2, 2, 4), *(owned(SERVER, Ring(l), 4, 3) for l in (64, 7))),
                {"shape": (4,), "rings": (R64, Ring(7)), "row": (3,)},
                (CLIENT,),
                arrange=_deltas_as_one,
            ),
        ),
        status=ASSUMED,
        difference=True,
        functionality=F.BIT_PRODUCTS,
    ),
    Entry(
        bit_triples,
        (Case("left with 2", (), {"shape": (5,), "right": 2}),),
        status=ASSUMED,
        relation=_is_triple,
    ),
)
