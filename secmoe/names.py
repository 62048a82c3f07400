"""Names of the protocols that run one layer, with what each is: read by the parser, which loads no cryptography."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SECMOE, ROUTED, SCATTER = "secmoe", "plaintext-routing", "scatter"
BALANCED, ROOMIER, DOUBLE = "cryptomoe", "cryptomoe-1.5", "cryptomoe-2"
LAYER_PROTOCOLS: Mapping[str, str] = MappingProxyType(
    {
        SECMOE: "select one expert, then compute it",
        ROUTED: "the route is opened, which LEAKS it to both parties",
        SCATTER: "scatter the input over the experts, then one product with all of them",
        BALANCED: "a balanced capacity per expert, tokens beyond it dropped: ANOTHER FUNCTION",
        ROOMIER: "the same with half as much capacity again",
        DOUBLE: "the same with twice the capacity",
    }
)
