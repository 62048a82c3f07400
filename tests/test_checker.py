"""The checker of privacy certificates: rules by enumeration, conditions by mutation, verdicts by forgery."""

from __future__ import annotations

import ast
import copy
import hashlib
import itertools
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from proofs import checker, joint, rules
from proofs.certificate import dag_json, restore
from proofs.checker import RULES, Rejected, canonical, check, digest, read, verify
from proofs.rules import selected
from proofs.search import no_model
from proofs.symbolic import DRAW, INPUT, LEAVES, Dag, Node, cone, evaluate
from sim.ring import Z2, Ring, RingArray, Spec, concat
from tests.checker_corpus import ADD, FORGED, GENUINE, MASKED, Row, document, draw, op, secret
from tests.checker_mutants import mutants
from tests.joint_corpus import INJECTIVE, JOINT_FORGED, JOINT_GENUINE

Words = NDArray[Any]
ACCEPTED, REFUSED = [*GENUINE, *JOINT_GENUINE], [*FORGED, *JOINT_FORGED]


@cache
def solve(script: str) -> bool:
    """The solver, but once per text; a mutant may ask without one."""
    return no_model(str(script))


# -- the corpus ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "genuine"), ACCEPTED, ids=[name for name, _ in ACCEPTED])
def test_accepts(name: str, genuine: dict[str, Any]) -> None:
    assert verify(genuine, solve).steps == len(genuine["steps"])


@pytest.mark.parametrize(("name", "forged", "reason"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_refuses(name: str, forged: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        verify(forged, solve)


def test_a_step_that_needs_a_solver_is_refused_without_one() -> None:
    asking = [made for _, made in JOINT_GENUINE if made["steps"][0][0] == "injective"]
    assert len(asking) >= 5
    for made in asking:
        with pytest.raises(Rejected, match="needs a solver, and none was given"):
            verify(made)


def test_search_free_and_standard_library_only() -> None:
    mine = {"proofs.rules", "proofs.joint"}
    for part in (checker, joint, rules):
        tree = ast.parse(Path(str(part.__file__)).read_text())
        imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in imported - mine} <= sys.stdlib_module_names
        assert not imported & {"itertools", "random", "functools", "heapq"}


# -- texts -----------------------------------------------------------------------------------------------------------
def whole(body: dict[str, Any]) -> dict[str, Any]:
    """A document with everything `check` looks at."""
    made = {
        "format": "secmoe-privacy",
        "version": 1,
        "sources": {"a.py": "00"},
        "versions": {"python": "3"},
        "dag_digest": "",
        **body,
    }
    return sealed(made)


def sealed(made: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in made.items() if key != "digest"}
    return {**made, "digest": digest(made)}


def text_of(made: dict[str, Any]) -> str:
    return canonical(made) + "\n"


MADE = whole(document(MASKED, [2], [ADD]))
TEXT = text_of(MADE)
FLOATED = copy.deepcopy(MADE)
FLOATED["version"] = 1.0
ALTERED = copy.deepcopy(MADE)
ALTERED["steps"] = []
OTHER = copy.deepcopy(MADE)
OTHER["claim"]["corrupted"] = "server"


def digested(text: str) -> str:
    """The text with its own digest in it, canonical or not."""
    entry = f'"digest":"{MADE["digest"]}",'
    found = hashlib.sha256(text.replace(entry, "").removesuffix("\n").encode()).hexdigest()
    return text.replace(entry, f'"digest":"{found}",')


TEXTS: list[tuple[str, str, str]] = [
    ("empty", "", "truncated or damaged"),
    ("truncated", TEXT[: len(TEXT) // 2], "truncated or damaged"),
    ("deep", "[" * 5_000, "truncated or damaged"),
    ("a list", "[]\n", "expected the format"),
    ("another format", text_of(sealed({**MADE, "format": "other"})), "expected the format"),
    ("another version", text_of(sealed({**MADE, "version": 2})), "expected certificate version 1, got 2"),
    ("version true", text_of(sealed({**MADE, "version": True})), "expected certificate version 1, got True"),
    ("a float", json.dumps(FLOATED), "expected integers only"),
    ("not a number", TEXT.replace('"version":1', '"version":NaN'), "expected integers only"),
    ("altered", text_of(ALTERED), "its digest differs"),
    ("no digest", text_of({k: v for k, v in MADE.items() if k != "digest"}), "its digest differs"),
    ("white space", json.dumps(MADE, sort_keys=True) + "\n", "its digest differs"),
    ("white space, digested", digested(TEXT.replace(',"version"', ', "version"')), "not the canonical one"),
    ("no newline", TEXT[:-1], "not the canonical one"),
    ("a key twice", TEXT.replace('"version":1', '"version":1,"version":1'), "its digest differs"),
    (
        "a key twice, digested",
        digested(TEXT.replace('"version":1', '"version":1,"version":1')),
        "not the canonical one",
    ),
    ("another party", text_of(sealed(OTHER)), "claim differs in corrupted; prove it again"),
    ("no claim", text_of(sealed({k: v for k, v in MADE.items() if k != "claim"})), "malformed certificate"),
    (
        "other sources",
        text_of(sealed({**MADE, "sources": {"a.py": "01", "b.py": "00"}})),
        "sources differs in a.py, b.py;",
    ),
    ("no sources", text_of(sealed({k: v for k, v in MADE.items() if k != "sources"})), "sources differs; prove"),
    ("other versions", text_of(sealed({**MADE, "versions": {"python": "4"}})), "versions differs in python"),
    ("other DAG", text_of(whole(document([*MASKED, draw(label="q")], [2], [ADD]))), "dag differs in kinds, nodes"),
    ("other DAG digest", text_of(sealed({**MADE, "dag_digest": "2"})), "dag_digest differs;"),
    ("other view", text_of(whole(document(MASKED, [], []))), "view differs;"),
    (
        "a wrong step",
        text_of(whole(document(MASKED, [2], [("sub", 0, 2)]))),
        "step 0 .sub at node 2.: the node is a add",
    ),
]


def from_source(claim: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in MADE.items() if key not in ("steps", "digest")}


def test_a_genuine_text_is_accepted() -> None:
    accepted = check(TEXT, from_source)
    assert (accepted.claim, accepted.nodes, accepted.steps) == ({"corrupted": "client"}, 3, 1)
    assert accepted.digest == MADE["digest"] == read(TEXT)["digest"]


@pytest.mark.parametrize(("name", "text", "reason"), TEXTS, ids=[name for name, _, _ in TEXTS])
def test_refuses_text(name: str, text: str, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        check(text, from_source)


# -- every condition of the checker is needed ------------------------------------------------------------------------
def outcomes(module: ModuleType) -> Iterator[tuple[str, str]]:
    """What this checker says of the whole corpus."""
    for name, made in ACCEPTED:
        yield name, _outcome(lambda made=made: module.verify(made, solve))
    for name, made, _ in REFUSED:
        yield name, _outcome(lambda made=made: module.verify(made, solve))
    for name, made in INJECTIVE[:1]:
        yield f"{name}, no solver", _outcome(lambda made=made: module.verify(made))
    yield "text", _outcome(lambda: module.check(TEXT, from_source))
    for name, text, _ in TEXTS:
        yield name, _outcome(lambda text=text: module.check(text, from_source))


def _outcome(run: Callable[[], Any]) -> str:
    try:
        return str(run())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.slow
def test_every_mutant_of_the_checker_is_caught_by_the_corpus() -> None:
    expected = dict(outcomes(checker))
    survivors, count = [], 0
    for what, mutant in mutants():
        count += 1
        if all(said == expected[name] for name, said in outcomes(mutant)):
            survivors.append(what)
    assert not survivors, "\n".join(survivors)
    assert count > 400


# -- every rule is sound: exhaustively at widths 1 to 3 --------------------------------------------------------------
def leaf_words(node: Node) -> Iterator[Words]:
    size = int(np.prod(node.shape))
    for values in itertools.product(range(node.ring.modulus), repeat=size):
        yield np.array(values, dtype=np.uint64).reshape(node.shape)


def laws(dag: Dag, roots: Sequence[int], hidden: Sequence[int]) -> list[Counter[bytes]]:
    """For each value of the other leaves, the law of the roots over uniform `hidden` leaves."""
    numbers = [n for n in cone(dag, [*roots, *hidden]) if dag.nodes[n].op in (INPUT, DRAW)]
    others = [n for n in numbers if n not in hidden]
    found = []
    for rest in itertools.product(*(leaf_words(dag.nodes[n]) for n in others)):
        law: Counter[bytes] = Counter()
        for mine in itertools.product(*(leaf_words(dag.nodes[n]) for n in hidden)):
            given = {id(dag.nodes[n]): v for n, v in zip([*others, *hidden], [*rest, *mine], strict=True)}
            values = evaluate(dag, roots, lambda node, given=given: given[id(node)])
            law[b"".join(values[r].astype(np.uint64).tobytes() for r in roots)] += 1
        found.append(law)
    return found


def is_uniform(dag: Dag, target: int, hidden: Sequence[int]) -> bool:
    node = dag.nodes[target]
    outcomes_ = node.ring.modulus ** int(np.prod(node.shape))
    return all(len(law) == outcomes_ and len(set(law.values())) == 1 for law in laws(dag, [target], hidden))


def accepted(made: dict[str, Any]) -> bool:
    """Whether the first step of a document holds; the secret that it does not reach does not matter."""
    try:
        verify(made)
    except Rejected as reason:
        return "depends on the secret" in str(reason)
    return True


def uniform_if_accepted(rows: Sequence[Row], rule: str, r: int, t: int, view: Sequence[int] = ()) -> bool:
    """Apply one step; where the checker allows it, the node must be uniform for every value of everything else."""
    made = document(rows, [t, *view], [(rule, r, t)])
    if not accepted(made):
        return False
    dag = restore(made)
    hidden = [a for a in dag.nodes[t].args if dag.nodes[a].op == DRAW and dag.nodes[a].owner != "client"]
    assert is_uniform(dag, t, hidden), rows
    return True


WIDTHS = (1, 2, 3)


@pytest.mark.parametrize("w", WIDTHS)
@pytest.mark.parametrize("shape", [(), (2,)])
def test_additive_rules(w: int, shape: tuple[int, ...]) -> None:
    if w == 3 and shape:
        w, shape = 3, (1, 1)
    for other in (secret(width=w, shape=shape), draw("client", "own", w, shape), draw(label="q", width=w, shape=shape)):
        rows = [draw(width=w, shape=shape), other]
        for rule in ("add", "sub"):
            for args in ((0, 1), (1, 0)):
                assert uniform_if_accepted([*rows, op(rule, *args, width=w, shape=shape)], rule, 0, 2)
            assert not uniform_if_accepted([*rows, op(rule, 0, 0, width=w, shape=shape)], rule, 0, 2)
    assert uniform_if_accepted([draw(width=w, shape=shape), op("neg", 0, width=w, shape=shape)], "neg", 0, 1)


@pytest.mark.parametrize("w", WIDTHS)
def test_odd_factor(w: int) -> None:
    for c in range(1 << w):
        rows = [draw(width=w), op("const", params=[c], width=w), op("mul", 0, 1, width=w)]
        assert (
            uniform_if_accepted(rows, "odd", 0, 2)
            == is_uniform(restore(document(rows, [2], [])), 2, [0])
            == (c % 2 == 1)
        )
    for pair in itertools.product(range(1 << w), repeat=2):
        words = np.array(pair, dtype="<u8").tobytes().hex()
        rows = [
            draw(width=w, shape=(2,)),
            op("const", params=[words], width=w, shape=(2,)),
            op("mul", 1, 0, width=w, shape=(2,)),
        ]
        assert uniform_if_accepted(rows, "odd", 0, 2) == all(c % 2 for c in pair)


@pytest.mark.parametrize(("w", "to"), list(itertools.product(WIDTHS, repeat=2)))
def test_cast(w: int, to: int) -> None:
    for shape in ((), (2,)):
        rows = [draw(width=w, shape=shape), op("cast", 0, width=to, shape=shape)]
        assert (
            uniform_if_accepted(rows, "cast", 0, 1) == is_uniform(restore(document(rows, [1], [])), 1, [0]) == (to <= w)
        )


SHAPES = [(), (1,), (2,), (3,), (1, 2), (2, 2), (4,), (2, 1), (0,), (0, 2)]


@pytest.mark.parametrize("w", (1, 2))
def test_reshape_transpose_sum(w: int) -> None:
    done = Counter[str]()
    for shape, other in itertools.product(SHAPES, repeat=2):
        same = np.prod(shape) == np.prod(other)
        rows = [draw(width=w, shape=shape), op("reshape", 0, width=w, shape=other)]
        if same:
            assert uniform_if_accepted(rows, "reshape", 0, 1)
        assert accepted(document(rows, [1], [("reshape", 0, 1)])) == same
    for shape in SHAPES:
        for axes in itertools.product(range(len(shape)), repeat=len(shape)):
            into = tuple(shape[a] for a in axes)
            rows = [draw(width=w, shape=shape), op("transpose", 0, params=axes, width=w, shape=into)]
            legal = sorted(axes) == list(range(len(shape)))
            assert accepted(document(rows, [1], [("transpose", 0, 1)])) == legal
            done["transpose"] += legal and uniform_if_accepted(rows, "transpose", 0, 1)
        for axis in range(len(shape)):
            rows = [
                draw(width=w, shape=shape),
                op("sum", 0, params=[axis], width=w, shape=shape[:axis] + shape[axis + 1 :]),
            ]
            got = uniform_if_accepted(rows, "sum", 0, 1)
            assert got == (shape[axis] > 0)
            done["sum"] += got
    assert done["transpose"] >= 12 and done["sum"] >= 10


PARTS = [
    0,
    -1,
    1,
    2,
    None,
    "...",
    *(["slice", *s] for s in itertools.product((None, 1, -1), (None, 2, -1), (None, 2, -1))),
]


@pytest.mark.parametrize("shape", [(2,), (3,), (2, 2)])
def test_index_selects_as_numpy_does_and_distinct_entries(shape: tuple[int, ...]) -> None:
    entries = np.arange(int(np.prod(shape))).reshape(shape)
    keys: list[Any] = [*PARTS, *(["tuple", *parts] for n in (0, 1, 2) for parts in itertools.product(PARTS, repeat=n))]
    count = 0
    for key in keys:
        thawed = tuple(_thaw(p) for p in key[1:]) if isinstance(key, list) and key[0] == "tuple" else _thaw(key)
        try:
            chosen = entries[thawed]
        except IndexError:
            with pytest.raises((Rejected, IndexError, ValueError)):
                taken = selected(shape, key)
                if key.count("...") > 1:  # refused by numpy, so no text has it
                    raise ValueError(taken) from None
            continue
        found, taken = selected(shape, key)
        assert found == chosen.shape, key
        assert np.array_equal(entries[np.ix_(*taken)].reshape(-1), chosen.reshape(-1))
        assert len(set(chosen.reshape(-1))) == chosen.size
        count += 1
        if count % 40 == 0:
            rows = [draw(width=1, shape=shape), op("index", 0, params=[key], width=1, shape=chosen.shape)]
            assert uniform_if_accepted(rows, "index", 0, 1)
    assert count > 150


def _thaw(part: Any) -> Any:
    return slice(*part[1:]) if isinstance(part, list) else Ellipsis if part == "..." else part


@pytest.mark.parametrize("w", (1, 2))
def test_concat(w: int) -> None:
    leaves = [
        draw(width=w, shape=(1,)),
        draw(label="q", width=w, shape=(1,)),
        draw("functionality", "f", w, (1,)),
        draw("client", "own", w, (1,)),
        secret(width=w, shape=(1,)),
    ]
    right = 0
    for n in (1, 2, 3):
        for parts in itertools.product(range(len(leaves)), repeat=n):
            for seen in ((), (parts[0],), (parts[-1],)):
                rows = [*leaves, op("concat", *parts, params=[0], width=w, shape=(n,))]
                good = len(set(parts)) == n and not seen and max(parts) < 3
                for r in set(parts):
                    assert uniform_if_accepted(rows, "concat", r, len(leaves), seen) == good
                right += good
    assert right == 3 + 6 + 6


# -- whole programs: what is accepted is independent of the secrets, by enumeration ----------------------------------
OPERATIONS = ("add", "sub", "mul", "neg")


def random_program(rng: random.Random) -> tuple[list[Row], list[int]]:
    w = rng.choice((1, 1, 2))
    rows: list[Row] = [secret(width=w), secret(label="y", width=w)]
    rows += [draw(label=f"r{i}", width=w) for i in range(rng.randint(1, 3))]
    if rng.random() < 0.4:
        rows.append(draw("client", "own", w))
    rows.append(op("const", params=[rng.randrange(1 << w)], width=w))
    for _ in range(rng.randint(2, 6)):
        name = rng.choice(OPERATIONS)
        args = [rng.randrange(len(rows)) for _ in range(1 if name == "neg" else 2)]
        rows.append(op(name, *args, width=w))
    leaves = sum(row[0] in LEAVES for row in rows)
    return rows, rng.sample(range(leaves, len(rows)), rng.randint(1, 2))


def greedy(rows: Sequence[Row], view: Sequence[int], rng: random.Random) -> list[tuple[str, int, int]]:
    """Steps that the checker itself allows, tried in random order until none is left."""
    steps: list[tuple[str, int, int]] = []
    moves = [
        (rule, a, t)
        for t, row in enumerate(rows)
        for a in set(row[1])
        for rule, (name, _, _) in RULES.items()
        if name == row[0]
    ]
    while True:
        rng.shuffle(moves)
        for move in moves:
            if accepted(document(rows, view, [*steps, move])):
                steps.append(move)
                break
        else:
            return steps


def is_private(made: dict[str, Any]) -> bool:
    dag = restore(made)
    roots = [entry[-1] for entry in made["view"]]
    numbers = cone(dag, roots)
    hidden = [n for n in numbers if dag.nodes[n].op == DRAW and dag.nodes[n].owner != "client"]
    known = [n for n in numbers if dag.nodes[n].op == DRAW and dag.nodes[n].owner == "client"]
    prefix = 8 * sum(int(np.prod(dag.nodes[n].shape)) for n in known)
    by_known: dict[bytes, set[Any]] = {}
    for law in laws(dag, [*known, *roots], hidden):
        by_known.setdefault(next(iter(law))[:prefix], set()).add(frozenset(law.items()))
    return all(len(laws_) == 1 for laws_ in by_known.values())


def test_accepted_programs_are_private_by_enumeration() -> None:
    rng = random.Random(11)
    verdicts = Counter[tuple[bool, bool]]()
    for _ in range(250):
        rows, view = random_program(rng)
        made = document(rows, view, greedy(rows, view, rng))
        try:
            proved = verify(made).steps >= 0
        except Rejected:
            proved = False
        private = is_private(made)
        assert private or not proved, made
        verdicts[proved, private] += 1
    assert verdicts[True, True] > 40 and verdicts[False, False] > 40, verdicts


# -- leaking protocols and forged proofs -----------------------------------------------------------------------------
def leaking() -> Iterator[tuple[str, dict[str, Any]]]:
    """Small leaking protocols, as their arrays; the client is corrupted."""
    w = Ring(2)
    word, pair, bits = Spec(w, ()), Spec(w, (2,)), Spec(Z2, (2,))

    def build(body: Callable[[Dag, Callable[..., RingArray]], Sequence[RingArray]]) -> dict[str, Any]:
        dag = Dag()
        view = [x.value for x in body(dag, lambda label, spec=word, owner="server": dag.leaf(owner, label, spec, DRAW))]
        part, place = dag_json(dag, cone(dag, view))
        return {
            "claim": {"corrupted": "client"},
            "dag": part,
            "view": [[f"m{i}", place[v]] for i, v in enumerate(view)],
            "steps": [],
            "digest": "",
        }

    def x(dag: Dag, label: str = "x", spec: Spec = word) -> RingArray:
        return dag.leaf("server", label, spec)

    yield "one mask for two values", build(lambda d, r: [x(d) + r("a"), x(d, "y") + r("a")])
    yield "mask revealed later", build(lambda d, r: [x(d) + r("a"), r("a") + 1])
    yield "a triangle without an order", build(lambda d, r: [x(d) + r("a") + r("b"), r("a") - r("b")])
    yield "even factor", build(lambda d, r: [x(d) + r("a") * 2])
    yield "broadcast mask", build(lambda d, r: [x(d, "x", pair) + r("a", Spec(w, (1,))).broadcast(2)])
    yield "short mask", build(lambda d, r: [x(d) + r("a", Spec(Ring(1), ())).cast(w)])
    yield "product mask", build(lambda d, r: [x(d) * r("a")])
    yield (
        "overlapping slices",
        build(
            lambda d, r: [x(d, "x", bits) + r("a", Spec(Z2, (3,)))[:2], x(d, "y", bits) + r("a", Spec(Z2, (3,)))[1:]]
        ),
    )
    yield (
        "half masked",
        build(lambda d, r: [concat(x(d, "x", Spec(w, (1,))) + r("a", Spec(w, (1,))), x(d, "y", Spec(w, (1,))))]),
    )
    yield "own mask", build(lambda d, r: [x(d) + r("a", word, "client")])
    yield "bit of a masked sum", build(lambda d, r: [(x(d) + r("a")) >> 1, r("a")])
    yield "an honest mask beside a leak", build(lambda d, r: [x(d) + r("a"), x(d, "y") + r("b"), r("b") - r("a")])


LEAKING = list(leaking())


@pytest.mark.parametrize(("name", "made"), LEAKING, ids=[name for name, _ in LEAKING])
def test_the_leaking_protocols_leak(name: str, made: dict[str, Any]) -> None:
    assert not is_private(made)


def forged_steps(rng: random.Random, made: dict[str, Any]) -> list[list[Any]]:
    """Plausible steps: mostly along edges of the DAG with the right rule, some with anything."""
    rows, kinds = made["dag"]["nodes"], made["dag"]["kinds"]
    by_op: dict[str, list[str]] = {}
    for rule, (name, _, _) in RULES.items():
        by_op.setdefault(name, []).append(rule)
    edges = [(a, t) for t, row in enumerate(rows) for a in row[1:]]
    moves = [[rule, a, t] for a, t in edges for rule in by_op.get(kinds[rows[t][0]][0], [])]
    first = [move for move in moves if accepted({**made, "steps": [move]})]
    steps: list[list[Any]] = [rng.choice(first)] if first and rng.random() < 0.5 else []
    for _ in range(rng.randint(0, 4)):
        symbol, target = rng.choice(edges)
        if rng.random() < 0.15:
            symbol, target = rng.randrange(len(rows)), rng.randrange(len(rows))
        right = by_op.get(kinds[rows[target][0]][0], [])
        steps.append([rng.choice(right) if right and rng.random() < 0.8 else rng.choice(list(RULES)), symbol, target])
    return steps


@pytest.mark.slow
def test_ten_thousand_forged_step_lists_on_leaking_protocols() -> None:
    rng = random.Random(5)
    held = 0
    for i in range(10_000):
        made = {**LEAKING[i % len(LEAKING)][1]}
        made["steps"] = forged_steps(rng, made)
        with pytest.raises(Rejected) as refused:
            verify(made)
        held += "depends on the secret" in str(refused.value)
    assert held > 100  # lists whose every step holds, and which still prove nothing
