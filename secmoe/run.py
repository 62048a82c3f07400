"""`secmoe run`: one private Mixture-of-Experts layer on a real input, compared, measured and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.baselines.cryptomoe import BalancedPlan
from protocols.model.architecture import Model, Tokens
from protocols.model.config import MoeWeights
from protocols.model.fixed_point import dequantise, quantise, quantise_weights
from protocols.model.floating import float_layer
from protocols.model.oracle import sparse_moe_layer, with_room
from protocols.truncate import FAITHFUL
from secmoe.checked import SOURCES, Checked, Store, installed
from secmoe.in_range import require_range
from secmoe.interval import one_ulp_bound
from secmoe.layer import Arrays, LayerRun, deal, opened, private_sides
from secmoe.progress import Progress
from secmoe.shaped import row_of
from secmoe.whole import ModelRun
from sim.functionality import Functionality
from sim.network import LAN, NETWORKS, WAN
from sim.role import CLIENT, SERVER, Role
from sim.world import Execution, Session
from transcripts.record import Recorder

T = TypeVar("T")
Record = tuple[Execution, Execution, float, bool, Path, str, str]
Floats = NDArray[np.float64]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Comparison:
    """The private output against the exact fixed-point oracle and against the float layer.

    exact: every word equals the oracle's; None in one-ulp mode, where it need not. within_bound: faithful, the same;
    one-ulp, every word inside the interval that the truncations' error rule allows. max_error_float is measured on the
    oracle's experts; route_agreement says for what share of the tokens those are the float layer's as well.
    """

    exact: bool | None
    within_bound: bool
    max_error_ulp: int
    max_error_float: float
    route_agreement: float


@dataclass(frozen=True)
class Kept:
    """What is reported of every kept run. checked: what is known of its very shape at the installed source."""

    setup: Execution
    online: Execution
    epsilon_bits: float
    seeded: bool
    transcript: Path
    digest: str
    seal: str
    checked: Checked

    def figures(self, functionality: Functionality) -> dict[str, Any]:
        """Costs, leakage and record as JSON values. Messages, rounds and times: set-up and online together."""
        phases = (self.setup, self.online)
        c2s, s2c = (sum(m.nbytes for e in phases for m in e.messages if m.sender is role) for role in (CLIENT, SERVER))
        return {
            "bytes": {
                "client_to_server": c2s,
                "server_to_client": s2c,
                "setup": self.setup.cost.nbytes,
                "online": self.online.cost.nbytes,
            },
            "messages": sum(len(e.messages) for e in phases),
            "rounds": sum(e.cost.rounds for e in phases),
            "cpu_s": {
                "client": self.online.cpu(CLIENT),
                "server": self.online.cpu(SERVER),
                "setup": self.setup.cpu(CLIENT) + self.setup.cpu(SERVER),
            },
            "lan_s": sum(e.time(LAN) for e in phases),
            "wan_s": sum(e.time(WAN) for e in phases),
            "epsilon_bits": self.epsilon_bits,
            "declared_leakage": {
                "client": list(functionality.leaks_client),
                "server": list(functionality.leaks_server),
            },
            "checked_by": self.checked.to_json(),
            "transcript": str(self.transcript),
            "transcript_digest": self.digest,
            "seeded": self.seeded,
        }


@dataclass(frozen=True)
class Outcome(Kept):
    """Everything that is reported of a run of one layer."""

    run: LayerRun
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `secmoe run --layer I --json`."""
        run = self.run
        return {
            "model": run.model,
            "protocol": run.protocol,
            "order": run.order,
            "layer": run.layer,
            "tokens": run.tokens,
            "experts": run.shape.E,
            "top_k": run.shape.k,
            "ring_bits": run.params.ring_bits,
            "frac_bits": run.params.frac_bits,
            "params": run.params.name,
            "truncation": run.truncation,
            "exact_match": self.comparison.exact,
            "within_bound": self.comparison.within_bound,
            "max_error_ulp": self.comparison.max_error_ulp,
            "max_error_float": self.comparison.max_error_float,
            "route_agreement_float": self.comparison.route_agreement,
            **self.figures(run.declared.realises),
            "activation": run.activation,
            "seal": self.seal,
        }


@dataclass(frozen=True)
class LayerInput:
    """What one layer is run on. hidden, residual [n, d]: its input, computed in the clear, and the residual stream.
    check: raises where a value of the layer may leave the ring."""

    hidden: Floats
    residual: Floats
    weights: MoeWeights
    check: Callable[[], None]

    @classmethod
    def of(cls, model: Model, tokens: Tokens, run: LayerRun) -> LayerInput:
        """The input of a layer of a model. LayerError, TokenError."""
        hidden, residual = model.moe_inputs(tokens, run.layer)
        return cls(hidden, residual, model.moe_weights(run.layer), partial(require_range, model, run))


def private_layer(
    given: LayerInput,
    run: LayerRun,
    out: Path,
    *,
    seed: bytes | None = None,
    keep_private: bool = False,
    progress: Progress,
) -> Outcome:
    """Run, compare and record. The hidden states are shared first.

    The place of the record is taken before the session starts: OutputError and PrivateExists come early. Raises
    WeightsOutOfBound for weights beyond the noise bound, OutOfRange for those with which a value could leave the ring.
    """
    fp = run.fixed_point
    words = quantise(given.hidden, fp), quantise(given.residual, fp), quantise_weights(given.weights, fp)
    arrays = deal(run, *words, seed)

    def compare(online: Execution) -> Comparison:
        return _compare(run, opened(run, online), given, words)

    comparison, record = recorded(given.check, run, arrays, out, compare, seed, keep_private, progress)
    return Outcome(*record, Store().lookup(*row_of(run)), run, comparison)


def recorded(
    check: Callable[[], None],
    run: LayerRun | ModelRun,
    arrays: Mapping[Role, Arrays],
    out: Path,
    judge: Callable[[Execution], T],
    seed: bytes | None,
    keep_private: bool,
    progress: Progress,
) -> tuple[T, Record]:
    """Run once and keep the transcript; what `judge` finds of the run, and the first fields of `Kept`. Raises what the
    run's `inputs` and `check` raise."""
    inputs = {role: run.inputs(role, arrays[role]) for role in (CLIENT, SERVER)}
    check()
    private = tuple(Role) if keep_private or seed is not None else ()
    public = {**run.to_public(), SOURCES: installed()}
    with _folder(out.parent), Recorder(out, public, seeded=seed is not None, private=private) as recorder:
        with progress:
            session = Session(run.services(), seed=seed, on_send=progress.on_send, on_scope=progress.on_scope)
            online = run.run(session, inputs)
        found = judge(online)
        recorder.add(session.setup)
        recorder.add(online)
        seal = recorder.seal(private_sides(session, arrays) if private else [])
    bits = session.endpoints[SERVER].states["he"].budget.bits
    return found, (session.setup, online, bits, seed is not None, out, recorder.chain.hex(), seal.hex())


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Make a folder if it is missing; what fails inside leaves none that was made."""
    made = not path.exists()
    path.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        if made:
            with suppress(OSError):
                path.rmdir()
        raise


def _compare(run: LayerRun, output: Words, given: LayerInput, words: tuple[Words, Words, MoeWeights]) -> Comparison:
    """The opened output against the fixed-point oracle, and the oracle's experts against the float layer. words: the
    input and the weights as words."""
    fp, floats = run.fixed_point, (given.hidden, given.residual, given.weights, run.shape)

    room = run.plan.capacity if isinstance(run.plan, BalancedPlan) else None
    exact = sparse_moe_layer(*words, run.shape, fp, run.table, room)
    served = None if room is None else with_room(exact.routes, room)
    chosen = float_layer(*floats, routes=exact.routes, served=served)
    free = float_layer(*floats)
    errors = fp.signed(fp.wrap(output - exact.output))
    equal = bool((output == exact.output).all())
    faithful = run.truncation == FAITHFUL
    within = equal if faithful else one_ulp_bound(*words, run.shape, fp, run.polynomial).admits(output)
    return Comparison(
        equal if faithful else None,
        within,
        max(abs(int(errors.min())), abs(int(errors.max()))),
        float(np.abs(dequantise(output, fp) - chosen.output).max()),
        float((exact.routes == free.routes).all(axis=1).mean()),
    )


def network_times(outcome: Kept) -> dict[str, tuple[float, float]]:
    """Virtual seconds of set-up and online, by network."""
    return {name: (outcome.setup.time(net), outcome.online.time(net)) for name, net in NETWORKS.items()}
