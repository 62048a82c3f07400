"""The protocols that run one layer: text, plan and weights of each, under the names of `secmoe.names`.

Every text is called (p, x, residual, weights, *, plan) and gives the words of the layer's own functionality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from protocols.baselines.concatenated import ConcatenatedPlan, ConcatenatedWeights, evaluate_concatenated
from protocols.baselines.cryptomoe import BalancedPlan, DoublePlan, RoomierPlan, cryptomoe
from protocols.baselines.evaluate_all import EvaluateAllPlan, EveryExpert, evaluate_all
from protocols.baselines.iron import IronConcatenatedPlan, IronPlan
from protocols.baselines.plaintext_routing import RoutedPlan, RoutedWeights, plaintext_routing
from protocols.baselines.scatter import ScatterPlan, ScatterWeights, scatter
from protocols.model.config import MoeWeights
from protocols.moe import CompactPlan, LayerPlan, LayerWeights, Prepare, moe_layer, moe_layer_one_ulp
from secmoe.names import ALL, BALANCED, CAT, COMPACT, DOUBLE, IRON, IRON_CAT, ROOMIER, ROUTED, SCATTER, SECMOE
from sim.party import ProtocolDecl


class PreparedLayer(Protocol):
    """The server's weights of a layer, prepared by its engine."""

    def responses(self, plan: Any) -> Sequence[tuple[Any, int]]:
        """What an engine answers at most in one query: (prepared weights, rows)."""


class WeightsKind(Protocol):
    """How the server's weights of a layer are prepared: the class of a `PreparedLayer`."""

    def prepare(self, prepare: Prepare, plan: Any, weights: MoeWeights) -> PreparedLayer:
        """Integer weights, encoded by an engine's own `prepare(plan, integers)`, or its error."""


@dataclass(frozen=True)
class LayerProtocol:
    """One way to run a layer. one_ulp: its declaration in one-ulp mode, None without one. literal: whether it has the
    literal order as well. look_up: whether its activations are look-ups unless another table is asked for."""

    text: ProtocolDecl[Any]
    plan: type[LayerPlan]
    weights: WeightsKind
    one_ulp: ProtocolDecl[Any] | None = None
    literal: bool = False
    look_up: bool = False


PROTOCOLS: Mapping[str, LayerProtocol] = MappingProxyType(
    {
        SECMOE: LayerProtocol(moe_layer, LayerPlan, LayerWeights, moe_layer_one_ulp, literal=True),
        COMPACT: LayerProtocol(moe_layer, CompactPlan, LayerWeights),
        ROUTED: LayerProtocol(plaintext_routing, RoutedPlan, RoutedWeights),
        ALL: LayerProtocol(evaluate_all, EvaluateAllPlan, EveryExpert),
        CAT: LayerProtocol(evaluate_concatenated, ConcatenatedPlan, ConcatenatedWeights),
        IRON: LayerProtocol(evaluate_all, IronPlan, EveryExpert, look_up=True),
        IRON_CAT: LayerProtocol(evaluate_concatenated, IronConcatenatedPlan, ConcatenatedWeights, look_up=True),
        SCATTER: LayerProtocol(scatter, ScatterPlan, ScatterWeights),
        BALANCED: LayerProtocol(cryptomoe, BalancedPlan, EveryExpert),
        ROOMIER: LayerProtocol(cryptomoe, RoomierPlan, EveryExpert),
        DOUBLE: LayerProtocol(cryptomoe, DoublePlan, EveryExpert),
    }
)


def protocol_of(plan: LayerPlan) -> LayerProtocol:
    """The protocol that has such plans."""
    return next(found for found in PROTOCOLS.values() if found.plan is type(plan))
