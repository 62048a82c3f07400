"""Rows above the OT interface, on shares."""

from __future__ import annotations

import numpy as np

from protocols import functionalities as F
from protocols.boolean import conjoin
from protocols.catalog.examples import EXP64, R8, R32, R64, bit, owned, word
from protocols.compare import drelu, greater_than, less_than
from protocols.convert import b2a, mux, mux_public, mux_rows
from protocols.entry import DECLARED, Case, Entry, Secret, Values
from protocols.locate import locate
from protocols.matmul import cross_matmul, matmul
from protocols.model.tables import GELU_MINIMAX, GELU_PUBLISHED, SIGMOID_MINIMAX, SILU_MINIMAX
from protocols.nonlinear import exp, reciprocal, relu
from protocols.polynomial import piecewise
from protocols.products import cross, mul, square
from protocols.routing import one_hot, probabilities, top_k
from protocols.sharing import reveal, reveal_to
from protocols.truncate import ONE_ULP, truncate, truncate_bounded, truncate_known_sign
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER

EXP32 = {"s": 12, "l": 32}
GELU_RANGE = (1 << 31) - 1
GELU_THRESHOLDS = GELU_MINIMAX.words(18)[0]
R46 = Ring(46)  # a floor of 64 bits by 18
SILU46 = {"table": SILU_MINIMAX, "s": 18, "into": R64}


def _winners(values: Values) -> Values:
    """The second secret becomes the k largest of the first."""
    logits, k = values[0], values[1].shape[1]
    return logits, -np.sort(-logits, axis=1)[:, :k]


def _quarter(ring: Ring) -> Secret:
    """Words on which `truncate_bounded` is right."""
    quarter = 1 << (ring.l - 2)
    return word(4, ring=ring, low=-quarter, high=quarter - 1)


SHARES: tuple[Entry, ...] = (
    Entry(reveal, (Case("word", (word(3),)), Case("7-bit", (word(3, ring=Ring(7)),))), DECLARED, opened=True),
    Entry(
        reveal_to,
        tuple(Case(f"word to {role.value}", (word(3),), leading=(role,)) for role in (CLIENT, SERVER)),
        DECLARED,
    ),
    Entry(conjoin, (Case("two groups", (bit(4), bit(4, 2), bit(3), bit(3, 1))),)),
    Entry(b2a, (Case("64", (bit(5),), {"ring": R64}), Case("2", (bit(5),), {"ring": Ring(2)}))),
    Entry(mux, (Case("64", (bit(4), word(4))), Case("8", (bit(4), word(4, ring=R8))))),
    Entry(mux_rows, (Case("64", (bit(2, 3), word(2, 3, 4))), Case("8", (bit(4), word(4, 2, ring=R8))))),
    Entry(mux_public, (Case("two", (bit(4),), {"constants": (5, -(1 << 40)), "ring": R64}),)),
    Entry(
        less_than,
        tuple(
            Case(
                f"{bits} bits, w = {w}{', equal' if eq else ''}",
                (owned(CLIENT, Ring(bits), 3), owned(SERVER, Ring(bits), 2, 3)),
                {"shape": (3,), "bits": bits, "fold": 2, "w": w, "need_equal": eq},
            )
            for bits, w, eq in ((63, 4, False), (18, 3, False), (46, 4, True), (8, 2, False), (1, 4, False))
        ),
    ),
    Entry(drelu, (Case("64", (word(4),)), Case("64, w = 2", (word(4),), {"w": 2}), Case("8", (word(4, ring=R8),)))),
    Entry(
        greater_than,
        (
            Case(
                "5 thresholds", (word(3, low=-(1 << 62), high=(1 << 62) - 1),), {"thresholds": (-5, -3, 0, 1, 1 << 40)}
            ),
        ),
    ),
    Entry(
        locate,
        (
            Case("5 thresholds", (word(3, low=-(1 << 62), high=(1 << 62) - 1),), {"thresholds": GELU_THRESHOLDS}),
            Case(
                "46 bits",
                (word(3, ring=R46, low=-(1 << 44), high=1 << 44),),
                {"thresholds": (-5, 0, 1, 1 << 10), "w": 3},
            ),
            Case("8 bits", (word(4, ring=R8, low=-122, high=125),), {"thresholds": (-3, 0, 2)}),
        ),
    ),
    Entry(
        truncate,
        (
            Case("64 by 18", (word(4),), {"f": 18}),
            Case("64 by 18 into 46", (word(4),), {"f": 18, "into": R46}),
            Case("41 by 18 into 64", (word(4, ring=Ring(41)),), {"f": 18, "into": R64}),
            Case("32 by 12", (word(4, ring=R32),), {"f": 12}),
            Case("8 by 3", (word(4, ring=R8),), {"f": 3, "w": 2}),
        ),
    ),
    Entry(
        truncate,
        (Case("one-ulp, 64 by 18", (word(4),), {"f": 18, "mode": ONE_ULP}),),
        functionality=F.FLOOR_SHIFT_ONE_ULP,
        share_level=True,
    ),
    Entry(
        truncate_known_sign,
        (
            Case("64 by 24", (word(4, low=0),), {"f": 24}),
            Case("64 by 24, negative", (word(4, high=-1),), {"f": 24, "negative": True}),
            Case("8 by 3", (word(4, ring=R8, low=0),), {"f": 3}),
            Case("52 by 24 into 64", (word(4, ring=Ring(52), low=0),), {"f": 24, "into": R64}),
            Case("8 by 0 into 64, negative", (word(4, ring=R8, high=-1),), {"f": 0, "negative": True, "into": R64}),
            Case("52 by 6 into 50", (word(4, ring=Ring(52), low=0),), {"f": 6, "into": Ring(50)}),
        ),
    ),
    Entry(
        truncate_bounded,
        (
            Case("64 by 18", (_quarter(R64),), {"f": 18}),
            Case("8 by 3", (_quarter(R8),), {"f": 3}),
            Case("52 by 24 into 64", (_quarter(Ring(52)),), {"f": 24, "into": R64}),
            Case("64 by 24 into 50", (_quarter(R64),), {"f": 24, "into": Ring(50), "w": 2}),
            Case("8 by 0 into 64", (_quarter(R8),), {"f": 0, "into": R64}),
        ),
    ),
    Entry(
        cross,
        (
            Case(
                "64",
                (owned(CLIENT, R64, 3), owned(SERVER, R64, 3)),
                {"receiver": CLIENT, "spec": Spec(R64, (3,))},
            ),
        ),
    ),
    Entry(mul, (Case("64", (word(3), word(3))), Case("8", (word(3, ring=R8), word(3, ring=R8))))),
    Entry(
        cross_matmul,
        (
            Case(
                "64, two",
                (owned(SERVER, R64, 2, 1, 2), owned(CLIENT, R64, 2, 2, 3)),
                {"receiver": SERVER, "left": Spec(R64, (2, 1, 2)), "right": Spec(R64, (2, 2, 3))},
            ),
        ),
    ),
    Entry(
        matmul,
        (
            Case("64, bits of x", (word(2, 3), word(3, 2))),
            Case("64, two, bits of y", (word(2, 3, 2), word(2, 2, 1))),
            Case("8", (word(2, 2, ring=R8), word(2, 3, ring=R8))),
        ),
    ),
    Entry(square, (Case("64", (word(3),)), Case("8", (word(3, ring=R8),)))),
    Entry(relu, (Case("64", (word(4),)), Case("8", (word(4, ring=R8),)))),
    Entry(
        exp,
        (
            Case("64", (word(3, low=-(1 << 61), high=0),), EXP64),
            Case("32", (word(3, ring=R32, low=-(1 << 29), high=0),), EXP32),
            Case("64 into 52", (word(3, low=-(1 << 61), high=0),), {**EXP64, "into": Ring(52)}),
            Case("34 into 64", (word(3, ring=Ring(34), low=-(1 << 31), high=0),), {**EXP64, "into": R64}),
        ),
    ),
    Entry(
        reciprocal,
        (
            Case("64, to 8", (word(3, low=1 << 24, high=8 << 24),), {"scale": 24, "spread": 3}),
            Case("32, to 128", (word(3, ring=R32, low=1 << 14, high=128 << 14),), {"scale": 14, "spread": 7}),
        ),
    ),
    Entry(
        piecewise,
        (
            *(
                Case(
                    f"{table.name}, {form}",
                    (word(3, low=-GELU_RANGE, high=GELU_RANGE),),
                    {"table": table, "s": 18, "form": form},
                )
                for table in (GELU_PUBLISHED, GELU_MINIMAX)
                for form in ("cheapest", "mux")
            ),
            Case("silu-minimax, 46 into 64", (word(3, ring=R46, low=-(1 << 44), high=1 << 44),), SILU46),
            Case("sigmoid-minimax", (word(3, low=-(1 << 44), high=1 << 44),), {"table": SIGMOID_MINIMAX, "s": 18}),
        ),
    ),
    Entry(
        top_k,
        tuple(
            Case(f"E = {E}, k = {k}", (word(2, E, low=-(1 << 61), high=(1 << 61) - 1),), {"k": k, "l": 64})
            for E, k in ((2, 1), (5, 2), (8, 1), (13, 1))
        ),
    ),
    Entry(one_hot, (Case("E = 6", (bit(3, 3),), {"E": 6}), Case("E = 2", (bit(3, 1),), {"E": 2}))),
    Entry(
        probabilities,
        tuple(
            Case(
                f"E = {E}, k = {k}{', renormalised' if renorm else ''}",
                (word(2, E, low=-(1 << 40), high=0), word(2, k, low=-(1 << 40), high=0)),
                {**EXP64, "renormalise": renorm},
                adjust=_winners,
            )
            for E, k, renorm in ((5, 1, False), (4, 2, False), (4, 2, True))
        ),
    ),
)
