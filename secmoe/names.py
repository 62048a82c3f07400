"""Names of the protocols that run one layer, with what each is: read by the parser, which loads no cryptography."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SECMOE, ROUTED, ALL, CAT = "secmoe", "plaintext-routing", "evaluate-all", "evaluate-all-cat"
LAYER_PROTOCOLS: Mapping[str, str] = MappingProxyType(
    {
        SECMOE: "select one expert, then compute it",
        ROUTED: "the route is opened, which LEAKS it to both parties",
        ALL: "evaluate every expert, then select",
        CAT: "the same, all experts as one unit, which the one-hot masks",
    }
)
