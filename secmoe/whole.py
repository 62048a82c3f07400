"""A whole private model as a recordable fact: public parameters, and each party's inputs; see `secmoe.layer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.embedding import ONE_HOT, VALUES
from protocols.encoder import CLASS, LOGITS, EncoderPlan, EncoderWeights, encoder, query_epsilon
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.params import ParamSet
from protocols.he.service import HeService
from protocols.model.architecture import Model, Tokens
from protocols.model.config import ModelConfig, MoeConfig
from protocols.model.encoder import NORM_EPSILON, STREAM_REACH
from protocols.model.folded import ClientWords, EncoderWords, client_words, fold
from protocols.model.tables import TABLES, Table
from protocols.ot.service import OtService
from protocols.truncate import FAITHFUL
from secmoe.delivery import deliver
from secmoe.layer import (
    DELIVERED,
    LARGEST,
    PARAMETER_FIELDS,
    Arrays,
    Format,
    LayerRun,
    UnreadableRun,
    layer_shape,
    params_from_fields,
)
from secmoe.version import program_version
from sim.concrete import from_words, to_words
from sim.party import ProtocolDecl
from sim.ring import RingArray
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.world import Execution, Session
from transcripts.private import PrivateSide
from transcripts.replay import Repeat, Start

WHOLE = "encoder"  # the value of `protocol` in the public parameters of such a run
SIZES = ("tokens", "features", "layers", "heads", "classes")
WORDS = ("model", "embedding", "answer", "activation", "order")
CLIENT_ARRAYS = ("features", "mask", "pooling")


class WholeModelOption(ValueError):
    """An option of a whole model for a layer, or the other way round."""


@dataclass(frozen=True)
class ModelRun(Format):
    """The public parameters of one run of a whole private model; see EncoderPlan. The classes are counted, not
    named. activation: a table's name, or `relu`.
    """

    model: str
    tokens: int
    shape: MoeConfig
    features: int
    layers: int
    heads: int
    classes: int
    embedding: str
    answer: str
    params: ParamSet
    activation: str
    order: str

    @classmethod
    def of(
        cls, config: ModelConfig, tokens: int, answer: str, params: ParamSet, activation: str, order: str
    ) -> ModelRun:
        """The run of a model of this configuration."""
        text = config.task == "text"
        features, inputs = (config.vocabulary, ONE_HOT) if text else (config.patch**2, VALUES)
        sizes = (features, config.layers, config.heads, len(config.classes))
        return cls(config.name, tokens, layer_shape(config), *sizes, inputs, answer, params, activation, order)

    @cached_property
    def plan(self) -> EncoderPlan:
        activation: Table | str = TABLES.get(self.activation, self.activation)
        sizes = (self.tokens, self.features, self.layers, self.heads, self.classes)
        kinds = (self.params, activation, self.embedding, self.answer, self.order)
        return EncoderPlan(self.shape, *sizes, *kinds, reach=STREAM_REACH, epsilon=NORM_EPSILON)

    @property
    def declared(self) -> ProtocolDecl[Any]:
        return encoder

    @cached_property
    def he(self) -> HeService:
        return HeService(self.plan.plans)

    def services(self) -> tuple[OtService, HeService]:
        """The session services of the model."""
        return OtService(), self.he

    def run(self, session: Session, inputs: Mapping[Role, list[Any]]) -> Execution:
        """The protocol once, in a session with `services`."""
        return session.run(encoder, inputs[CLIENT], inputs[SERVER], plan=self.plan)

    def inputs(self, role: Role, arrays: Arrays) -> list[Any]:
        """A party's positional inputs from its own arrays (see `arrays_of`); WeightsOutOfBound for the server's."""
        if role is CLIENT:
            return [*(from_words(self.ring, arrays[name]) for name in CLIENT_ARRAYS), None]
        signed = [self.fixed_point.signed(words) for words in arrays.values()]
        prepared = EncoderWeights.prepare(self.he.prepare, self.plan, signed)
        self.he.check_query(query_epsilon(prepared, self.plan))
        return [None, None, None, prepared]

    @property
    def answers(self) -> list[tuple[LinearPlan | SelectPlan, int]]:
        """Each kind of homomorphic response: its plan and the rows of one message."""
        plan, rows = self.plan, self.plan.layer.rows
        attention, experts = plan.attention, (plan.layer.up, plan.layer.down)
        linear = [*plan.embedding.plans, attention.stacked, attention.merging, plan.layer.router, plan.head]
        return [*((p, 1) for p in linear), *attention.answers, *((p, rows) for p in experts), *plan.layer.combining]

    def absent(self) -> list[Any]:
        """Inputs of a party that runs elsewhere: all of them are its own."""
        return [None, None, None, None]

    def label(self, output: NDArray[np.uint64]) -> int:
        """The class that an opened answer tells."""
        if self.answer == LOGITS:
            return int(self.fixed_point.signed(output).argmax())
        return int((output.astype(np.int64) << np.arange(output.shape[-1])).sum())

    def to_public(self) -> dict[str, Any]:
        """As JSON values."""
        flat = {name: getattr(self, name) for name in (*WORDS, *SIZES)}
        shape = {name: getattr(self.shape, name) for name in MoeConfig.__dataclass_fields__}
        params = {name: getattr(self.params, name) for name in PARAMETER_FIELDS}
        return {"protocol": WHOLE, **flat, "shape": shape, "params": params, "version": program_version()}

    @classmethod
    def from_public(cls, public: Mapping[str, Any]) -> ModelRun:
        """Inverse of `to_public`. Raises UnreadableRun, ParameterFields, ConfigError, and InsecureParameters for a set
        below 128 bits."""
        try:
            shape = dict(public["shape"])
            sizes = {name: shape[name] for name in ("d", "f", "E", "k")} | {name: public[name] for name in SIZES}
            for name, value in sizes.items():
                if type(value) is not int or not 0 < value <= LARGEST:
                    raise UnreadableRun(f"{name}: expected a whole number from 1 to {LARGEST}, got {value!r}")
            for name in WORDS:
                if not isinstance(public[name], str):
                    raise UnreadableRun(f"{name}: expected a text, got {public[name]!r}")
            flat = {name: public[name] for name in (*WORDS, *SIZES)}
            return cls(shape=MoeConfig(**shape), params=params_from_fields(public["params"]), **flat)
        except (KeyError, TypeError) as error:
            raise UnreadableRun(f"expected the parameters of a model run in the transcript: {error}") from error


def checked_options(answer: str | None, truncation: str | None) -> str:
    """The answer of a run of a whole model. Raises WholeModelOption."""
    if truncation not in (None, FAITHFUL):
        raise WholeModelOption(
            f"--truncation {truncation}: expected --layer beside it; its rounding depends on shares, and the answer of "
            "a whole model is opened"
        )
    return answer or CLASS


def refused_answer(answer: str | None) -> None:
    """Raises WholeModelOption for an answer of a single layer, whose output stays shared."""
    if answer is not None:
        raise WholeModelOption(f"--answer {answer}: expected a whole model; a layer has no answer: leave it out")


def run_of(public: Mapping[str, Any]) -> LayerRun | ModelRun:
    """The run that public parameters describe; raises what `from_public` of either raises."""
    return ModelRun.from_public(public) if public.get("protocol") == WHOLE else LayerRun.from_public(public)


def words_of(run: ModelRun, model: Model, tokens: Tokens) -> tuple[ClientWords, EncoderWords]:
    """Both parties' words. Raises what `fold` raises."""
    return client_words(model.config, tokens, run.fixed_point), fold(model, run.fixed_point)


def arrays_of(run: ModelRun, client: ClientWords, server: EncoderWords) -> dict[Role, dict[str, NDArray[Any]]]:
    """Each party's own arrays by name."""
    mine: dict[str, NDArray[Any]] = {name: getattr(client, name) for name in CLIENT_ARRAYS}
    return {CLIENT: mine, SERVER: {**server.named(run.tokens)}}


def answer_of(execution: Execution) -> NDArray[np.uint64]:
    """What the client has learned: one row of words."""
    ours: RingArray = execution.outputs[CLIENT]
    return to_words(ours).reshape(-1)


def rebuild(public: Mapping[str, object]) -> Repeat:
    """What `transcripts.replay` asks for: how to repeat the run of these parameters with one party alone."""
    run = run_of(public)

    def repeat(start: Start, side: PrivateSide) -> None:
        session = start(run.services())
        role = side.role
        share = run.run(session, {role: run.inputs(role, side.arrays), role.peer: run.absent()}).outputs[role]
        if public.get(DELIVERED) is True:
            shares = {role: [share], role.peer: [blank(share.spec)]}
            session.run(deliver, shares[CLIENT], shares[SERVER])

    return repeat
