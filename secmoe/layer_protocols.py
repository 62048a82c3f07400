"""The protocols that run one layer: text, plan and weights of each, under the names of `secmoe.names`.

Every text is called (p, x, residual, weights, *, plan) and gives the words of the layer's own functionality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from protocols.baselines.concatenated import ConcatenatedPlan, evaluate_concatenated
from protocols.baselines.cryptomoe import BalancedPlan, DoublePlan, RoomierPlan, cryptomoe
from protocols.baselines.evaluate_all import EvaluateAllPlan, evaluate_all
from protocols.baselines.every_expert import EveryExpert
from protocols.baselines.iron import IronConcatenatedPlan, IronPlan
from protocols.baselines.plaintext_routing import RoutedPlan, RoutedWeights, plaintext_routing
from protocols.baselines.scatter import ScatterPlan, scatter
from protocols.expert_weights import Prepare
from protocols.he.params import PARAM_SETS, ParamSet
from protocols.layer_plan import CompactPlan, LayerPlan, LayerWeights
from protocols.model.config import MoeWeights
from protocols.moe import moe_layer, moe_layer_one_ulp
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
    literal order as well. look_up: whether its activations are look-ups unless another table is asked for. params: the
    set that its products fit best where they need less room than SecMoE's, None where they need as much."""

    text: ProtocolDecl[Any]
    plan: type[LayerPlan]
    weights: WeightsKind
    one_ulp: ProtocolDecl[Any] | None = None
    literal: bool = False
    look_up: bool = False
    params: ParamSet | None = None


PACKED, UNPACKED = PARAM_SETS["P64packed"], PARAM_SETS["P64unpacked"]
PROTOCOLS: Mapping[str, LayerProtocol] = MappingProxyType(
    {
        SECMOE: LayerProtocol(moe_layer, LayerPlan, LayerWeights, moe_layer_one_ulp, literal=True),
        COMPACT: LayerProtocol(moe_layer, CompactPlan, LayerWeights),
        ROUTED: LayerProtocol(plaintext_routing, RoutedPlan, RoutedWeights, params=PACKED),
        ALL: LayerProtocol(evaluate_all, EvaluateAllPlan, EveryExpert, params=PACKED),
        CAT: LayerProtocol(evaluate_concatenated, ConcatenatedPlan, LayerWeights, params=PACKED),
        IRON: LayerProtocol(evaluate_all, IronPlan, EveryExpert, look_up=True, params=UNPACKED),
        IRON_CAT: LayerProtocol(
            evaluate_concatenated, IronConcatenatedPlan, LayerWeights, look_up=True, params=UNPACKED
        ),
        SCATTER: LayerProtocol(scatter, ScatterPlan, LayerWeights, params=PACKED),
        BALANCED: LayerProtocol(cryptomoe, BalancedPlan, EveryExpert, params=PACKED),
        ROOMIER: LayerProtocol(cryptomoe, RoomierPlan, EveryExpert, params=PACKED),
        DOUBLE: LayerProtocol(cryptomoe, DoublePlan, EveryExpert, params=PACKED),
    }
)


def protocol_of(plan: LayerPlan) -> LayerProtocol:
    """The protocol that has such plans."""
    return next(found for found in PROTOCOLS.values() if found.plan is type(plan))
