"""The very shape of a run as a row of the catalog, so that what proves and audits catalog rows proves and audits it.

The name of the row's case spells out every public parameter that the text depends on, and is read back from
there: the row is the attribute of that name of this module, in any process. Names of model and layer are no part of it:
what is said of a shape is said of all weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from protocols.catalog.models import encoder_case
from protocols.entry import DECLARED, PROVED, Case, Entry, Secret
from protocols.he.params import PARAM_SETS, ParamSet
from protocols.hidden import RELU
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.tables import APPROXIMATIONS
from protocols.truncate import MODES
from secmoe.layer import PARAMETER_FIELDS, LayerRun, UnreadableRun, params_from_fields
from secmoe.layer_protocols import PROTOCOLS, PreparedLayer
from secmoe.whole import SIZES, WHOLE, ModelRun
from sim.ring import Ring
from sim.role import SERVER
from transcripts.targets import Target

MODEL_SIZES = tuple(size for size in SIZES if size != "tokens")
SHAPE = ("d", "f", "E", "k")
FLAGS = ("gated", "renormalise")
WORDS = {
    False: ("protocol", "n", *SHAPE, *FLAGS, "function", "activation", "order", "truncation", "params"),
    True: ("protocol", "n", *MODEL_SIZES, *SHAPE, *FLAGS, "function", "activation", "order", "embedding", "answer",
           "params"),
}  # fmt: skip  # by whether it is a whole model
NUMBERS = ("n", *MODEL_SIZES, *SHAPE, *FLAGS)
LARGEST = 1 << 20
DIGITS = len(str(LARGEST))
UNNAMED = ("", 0)  # model and layer of a run that is known by its shape alone
HIDDEN_BITS = 2  # of the integer part of hidden states that are drawn
Run = LayerRun | ModelRun


def shape_name(run: Run) -> str:
    """The public parameters in one line, from which `shape_of` reads them back."""
    shape, params, whole = run.shape, run.params, isinstance(run, ModelRun)
    own = {name: getattr(params, name) for name in PARAMETER_FIELDS}
    known = PARAM_SETS.get(params.name) == params
    told: dict[str, Any] = {"protocol": WHOLE if isinstance(run, ModelRun) else run.protocol, "n": run.tokens}
    told |= {name: getattr(shape, name) for name in SHAPE} | {name: int(getattr(shape, name)) for name in FLAGS}
    told |= {"function": shape.activation}
    told["params"] = params.name if known else json.dumps(own, separators=(",", ":"), sort_keys=True)
    return ", ".join(f"{name}={told[name] if name in told else getattr(run, name)}" for name in WORDS[whole])


def shape_of(name: str) -> Run:
    """Inverse of `shape_name`; raises UnreadableRun, and what a shape or a parameter set out of range raises."""
    whole = name.startswith(f"protocol={WHOLE}, ")
    words = WORDS[whole]
    fields = dict(part.partition("=")[::2] for part in name.split(", ", len(words) - 1))
    if tuple(fields) != words:
        raise UnreadableRun(f"shape: expected {', '.join(words)}, got {name!r}")
    number = {}
    for word in (word for word in NUMBERS if word in words):
        text = fields[word]
        if not (text.isdecimal() and len(text) <= DIGITS and int(text) <= (1 if word in FLAGS else LARGEST)):
            raise UnreadableRun(f"shape: expected a whole number for {word}, got {text!r}")
        number[word] = int(text)
    if not whole and (fields["protocol"] not in PROTOCOLS or fields["truncation"] not in MODES):
        raise UnreadableRun(f"shape: expected a protocol and a truncation mode of this program, got {name!r}")
    if fields["activation"] not in (*APPROXIMATIONS, RELU):
        raise UnreadableRun(f"shape: expected an activation of {', '.join((*APPROXIMATIONS, RELU))}, got {name!r}")
    gated, renormalise = (number[word] == 1 for word in FLAGS)
    function: Any = fields["function"]
    d, f, E, k = (number[word] for word in SHAPE)
    shape, params = MoeConfig(d, f, E, k, gated, function, renormalise), _params(fields["params"])
    n, kind = number["n"], (fields["activation"], fields["order"])
    run: Run
    if whole:
        features, layers, heads, classes = (number[word] for word in MODEL_SIZES)
        sizes = (features, layers, heads, classes)
        run = ModelRun(UNNAMED[0], n, shape, *sizes, fields["embedding"], fields["answer"], params, *kind)
    else:
        run = LayerRun(fields["protocol"], *UNNAMED, n, shape, params, *kind, fields["truncation"])
    if shape_name(run) != name:
        raise UnreadableRun(f"shape: expected {shape_name(run)!r}, got {name!r}")
    return run


def _params(text: str) -> ParamSet:
    if text in PARAM_SETS:
        return PARAM_SETS[text]
    try:
        return params_from_fields(json.loads(text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UnreadableRun(f"shape: expected a parameter set by name or as JSON, got {text!r}") from error


def row_of(run: Run) -> tuple[Entry, Case]:
    """The row and its one case. Hidden states and weights are drawn, in an audit, up to 4 and 1 in absolute value; what
    a whole model is given, as in the catalog."""
    if isinstance(run, ModelRun):
        case = encoder_case(shape_name(run), run.plan)
        return Entry(run.declared, (case,), DECLARED), case
    shape, ring, one = run.shape, run.ring, 1 << run.params.frac_bits
    state = Secret(ring, (run.tokens, shape.d), None, -(one << HIDDEN_BITS), one << HIDDEN_BITS)

    def matrix(*sizes: int) -> Secret:
        return Secret(Ring(run.params.ring_bits), sizes, SERVER, -one, one, weight=True)

    up, down = matrix(shape.E, shape.f, shape.d), matrix(shape.E, shape.d, shape.f)
    experts = (up, up, down) if shape.gated else (up, down)
    secrets = (state, state, matrix(shape.E, shape.d), *experts)
    plan = run.plan
    case = Case(shape_name(run), secrets, {"plan": plan}, plans=plan.plans, prepare=_prepare(run))
    return Entry(run.declared, (case,), DECLARED if run.declared.realises.leaks_route else PROVED), case


def _prepare(run: LayerRun) -> Callable[[Callable[[Any, Any], Any], Any], PreparedLayer]:
    def build(prepare: Callable[[Any, Any], Any], weights: Any) -> PreparedLayer:
        router, w1, *gate, w2 = weights
        return run.kind.weights.prepare(prepare, run.plan, MoeWeights(router, w1, gate[0] if gate else None, w2))

    return build


def target_of(run: Run) -> Target:
    """What `secmoe audit --run` audits."""
    name = shape_name(run)
    return Target(f"{__name__}:{name}", name)


@cache
def _row(name: str) -> Entry:
    return row_of(shape_of(name))[0]


def __getattr__(name: str) -> Entry:
    """The row of a shape, as an attribute of this module: how a worker process finds it by name."""
    if "=" not in name:
        raise AttributeError(name)
    try:
        return _row(name)
    except ValueError as error:
        raise AttributeError(str(error)) from error
