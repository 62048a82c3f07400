"""The closed forms of local work against what the engine really does: every kernel call of real runs is counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from protocols.crossing import CrossingPlan, crossing
from protocols.he import bfv, client, merging, public_keys, ring_q, server, weighing
from protocols.he.compiled import FmaEngine, IntegerEngine
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.params import INSECURE_TEST, PARAM_SETS, ParamSet
from protocols.he.portable import NumpyEngine
from protocols.he.reading import ReadPlan
from protocols.he.service import HeService
from protocols.he.work import KERNELS
from protocols.hidden import RELU
from protocols.layer_plan import LITERAL, REASSOCIATED
from protocols.linear import linear
from protocols.model.config import MoeConfig, MoeWeights
from protocols.ot.service import OtService
from protocols.select import select_product
from secmoe.layer_protocols import PROTOCOLS
from secmoe.names import SECMOE
from sim.concrete import from_words
from sim.party import ProtocolDecl
from sim.ring import Ring
from sim.work import NOTHING, Work
from sim.world import Session

TINY = PARAM_SETS["P64tiny"]


class Counts(Counter[str]):
    """Kernel calls so far; `inside`: within a product of ciphertexts, where single transforms count."""

    inside = 0

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()  # blocks of weights are multiplied by several threads


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    """Counts every kernel call below the homomorphic interface, wherever it is made."""
    counts = Counts()

    def watch(owner: Any, name: str, tell: Callable[..., dict[str, int]]) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            with counts.lock:
                counts.update(tell(*args, **kwargs))
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    def within(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any) -> Any:
            with counts.lock:
                counts.inside += 1
            try:
                return original(*args)
            finally:
                with counts.lock:
                    counts.inside -= 1

        monkeypatch.setattr(owner, name, call)

    def transform(_: Any, x: Any, basis: Any) -> dict[str, int]:
        return {"transform": x.size // x.shape[-1]} if counts.inside else {}

    def products(_: Any, out: Any, polynomials: Any, operands: Any, limbs: Any) -> dict[str, int]:
        wide, rows = " wide" if limbs.size > len(kept(limbs)) else "", polynomials.size // polynomials.shape[-1]
        return {f"polynomial{wide}": rows, f"multiply{wide}": rows * len(operands)}

    def dropped(ring: Any) -> dict[str, int]:
        return {"transform": 2 * ring.q0.size if ring.q1.size < ring.q0.size else 0}

    def kept(limbs: Any) -> Any:
        return limbs[: counts["kept"]]

    def at(layout: Any, kernel: str) -> dict[str, int]:
        return {kernel if layout.switched else f"{kernel} wide": layout.count}

    watch(client.ClientKeys, "encrypt", lambda _, layout, share, draw: at(layout, "encrypt"))
    watch(client.ClientKeys, "decrypt", lambda _, plan, data: {"decrypt": plan.responses})
    watch(server.ServerKeys, "absorb", lambda _, layout, data, share: at(layout, "absorb"))
    watch(
        server.ServerKeys,
        "respond_one",
        lambda _, ring, part, count, places, mask, k, draw: {"respond": 1, "output": count},
    )
    watch(server.ServerKeys, "_lowered", lambda keys, part, lift: dropped(keys.ring))
    watch(public_keys, "automorphism", lambda *_: {"expand": 1})
    for name, kernel in (("rescaled", "rescale"), ("lifted", "lift"), ("product", "product")):
        watch(bfv.Multiplier, name, lambda *_, kernel=kernel: {kernel: 1})
    for name, kernel in (("pair", "pair"), ("merge", "merge"), ("lowered", "lower")):
        watch(merging.Packer, name, lambda *_, kernel=kernel: {kernel: 1})
    for name in ("forward", "inverse"):
        watch(ring_q.Ring, name, transform)
    for engine in (FmaEngine, NumpyEngine):
        watch(engine, "place_weights", lambda _, out, weights, *rest: {"weight": weights.size})
    for engine in (FmaEngine, IntegerEngine, NumpyEngine):
        watch(engine, "weight_products", products)
    for name in ("_apart", "_selected", "_expanded", "linear"):
        within(server.ServerKeys, name)
    within(weighing.Weighing, "multiplied")
    yield counts


def words(rng: np.random.Generator, *shape: int) -> Any:
    return from_words(Ring(64), rng.integers(0, 2**64, shape, dtype=np.uint64))


def check(
    counted: Counts,
    proto: ProtocolDecl[Any],
    service: HeService,
    shared: list[tuple[int, ...]],
    weights: list[Any],
    **public: Any,
) -> None:
    """One run: the counts of its closed form are what was called."""
    rng = np.random.Generator(np.random.SFC64(3))
    ours, theirs = ([words(rng, *shape) for shape in shared] for _ in range(2))
    session = Session([OtService(), service])
    counted.clear()
    counted["kept"] = service.params.kept
    session.run(proto, [*ours, *([None] * len(weights))], [*theirs, *weights], **public)
    declared = proto.declared(*ours, *([None] * len(weights)), **public).work.counts
    name = f"{service.params.name} "
    stated = {kernel.removeprefix(name): n for kernel, n in declared.items() if kernel.startswith(name)}
    assert set(stated) <= set(KERNELS)
    assert {kernel: n for kernel, n in counted.items() if n and kernel != "kept"} == stated


def small(rng: np.random.Generator, *shape: int) -> Any:
    return rng.integers(-(1 << 12), 1 << 12, shape)


@pytest.mark.parametrize(
    ("params", "order", "E", "d", "f", "n"),
    [
        (INSECURE_TEST, "R", 4, 48, 96, 1),  # chunks, groups of merged blocks
        (INSECURE_TEST, "R", 4, 40, 7, 2),
        (INSECURE_TEST, "L", 5, 48, 33, 1),
        (INSECURE_TEST, "R", 2, 4, 3, 1),  # nothing to expand or to merge
        (INSECURE_TEST, "R", 3, 40, 7, 5),  # selectors that are taken apart, uploads answered together
        (INSECURE_TEST, "R", 5, 30, 8, 3),
        (INSECURE_TEST, "L", 3, 20, 5, 7),
        (INSECURE_TEST, "compact", 3, 20, 5, 7),
        (INSECURE_TEST, "R", 64, 3, 5, 5),  # vectors of several tokens in one upload
        (INSECURE_TEST, "compact", 4, 16, 3, 1),
        (TINY, "R", 8, 64, 40, 1),  # without Galois keys
    ],
)
def test_a_selected_product(counted: Counts, params: ParamSet, order: str, E: int, d: int, f: int, n: int) -> None:
    plan = SelectPlan(params, order[:1].replace("c", "R"), E, d, f, n, compact=order == "compact")
    service = HeService([plan])
    prepared = service.prepare(plan, small(np.random.Generator(np.random.SFC64(1)), E, f, d))
    check(counted, select_product, service, [(n, E), (n, d)], [prepared], plan=plan)


@pytest.mark.parametrize(
    "plan",
    [
        LinearPlan(INSECURE_TEST, 5, 60, 300, 1),
        LinearPlan(INSECURE_TEST, 5, 16, 9, 3),
        LinearPlan(INSECURE_TEST, 2, 4, 3),
        LinearPlan(INSECURE_TEST, 3, 60, 40, 2, split=16),  # a token in several ciphertexts
        LinearPlan(INSECURE_TEST, 3, 60, 40, 1, packed=False),
        LinearPlan(TINY, 3, 64, 400, 1),
        ReadPlan.of(SelectPlan(INSECURE_TEST, "R", 4, 21, 96, 3), 9),  # chunks of columns, the last one shorter
        ReadPlan.of(SelectPlan(INSECURE_TEST, "L", 4, 48, 9, 2), 5),
        ReadPlan.of(SelectPlan(TINY, "R", 8, 64, 40), 8),
    ],
    ids=str,
)
def test_a_linear_layer(counted: Counts, plan: LinearPlan) -> None:
    n, d, f = plan.n, plan.d, plan.f
    service = HeService([plan])
    prepared = service.prepare(plan, small(np.random.Generator(np.random.SFC64(1)), f, d))
    check(counted, linear, service, [(n, d)], [prepared], plan=plan)


def test_a_product_of_shares(counted: Counts) -> None:
    plan = CrossingPlan(PARAM_SETS["P64s"], 2, 3, 16, 5)
    check(counted, crossing, HeService(plan.plans), [(2, 3, 16), (2, 16, 5)], [], plan=plan)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PROTOCOLS, LITERAL])
def test_a_whole_layer(counted: Counts, name: str) -> None:
    """Every layer protocol there is: gated, top-2, several tokens, so that uploads and weights are shared."""
    kind, order = PROTOCOLS[SECMOE if name == LITERAL else name], LITERAL if name == LITERAL else REASSOCIATED
    shape, rng = MoeConfig(16, 24, 4, 2), np.random.Generator(np.random.SFC64(1))
    plan = kind.plan(shape, 3, INSECURE_TEST, RELU, order)
    service = HeService(plan.plans)
    matrices = MoeWeights(small(rng, 4, 16), small(rng, 4, 24, 16), small(rng, 4, 24, 16), small(rng, 4, 16, 24))
    prepared = kind.weights.prepare(service.prepare, plan, matrices)
    check(counted, kind.text, service, [(3, 16), (3, 16)], [prepared], plan=plan)


def test_work_adds_up_and_is_no_part_of_equality() -> None:
    a, b = Work({"x": 2}), Work({"x": 1, "y": 3})
    assert dict((a + b).counts) == {"x": 3, "y": 3} and dict((a + b - a).counts) == {"x": 1, "y": 3}
    assert (a + NOTHING) is a and dict(a.times(3).counts) == {"x": 6}
