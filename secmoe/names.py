"""Names of the protocols that run one layer, with what each is: read by the parser, which loads no cryptography."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SECMOE, ROUTED = "secmoe", "plaintext-routing"
ALL, CAT, IRON, IRON_CAT = "evaluate-all", "evaluate-all-cat", "iron", "iron-cat"
COMPACT, SCATTER, BALANCED, ROOMIER, DOUBLE = "secmoe-compact", "scatter", "cryptomoe", "cryptomoe-1.5", "cryptomoe-2"
LAYER_PROTOCOLS: Mapping[str, str] = MappingProxyType(
    {
        SECMOE: "select one expert, then compute it",
        COMPACT: "the same with compact uploads of the selector: fewer bytes, more computation and keys",
        ROUTED: "the route is opened, which LEAKS it to both parties",
        ALL: "evaluate every expert, then select",
        CAT: "the same, all experts as one unit, which the one-hot masks",
        IRON: "evaluate-all without packed outputs, activations by look-up",
        IRON_CAT: "evaluate-all-cat likewise",
        SCATTER: "scatter the input over the experts, then one product with all of them",
        BALANCED: "a balanced capacity per expert, tokens beyond it dropped: ANOTHER FUNCTION",
        ROOMIER: "the same with half as much capacity again",
        DOUBLE: "the same with twice the capacity",
    }
)
