"""The calls at which a protocol's theorem is proved over each ring width, where the width is a parameter."""

from __future__ import annotations

from protocols import functionalities as F
from protocols.entry import Case, Secret
from protocols.model.tables import GELU_MINIMAX
from protocols.truncate import ONE_ULP
from sim.ring import Z2, Ring, Spec
from sim.role import CLIENT, SERVER

WIDTHS = (8, 16, 32, 64)
NORMS = ("layer_norm", "rms_norm")
FRACTION = {8: 3, 16: 5, 32: 12, 64: 18}


def width_case(name: str, share_level: bool, l: int) -> Case | None:
    """A call of this protocol over Z_{2^l}, or None where it has no such width."""
    if l not in WIDTHS:
        return None
    ring, s = Ring(l), FRACTION[l]
    word, bit, f = Secret(ring, (2,)), Secret(Z2, (2,)), {"f": s}
    at = f"{l} bits"
    quarter = 1 << (l - 2)
    mine, theirs = Secret(ring, (2,), CLIENT), Secret(ring, (2,), SERVER)
    if share_level:
        return Case(at, (word,), {**f, "mode": ONE_ULP})
    simple: dict[str, Case] = {
        "reveal": Case(at, (word,)),
        "reveal_to": Case(at, (word,), leading=(CLIENT,)),
        "b2a": Case(at, (bit,), {"ring": ring}),
        "mux": Case(at, (bit, word)),
        "mux_rows": Case(at, (bit, Secret(ring, (2, 2)))),
        "mux_public": Case(at, (bit,), {"constants": (5, -(1 << (l // 2))), "ring": ring}),
        "less_than": Case(at, (mine, Secret(ring, (1, 2), SERVER)), {"shape": (2,), "bits": l, "need_equal": True}),
        "drelu": Case(at, (word,)),
        "greater_than": Case(
            at, (Secret(ring, (2,), None, -quarter, quarter - 1),), {"thresholds": (-5, -3, 0, 1, 1 << (l // 2))}
        ),
        "truncate": Case(at, (word,), f),
        "truncate_known_sign": Case(at, (Secret(ring, (2,), None, 0),), f),
        "truncate_bounded": Case(at, (Secret(ring, (2,), None, -quarter, quarter - 1),), f),
        "cross": Case(at, (mine, theirs), {"receiver": CLIENT, "spec": Spec(ring, (2,))}),
        "mul": Case(at, (word, word)),
        "cross_matmul": Case(
            at,
            (Secret(ring, (1, 2), CLIENT), Secret(ring, (2, 2), SERVER)),
            {"receiver": CLIENT, "left": Spec(ring, (1, 2)), "right": Spec(ring, (2, 2))},
        ),
        "matmul": Case(at, (Secret(ring, (1, 2)), Secret(ring, (2, 2)))),
        "square": Case(at, (word,)),
        "relu": Case(at, (word,)),
        "rectify": Case(at, (word,), f),
        "bits_at": Case(at, (word,), {**f, "ring": Ring(2)}),
        "table_at": Case(at, (bit,), {"entries": (-5, 1 << (l // 2)), "ring": ring}),
        "correlate": Case(at, (Secret(Z2, (2,), CLIENT), theirs), {"shape": (2,), "ring": ring}, (CLIENT,)),
        "top_k": Case(at, (Secret(ring, (1, 5), None, -quarter, quarter - 1),), {"k": 2, "l": l}),
        "maximum": Case(at, (Secret(ring, (1, 5), None, -quarter, quarter - 1),)),
        "argmax": Case(at, (Secret(ring, (1, 5), None, -quarter, quarter - 1),)),
    }
    if l >= 32:
        scale, spread = F.guard_bits(s, l), 3
        simple |= {
            "exp": Case(at, (Secret(ring, (2,), None, 1 - quarter, 0),), {"s": s, "l": l}),
            "reciprocal": Case(
                at, (Secret(ring, (2,), None, 1 << scale, 1 << (scale + spread)),), {"scale": scale, "spread": spread}
            ),
            "probabilities": Case(
                at,
                (Secret(ring, (1, 4), None, -quarter, quarter - 1), Secret(ring, (1, 2), None, -quarter, quarter - 1)),
                {"s": s, "l": l, "renormalise": False},
            ),
            "softmax": Case(at, (Secret(ring, (1, 3), None, -quarter // 2, quarter // 2 - 1),), {"s": s, "l": l}),
        }
        size, norm = (1 << (s + 1)) - 1, {"s": s, "reach": 1, "eps": 2.0**-4}
        simple |= {name: Case(at, (Secret(ring, (1, 4), None, -size, size),), norm) for name in NORMS}
    if l == 64:
        bound = (1 << 31) - 1
        simple["piecewise"] = Case(at, (Secret(ring, (2,), None, -bound, bound),), {"table": GELU_MINIMAX, "s": s})
    return simple.get(name)
