"""`secmoe run` without `--layer`: the whole model in private, compared, measured, recorded and reported."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from protocols.encoder import LOGITS
from protocols.model.architecture import Model, Tokens
from protocols.model.encoder import EncoderTrace, encoder
from protocols.model.fixed_point import dequantise
from protocols.model.floating import softmax
from secmoe.checked import Store, lines
from secmoe.in_range import require_range
from secmoe.progress import Progress
from secmoe.report import print_kept
from secmoe.run import Kept, recorded
from secmoe.shaped import row_of
from secmoe.whole import WHOLE, ModelRun, answer_of, arrays_of, words_of
from sim.role import Role
from sim.world import Execution
from transcripts.costs import ScopeCost, cost_by_scope, fold
from transcripts.show import print_costs

IN_THE_CLEAR = "this comparison with plaintext, nothing of the model"


@dataclass(frozen=True)
class Answer:
    """What the client learned, against the exact fixed-point oracle and against the float model.

    exact: the answer is the oracle's, every word of it. agrees: the class is the float model's. logits: those opened,
    else None. error_ulp: their largest error against the oracle's, error_float: against the float model's; None where
    they are not opened. routes: for what share of (layer, token) pairs oracle and float model take the same experts.
    """

    label: int
    exact: bool
    agrees: bool
    float_label: int
    logits: NDArray[np.float64] | None
    error_ulp: int | None
    error_float: float | None
    routes: float

    @property
    def probability(self) -> float | None:
        """Of the class, by the opened logits."""
        return None if self.logits is None else float(softmax(self.logits)[self.label])


@dataclass(frozen=True)
class ModelOutcome(Kept):
    """Everything that is reported of a run of a whole model. classes: the names of the logits."""

    run: ModelRun
    answer: Answer
    classes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `secmoe run --json`."""
        run, answer = self.run, self.answer
        return {
            "model": run.model,
            "protocol": run.declared.name,
            "order": run.order,
            "layers": run.layers,
            "tokens": run.tokens,
            "experts": run.shape.E,
            "top_k": run.shape.k,
            "ring_bits": run.params.ring_bits,
            "frac_bits": run.params.frac_bits,
            "params": run.params.name,
            "answer": run.answer,
            "class": self.classes[answer.label],
            "probability": answer.probability,
            "logits": None if answer.logits is None else answer.logits.tolist(),
            "exact_match": answer.exact,
            "plaintext_class": self.classes[answer.float_label],
            "agrees_with_plaintext": answer.agrees,
            "max_error_ulp": answer.error_ulp,
            "max_error_float": answer.error_float,
            "route_agreement_float": answer.routes,
            "layers_cost": [cost.to_json() for cost in layer_costs(self.online)],
            "operators_cost": [cost.to_json() for cost in operator_costs(self.online)],
            **self.figures(run.declared.realises),
            "activation": run.activation,
            "seal": self.seal,
        }


def layer_costs(online: Execution) -> list[ScopeCost]:
    """Online cost of what the whole model calls first of all: embedding, each layer, pooling, head, answer."""
    top = f"{online.prefix}/{WHOLE}"
    found = cost_by_scope(online.messages, online.cpu_by_scope, under=top, levels=1)
    return [cost for cost in found if cost.scope != top]


def operator_costs(online: Execution) -> list[ScopeCost]:
    """Online cost by protocol, over all layers: what the whole model or one of its blocks calls, most bytes first."""
    calls: dict[str, str] = {}

    def operator(scope: str) -> str:
        """The scope of an operator's call, by its name and number; others as they are."""
        parts = scope.split("/")
        depth = 4 if len(parts) > 3 and parts[2] in blocks else 3
        if parts[1:2] != [WHOLE] or len(parts) < depth or parts[depth - 1] in blocks:
            return ""
        call = "/".join(parts[:depth])
        return calls.setdefault(call, f"{fold(parts[depth - 1])}.{len(calls)}")

    blocks = {"pool"} | {part for m in online.messages for part in m.scope.split("/")[2:3] if part.startswith("layer")}
    messages = [replace(m, scope=operator(m.scope)) for m in online.messages]
    cpu: dict[tuple[Role, str], float] = {}
    for (role, scope), seconds in online.cpu_by_scope.items():
        cpu[role, operator(scope)] = cpu.get((role, operator(scope)), 0.0) + seconds
    named = [m for m in messages if m.scope]
    found = cost_by_scope(named, {at: seconds for at, seconds in cpu.items() if at[1]}, levels=1)
    return sorted(found, key=lambda cost: -cost.nbytes)


def private_model(
    model: Model,
    tokens: Tokens,
    run: ModelRun,
    out: Path,
    *,
    seed: bytes | None = None,
    keep_private: bool = False,
    progress: Progress,
) -> ModelOutcome:
    """Run, compare and record. The client puts its tokens in, the server its weights; only the client gets the answer.

    The place of the record is taken before the session starts: OutputError and PrivateExists come early. Raises
    WeightsOutOfBound and OutOfRange as `private_layer`, and what `fold` raises.
    """
    client, server = words_of(run, model, tokens)

    def compare(online: Execution) -> Answer:
        exact = encoder(client, server, model.config, run.fixed_point, run.polynomial)
        return _compared(run, model, tokens, answer_of(online), exact)

    arrays = arrays_of(run, client, server)
    check = partial(require_range, model, run)
    answer, record = recorded(check, run, arrays, out, compare, seed, keep_private, progress)
    return ModelOutcome(*record, Store().lookup(*row_of(run)), run, answer, model.config.classes)


def _compared(run: ModelRun, model: Model, tokens: Tokens, output: NDArray[np.uint64], exact: EncoderTrace) -> Answer:
    """The answer against the oracle's and the float model's."""
    fp, plain, label = run.fixed_point, model.forward(tokens), run.label(output)
    routes, best = float((exact.routes == plain.routes).all(axis=2).mean()), int(plain.logits.argmax())
    if run.answer != LOGITS:
        return Answer(label, label == exact.label, label == best, best, None, None, None, routes)
    errors, logits = fp.signed(fp.wrap(output - exact.logits)), dequantise(output, fp)
    equal = bool((output == exact.logits).all())
    worst = max(abs(int(errors.min())), abs(int(errors.max())))
    distance = float(np.abs(logits - plain.logits).max())
    return Answer(label, equal, label == best, best, logits, worst, distance, routes)


def print_model_outcome(console: Console, outcome: ModelOutcome, networks: tuple[str, ...]) -> None:
    """The answer, its comparison with plaintext, costs by layer and operator, and what each party learns."""
    run, shape, answer = outcome.run, outcome.run.shape, outcome.answer
    kind = f"{'gated ' if shape.gated else ''}{run.activation} experts {shape.d} -> {shape.f} -> {shape.d}"
    _line(
        console,
        f"{run.model}: {run.tokens} tokens, {run.layers} layers, {run.heads} heads, top-{shape.k} of {shape.E} {kind}\n"
        f"{run.ring} with {run.params.frac_bits} fractional bits, parameters {run.params.name}, order {run.order}",
    )
    chance = "" if answer.probability is None else f", probability {answer.probability:.4f}"
    _line(console, f"CLASS {outcome.classes[answer.label]}{chance}", "bold")
    _line(console, *_verdict(outcome))
    _line(console, _float_line(outcome))
    sizes = (
        f"at most {run.tokens} real tokens, {run.layers} layers, {run.heads} heads, d={shape.d}, f={shape.f}, "
        f"E={shape.E}, k={shape.k}, {run.classes} classes, ring, parameter set"
    )
    console.print()
    _line(console, "by operator, over all layers:")
    print_costs(console, operator_costs(outcome.online))
    privacy = lines(outcome.checked, outcome.transcript)
    print_kept(console, outcome, run.declared.realises, sizes, privacy, IN_THE_CLEAR, networks)


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)


def _verdict(outcome: ModelOutcome) -> tuple[str, str]:
    what = "the logits equal" if outcome.run.answer == LOGITS else "the class equals"
    if outcome.answer.exact:
        return f"EXACT: {what} the fixed-point oracle of the whole model", "bold green"
    return f"MISMATCH: {what.replace('equal', 'differ')} from the fixed-point oracle of the whole model", "bold red"


def _float_line(outcome: ModelOutcome) -> str:
    answer = outcome.answer
    same = "agrees" if answer.agrees else f"DISAGREES: {outcome.classes[answer.float_label]}"
    error = "" if answer.error_float is None else f", largest error of a logit {answer.error_float:.2e}"
    return f"the float model {same}{error}; oracle and float model take the same experts for {answer.routes:.1%}"
