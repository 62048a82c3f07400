"""One private layer as a recordable fact: public parameters, and each party's inputs.

`LayerRun` is everything both parties know. It goes into a transcript as JSON and comes back from it, so that a replay
rebuilds exactly the session that was recorded. Nothing secret passes through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.params import PARAM_SETS, SECURITY_CAP_BITS, ParamSet
from protocols.he.service import HeService, query_cost
from protocols.layer_plan import REASSOCIATED, LayerPlan
from protocols.model.config import NAME, MoeConfig, MoeWeights
from protocols.model.fixed_point import FixedPoint
from protocols.model.tables import APPROXIMATIONS, DEFAULT_TABLES, LOOK_UPS, TABLES, Approximation, Table
from protocols.ot.service import OtService
from protocols.truncate import FAITHFUL
from secmoe.layer_protocols import PROTOCOLS, LayerProtocol, PreparedLayer
from secmoe.names import SECMOE
from secmoe.version import program_version
from sim.concrete import from_words, to_words
from sim.party import ProtocolDecl
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.tape import Tape, derive_key, draw_nbytes, words_from_bytes
from sim.wire import quoted
from sim.world import Execution, Session
from transcripts.private import PrivateSide

GELU_TABLES = {"minimax": "gelu-minimax", "published": "gelu-published"}
PARAMETER_FIELDS = tuple(name for name in ParamSet.__dataclass_fields__ if name != "insecure_test")
WORDS = ("protocol", "model", "activation", "order", "truncation")
WEIGHT_NAMES = ("router", "w1", "v", "w2")
DELIVERED = "delivered"  # the public parameter of a kept run in which the client was given its output

LARGEST = 1 << 20  # of a number in a file: a replay of larger sizes would only run out of memory

Arrays = Mapping[str, NDArray[Any]]


class ActivationOption(ValueError):
    """An option for an activation that the model does not have."""


class ProtocolOption(ValueError):
    """An option that the protocol of a run does not have."""


class ParameterFields(ValueError):
    """JSON values that describe no parameter set."""


class UnreadableRun(ValueError):
    """Public parameters that this program cannot rebuild a run from."""


class Format:
    """What parameter set and activation of a run say."""

    params: ParamSet
    activation: str

    @property
    def ring(self) -> Ring:
        return Ring(self.params.ring_bits)

    @property
    def fixed_point(self) -> FixedPoint:
        return FixedPoint(self.params.ring_bits, self.params.frac_bits)

    @property
    def table(self) -> Approximation | None:
        """The activation's piecewise polynomial or look-up; None for ReLU."""
        return APPROXIMATIONS.get(self.activation)

    @property
    def polynomial(self) -> Table | None:
        """The activation's piecewise polynomial, if it has one."""
        return TABLES.get(self.activation)


@dataclass(frozen=True)
class LayerRun(Format):
    """The public parameters of one run of a private MoE layer.

    model: its name; layer: which one. tokens: the public length. activation: a table's name, or `relu`. Raises
    ProtocolOption: not every protocol has the literal order and one-ulp truncation.
    """

    protocol: str
    model: str
    layer: int
    tokens: int
    shape: MoeConfig
    params: ParamSet
    activation: str
    order: str
    truncation: str

    def __post_init__(self) -> None:
        refused = {
            "order": self.order != REASSOCIATED and not self.kind.literal,
            "truncation": self.truncation != FAITHFUL and self.kind.one_ulp is None,
        }
        for option, wrong in refused.items():
            if wrong:
                told = f"--{option} {getattr(self, option)}: {self.protocol} has no such {option}; leave the option out"
                raise ProtocolOption(told)

    @property
    def kind(self) -> LayerProtocol:
        """What the protocol of the run is made of."""
        return PROTOCOLS[self.protocol]

    @cached_property
    def plan(self) -> LayerPlan:
        activation: Approximation | str = APPROXIMATIONS.get(self.activation, self.activation)
        return self.kind.plan(self.shape, self.tokens, self.params, activation, self.order, self.truncation)

    @property
    def declared(self) -> ProtocolDecl[Any]:
        """The protocol; in one-ulp mode the declaration that says what its rounding leaks."""
        one_ulp = self.kind.one_ulp
        return self.kind.text if self.truncation == FAITHFUL or one_ulp is None else one_ulp

    @cached_property
    def he(self) -> HeService:
        return HeService(self.plan.plans)

    def services(self) -> tuple[OtService, HeService]:
        """The session services of the layer."""
        return OtService(), self.he

    def run(self, session: Session, inputs: Mapping[Role, list[Any]]) -> Execution:
        """The protocol once, in a session with `services`."""
        return session.run(self.declared, inputs[CLIENT], inputs[SERVER], plan=self.plan)

    def inputs(self, role: Role, arrays: Arrays) -> list[Any]:
        """A party's positional inputs from its own arrays (see `deal`); WeightsOutOfBound for the server's."""
        own: list[Any] = [from_words(self.ring, arrays[name]) for name in ("x", "residual")]
        return [*own, None if role is CLIENT else self._prepared(arrays)]

    @property
    def answers(self) -> list[tuple[LinearPlan | SelectPlan, int]]:
        """The homomorphic responses of the run, message by message: plan and rows."""
        return list(self.plan.answers)

    def absent(self) -> list[Any]:
        """Inputs of a party that runs elsewhere: their public shapes."""
        shape = blank(Spec(self.ring, (self.tokens, self.shape.d)))
        return [shape, shape, None]

    def _prepared(self, arrays: Arrays) -> PreparedLayer:
        fp = self.fixed_point
        signed = {name: fp.signed(arrays[name]) if name in arrays else None for name in WEIGHT_NAMES}
        router, w1, w2 = (np.asarray(signed[name]) for name in ("router", "w1", "w2"))
        weights = MoeWeights(router, w1, signed["v"], w2)
        prepared = self.kind.weights.prepare(self.he.prepare, self.plan, weights)
        self.he.check_query(query_cost(prepared.responses(self.plan)))
        return prepared

    def to_public(self) -> dict[str, Any]:
        """As JSON values."""
        flat = {name: getattr(self, name) for name in ("protocol", "model", "layer", "tokens", "activation", "order")}
        shape = {name: getattr(self.shape, name) for name in MoeConfig.__dataclass_fields__}
        version = program_version()
        return {
            **flat,
            "truncation": self.truncation,
            "shape": shape,
            "params": {name: getattr(self.params, name) for name in PARAMETER_FIELDS},
            "version": version,
        }

    @classmethod
    def from_public(cls, public: Mapping[str, Any]) -> LayerRun:
        """Inverse of `to_public`. Raises UnreadableRun, ParameterFields, ProtocolOption, ConfigError, and
        InsecureParameters for a set below 128 bits.
        """
        names = ("protocol", "model", "layer", "tokens", "activation", "order", "truncation")
        try:
            if public["protocol"] not in PROTOCOLS:
                raise UnreadableRun(f"expected a run of {', '.join(PROTOCOLS)}, got {quoted(public['protocol'])}")
            shape = dict(public["shape"])
            sizes = {name: shape[name] for name in ("d", "f", "E", "k")} | {n: public[n] for n in ("layer", "tokens")}
            for name, value in sizes.items():
                if type(value) is not int or not 0 <= value <= LARGEST:
                    raise UnreadableRun(f"{name}: expected a whole number from 0 to {LARGEST}, got {quoted(value)}")
            for name in WORDS:
                if not isinstance(public[name], str):
                    raise UnreadableRun(f"{name}: expected a text, got {quoted(public[name])}")
            params = params_from_fields(public["params"])
            return cls(shape=MoeConfig(**shape), params=params, **{name: public[name] for name in names})
        except (KeyError, TypeError) as error:
            told = quoted(str(error))
            raise UnreadableRun(f"expected the parameters of a layer run in the transcript: {told}") from error


def params_from_fields(fields: Any) -> ParamSet:
    """A parameter set from JSON values; its 128-bit check runs and cannot be switched off here.

    Raises ParameterFields unless the fields are exactly those of a parameter set, each of its JSON type, and what
    ParamSet raises on values out of range.
    """
    if not isinstance(fields, dict) or fields.keys() != set(PARAMETER_FIELDS):
        got = quoted(list(fields)) if isinstance(fields, dict) else type(fields).__name__
        raise ParameterFields(f"expected a JSON object with exactly {', '.join(PARAMETER_FIELDS)}, got {got}")
    name = fields["name"]
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ParameterFields(
            f"name: expected up to 64 letters, digits and _.-, got {quoted(name)}; choose another name"
        )
    for field in ("q_bits", "special_bits", "response_bits"):
        bits = fields[field]
        some = bits or field == "special_bits"
        if not (isinstance(bits, list | tuple) and some and all(type(b) is int and 0 < b <= LARGEST for b in bits)):
            raise ParameterFields(f"{field}: expected a list of whole numbers above 0, got {quoted(bits)}; correct it")
    for field in ("n", "ring_bits", "frac_bits", "kept", "kappa"):
        if type(fields[field]) is not int or not 0 <= fields[field] <= LARGEST:
            raise ParameterFields(
                f"{field}: expected a whole number from 0 to {LARGEST}, got {quoted(fields[field])}; correct it"
            )
    if type(fields["galois"]) is not bool:
        raise ParameterFields(f"galois: expected true or false, got {quoted(fields['galois'])}; correct it")
    if fields["n"] not in SECURITY_CAP_BITS:
        allowed = ", ".join(map(str, SECURITY_CAP_BITS))
        raise ParameterFields(f"n: expected a ring degree of {allowed}, got {quoted(fields['n'])}; choose one of them")
    lists = {field: tuple(fields[field]) for field in ("q_bits", "special_bits", "response_bits")}
    params = ParamSet(**{**fields, **lists})
    if PARAM_SETS.get(name, params) != params:
        raise ParameterFields(f"name: {name} is a shipped parameter set with other values; choose another name")
    return params


def layer_shape(config: MoeConfig) -> MoeConfig:
    """The shape of one layer, of a model's configuration."""
    return MoeConfig(**{name: getattr(config, name) for name in MoeConfig.__dataclass_fields__})


def activation_name(shape: MoeConfig, gelu: str | None, protocol: str = SECMOE) -> str:
    """The activation of a run: `relu`, or the name of a table or a look-up. Raises ActivationOption."""
    if gelu is not None and shape.activation != "gelu":
        raise ActivationOption(f"--gelu {gelu}: the model's activation is {shape.activation}; leave the option out")
    if shape.activation == "relu":
        return "relu"
    if gelu is not None:
        return GELU_TABLES[gelu]
    return (LOOK_UPS if PROTOCOLS[protocol].look_up else DEFAULT_TABLES)[shape.activation].name


def deal(
    run: LayerRun, x: NDArray[np.uint64], residual: NDArray[np.uint64], weights: MoeWeights, seed: bytes | None
) -> dict[Role, dict[str, NDArray[Any]]]:
    """Each party's arrays: additive shares of the hidden states, drawn from a tape of their own, and the weights."""
    tape = Tape(derive_key(seed, "input"), "input")
    parts: dict[Role, dict[str, NDArray[Any]]] = {CLIENT: {}, SERVER: {}}
    for name, words in (("x", x), ("residual", residual)):
        spec = Spec(run.ring, words.shape)
        mask = words_from_bytes(tape.bytes(name, draw_nbytes(run.ring, words.shape)), spec).astype(np.uint64)
        parts[CLIENT][name] = mask
        parts[SERVER][name] = run.fixed_point.wrap(words - mask)
    for name in WEIGHT_NAMES:
        matrix = getattr(weights, name)
        if matrix is not None:
            parts[SERVER][name] = matrix
    return parts


def private_sides(session: Session, arrays: Mapping[Role, Arrays]) -> list[PrivateSide]:
    """Both parties' private sides of a finished session."""
    return [
        PrivateSide(role, endpoint.tape.key, arrays[role], dict(endpoint.tape.draws))
        for role, endpoint in session.endpoints.items()
    ]


def opened(run: LayerRun, execution: Execution) -> NDArray[np.uint64]:
    """The output, reconstructed from both parties' shares: words [n, d]."""
    ours: RingArray = execution.outputs[CLIENT]
    total = ours + execution.outputs[SERVER]
    return to_words(total)
