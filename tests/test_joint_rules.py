"""The joint rules of the checker by enumeration at widths 1 to 3: what they accept is uniform, all nodes together."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from proofs.certificate import masking_of, restore
from proofs.checker import Rejected, verify
from proofs.joint import JOINT, interval, script
from proofs.rules import Live, Node
from proofs.search import no_model
from proofs.symbolic import DRAW, Dag, cone, evaluate
from tests.checker_corpus import Row, document, draw, op, secret
from tests.joint_corpus import JOINT_GENUINE
from tests.test_checker import accepted, laws

Made = dict[str, Any]


def listed(rows: Sequence[Row]) -> list[Node]:
    return [Node(name, tuple(args), tuple(params), width, tuple(shape)) for name, args, params, width, shape in rows]


def holds(made: Made) -> bool:
    """Whether all steps of a document hold; what the view still depends on does not matter."""
    try:
        verify(made, no_model)
    except Rejected as reason:
        return "depends on the secret" in str(reason)
    return True


def uniform_together(dag: Dag, targets: Sequence[int], hidden: Sequence[int]) -> bool:
    """Whether these nodes are jointly uniform over the hidden draws, for every value of all other leaves."""
    size = 1
    for t in targets:
        size *= dag.nodes[t].ring.modulus ** int(np.prod(dag.nodes[t].shape))
    return all(len(law) == size and len(set(law.values())) == 1 for law in laws(dag, targets, hidden))


def one_step(rows: Sequence[Row], rule: str, symbols: Sequence[int], targets: Sequence[int]) -> bool:
    """Whether a step is accepted; if so, its nodes must be uniform together."""
    made = document(rows, targets, [(rule, list(symbols), list(targets))])
    if not holds(made):
        return False
    assert uniform_together(restore(made), targets, symbols), (rule, rows)
    return True


def leaf_bits(made: Made) -> int:
    """Bits to enumerate for a document."""
    return sum(row[2] * int(np.prod(row[3])) for row in made["dag"]["kinds"] if row[0] in ("draw", "input"))


EXACT = [(name, made) for name, made in JOINT_GENUINE if made["steps"][-1][0] != "statistical" and leaf_bits(made) < 14]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "made"), EXACT, ids=[name for name, _ in EXACT])
def test_genuine_joint_steps_are_right(name: str, made: Made) -> None:
    """By enumeration, where there are few leaves: the nodes of the first joint step, over all unseen draws."""
    dag = restore(made)
    targets = next(step[2] for step in made["steps"] if step[0] in JOINT)
    hidden = [n for n in cone(dag, targets) if dag.nodes[n].op == DRAW and dag.nodes[n].owner != "client"]
    assert uniform_together(dag, targets, hidden)


def test_most_genuine_steps_are_enumerated() -> None:
    assert len(EXACT) >= 30


# -- split -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("l", (1, 2, 3, 4))
def test_fields_are_accepted_exactly_when_they_are_disjoint_and_inside(l: int) -> None:
    fields = [(low, width) for low in range(l) for width in range(1, l + 1)]
    for first, second in itertools.combinations_with_replacement(fields, 2):
        rows: list[Row] = [draw(width=l)]
        for low, width in (first, second):
            rows += [op("shr", 0, params=[low], width=l), op("cast", len(rows), width=width)]
        taken = [set(range(low, low + width)) for low, width in (first, second)]
        right = not taken[0] & taken[1] and max(taken[0] | taken[1]) < l
        assert one_step(rows, "split", [0], [2, 4]) == right
        assert uniform_together(restore(document(rows, [2, 4], [])), [2, 4], [0]) == right


KEYS: list[Any] = [0, 1, -1, ["slice", None, 1, None], ["slice", 1, None, None], ["slice", None, None, 2],
                   ["slice", None, None, -1], ["tuple", "...", 0], ["tuple", ["slice", None, None, None],
                       1]]  # fmt: skip


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_selections_are_accepted_exactly_when_they_are_disjoint(shape: tuple[int, ...]) -> None:
    entries = np.arange(int(np.prod(shape))).reshape(shape)
    done = Counter[bool]()
    for keys in itertools.combinations(KEYS, 2):
        try:
            chosen = [entries[_thaw(key)] for key in keys]
        except IndexError:
            continue
        rows = [draw(width=1, shape=shape)]
        rows += [op("index", 0, params=[key], width=1, shape=c.shape) for key, c in zip(keys, chosen, strict=True)]
        right = not set(chosen[0].reshape(-1)) & set(chosen[1].reshape(-1))
        assert one_step(rows, "split", [0], [1, 2]) == right, keys
        done[right] += 1
    assert min(done.values()) >= 3


def _thaw(key: Any) -> Any:
    if isinstance(key, list):
        return tuple(_thaw(k) for k in key[1:]) if key[0] == "tuple" else slice(*key[1:])
    return Ellipsis if key == "..." else key


# -- linear ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("l", (1, 2))
def test_public_factors_are_accepted_exactly_when_the_determinant_is_odd(l: int) -> None:
    for a, b, c, d in itertools.product(range(min(4, 1 << l)), repeat=4):
        rows: list[Row] = [draw(width=l), draw(label="q", width=l)]
        for left, right in ((a, b), (c, d)):
            n = len(rows)
            rows += [op("const", params=[left], width=l), op("mul", 0, n, width=l),
                     op("const", params=[right], width=l), op("mul", n + 2, 1, width=l), op("add", n + 1, n + 3,
                         width=l)]  # fmt: skip
        right_ = (a * d - b * c) % 2 == 1
        assert one_step(rows, "linear", [0, 1], [6, 11]) == right_
        assert uniform_together(restore(document(rows, [6, 11], [])), [6, 11], [0, 1]) == right_


def linear_program(rng: random.Random) -> tuple[list[Row], list[int]]:
    """Two symbols, two other words, and some operations on them; the nodes that nothing uses."""
    l = rng.choice((1, 1, 2))
    rows: list[Row] = [draw(width=l), draw(label="q", width=l), secret(width=l), secret(label="y", width=l)]
    rows.append(op("const", params=[rng.randrange(1 << l)], width=l))
    used: set[int] = set()
    for _ in range(rng.randint(2, 6)):
        name = rng.choice(("add", "add", "sub", "mul", "neg", "shl", "equals", "shr", "select"))
        if name == "select":  # p or q, as a word's bit says, in one of the two orders
            n, (p, q) = len(rows), rng.sample((0, 1), 2)
            word = rng.choice((2, 3))
            rows += [op("equals", word, params=[rng.randrange(1 << l)], width=1), op("cast", n, width=l),
                     op("sub", p, q, width=l), op("mul", n + 1, n + 2, width=l), op("add", n + 3, q,
                         width=l)]  # fmt: skip
            used |= {0, 1, word, *range(n, n + 4)}
            continue
        two = name in ("add", "sub", "mul")
        args = [rng.randrange(len(rows)) for _ in range(2 if two else 1)]
        params = [rng.randrange(l)] if name in ("shl", "shr") else [rng.randrange(1 << l)] if name == "equals" else []
        rows.append(op(name, *args, params=params, width=1 if name == "equals" else l))
        used.update(args)
        if name == "equals":
            rows.append(op("cast", len(rows) - 1, width=l))
            used.add(len(rows) - 2)
        used.discard(len(rows) - 1)
    return rows, [n for n in range(5, len(rows)) if n not in used]


@pytest.mark.slow
def test_accepted_linear_steps_are_uniform_by_enumeration() -> None:
    rng, count = random.Random(3), Counter[tuple[bool, bool]]()
    for _ in range(1500):
        rows, ends = linear_program(rng)
        if not ends or len(ends) > 2:
            continue
        for symbols in ([0], [1], [0, 1]):
            took = one_step(rows, "linear", symbols, ends)
            if len(symbols) == 2 or took:
                count[took, uniform_together(restore(document(rows, ends, [])), ends, symbols)] += 1
    assert count[True, False] == 0 and count[True, True] > 40 and count[False, False] > 100, count
    assert count[True, True] > 2 * count[False, True], count  # few that are uniform are refused


# -- injective ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("l", (1, 2, 3))
def test_solver_steps_are_accepted_exactly_when_the_function_is_one_to_one(l: int) -> None:
    rng, count = random.Random(17 + l), Counter[bool]()
    for _ in range(60):
        rows: list[Row] = [draw(width=l), secret(width=l), op("const", params=[rng.randrange(1 << l)], width=l)]
        for _ in range(rng.randint(1, 5)):
            name = rng.choice(("add", "sub", "mul", "neg", "shl", "shr"))
            args = [
                rng.choice((0, len(rows) - 1, rng.randrange(len(rows))))
                for _ in range(2 if name in ("add", "sub", "mul") else 1)
            ]
            rows.append(op(name, *args, params=[rng.randrange(l)] if name in ("shl", "shr") else [], width=l))
        t = len(rows) - 1
        made = document(rows, [t], [("injective", [0], [t])])
        if 0 not in cone(restore(made), [t]):
            continue
        took = one_step(rows, "injective", [0], [t])
        above = {0} | {n for n in range(3, t + 1) if 0 in cone(restore(made), [n])}
        others = {a for n in above for a in rows[n][1]} - above
        # What is left of the symbol is a value of its own for the solver: the checker may refuse, not accept, too much.
        assert took or not uniform_together(restore(made), [t], [0]) or others - {2}, rows
        count[took] += 1
    assert min(count[True], count[False]) >= 8, count


@pytest.mark.slow
def test_the_text_for_the_solver_means_what_the_array_operations_mean() -> None:
    """The solver refutes the text with an entry pair that collides,
    and the evaluation of the DAG collides there too."""
    import z3

    rows = [draw(width=3), secret(width=3), op("shr", 0, params=[1], width=3), op("cast", 2, width=2),
            op("cast", 3, width=3), op("equals", 0, params=[5], width=1), op("cast", 5, width=3),
            op("mul", 4, 1, width=3), op("shl", 7, params=[1], width=3), op("sub", 8, 6, width=3), op("neg", 9,
                width=3),
            op("add", 10, 0, width=3)]  # fmt: skip
    made = document(rows, [11], [])
    nodes = listed(rows)
    text = script(Live(nodes, [11], "client"), 0, 11)
    dag = restore(made)
    for x, y, e in itertools.product(range(8), repeat=3):
        solver = z3.SolverFor("QF_BV")
        solver.from_string(
            text.replace("(check-sat)", "")
            + f"(assert (= x0 (_ bv{x} 3)))(assert (= y0 (_ bv{y} 3)))(assert (= e1 (_ bv{e} 3)))"
        )
        values = [
            evaluate(dag, [11], lambda node, r=r, e=e: np.uint64(r if node.op == "draw" else e))[11] for r in (x, y)
        ]
        assert (solver.check() == z3.sat) == (x != y and int(values[0]) == int(values[1]))


# -- statistical -------------------------------------------------------------------------------------------------------
def distance(first: Counter[bytes], second: Counter[bytes]) -> Fraction:
    total = sum(first.values())
    return Fraction(sum(abs(first[k] - second[k]) for k in first | second), 2 * total)


def bounded_programs() -> Iterator[tuple[list[Row], int, int]]:
    """Rows, the node, and the distance that the checker finds: bounded words under masks of one to three bits."""
    for l, w, inner in itertools.product((2, 3), (1, 2, 3), (1, 2)):
        for name, swap in (("add", False), ("sub", False), ("sub", True)):
            for extra in ("", "neg", "shr", "add", "sub"):
                rows: list[Row] = [draw(width=w), op("cast", 0, width=l), secret(width=inner), op("cast", 2, width=l)]
                if extra:
                    args = (3, 3) if extra in ("add", "sub") else (3,)
                    rows.append(op(extra, *args, params=[1] if extra == "shr" else [], width=l))
                n = len(rows)
                rows.append(op(name, *((1, n - 1) if swap else (n - 1, 1)), width=l))
                yield rows, n, w


def test_the_distance_of_a_statistical_step_bounds_the_exact_one() -> None:
    tight = 0
    for rows, t, w in bounded_programs():
        nodes = [
            Node(name, tuple(args), tuple(params), width, tuple(shape)) for name, args, params, width, shape in rows
        ]
        e = next(a for a in nodes[t].args if a != 1)
        low, high = interval(Live(nodes, [t], "client"), e)
        claimed = Fraction(high - low, 1 << w)
        made = document(rows, [t], [("statistical", [0], [t])], masking=masking_of(claimed) if claimed < 1 else None)
        if claimed < 1:
            assert verify(made).steps == 1
        exact = max(distance(a, b) for a, b in itertools.combinations(laws(restore(made), [t], [0]), 2))
        assert exact <= claimed, rows
        tight += exact == claimed
    assert tight > 15


def test_intervals_hold_every_value() -> None:
    rng = random.Random(29)
    for _ in range(300):
        l = rng.choice((1, 2, 3))
        rows: list[Row] = [
            secret(width=l),
            secret(label="y", width=l),
            op("const", params=[rng.randrange(1 << l)], width=l),
        ]
        for _ in range(rng.randint(1, 4)):
            name = rng.choice(("add", "sub", "neg", "shr", "cast", "equals"))
            a = rng.randrange(len(rows))
            width = rows[a][3]
            if name in ("add", "sub"):
                b = rng.choice([n for n in range(len(rows)) if rows[n][3] == width])
                rows.append(op(name, a, b, width=width))
            elif name == "cast":
                rows.append(op(name, a, width=rng.choice((1, 2, 3, 4))))
            else:
                params = (
                    [rng.randrange(width)] if name == "shr" else [rng.randrange(1 << width)] if name == "equals" else []
                )
                rows.append(op(name, a, params=params, width=1 if name == "equals" else width))
        low, high = sorted((rng.randrange(1 << l), rng.randrange(1 << l)))
        shift = rng.choice((0, -(1 << l)))
        nodes = [
            Node(name, tuple(args), tuple(params), width, tuple(shape)) for name, args, params, width, shape in rows
        ]
        state = Live(nodes, [], "client")
        state.ranges["server", "x"] = low + shift, high + shift
        dag, top = restore(document(rows, [], [])), len(rows) - 1
        least, most = interval(state, top)
        modulus = 1 << rows[top][3]
        for x, y in itertools.product(range(low, high + 1), range(1 << l)):
            values = evaluate(dag, [top], lambda node, x=x, y=y: np.uint64(x if node.label == "x" else y))
            assert (int(values[top]) - least) % modulus <= most - least, rows


# -- forged step lists on what leaks -----------------------------------------------------------------------------------
@pytest.mark.slow
def test_no_joint_step_helps_a_leaking_program() -> None:
    """Random groups of symbols and nodes, on programs that are not private: whatever holds, a secret stays."""
    rng, tried = random.Random(41), 0
    leaks: list[Callable[[], list[Row]]] = [
        lambda: [draw(), secret(), secret(label="y"), op("add", 0, 1), op("add", 0, 2)],
        lambda: [draw(), draw(label="q"), secret(), secret(label="y"), op("add", 0, 1), op("sub", 0, 1), op("add", 4,
            2),
                 op("add", 5, 3)],
        lambda: [draw(width=3), op("cast", 0), op("shr", 0, params=[1], width=3), op("cast", 2), secret(),
                 secret(label="y"), op("add", 1, 4), op("add", 3, 5)],
        lambda: [draw(), secret(), op("shr", 0, params=[1]), op("sub", 0, 2), op("add", 3, 1)],
        lambda: [draw(), secret(), secret(label="y"), op("mul", 0, 2), op("add", 3, 1)],
        lambda: [draw(), draw(label="q"), secret(), op("add", 0, 2), op("neg", 2), op("add", 1, 2)],
        lambda: [draw(), draw(label="q"), secret(), secret(label="y"), op("add", 0, 1), op("sub", 4, 1), op("add", 4,
            2),
                 op("add", 5, 3), op("mul", 2, 2)],
    ]  # fmt: skip
    for _ in range(3000):
        rows = rng.choice(leaks)()
        used = {a for row in rows for a in row[1]}
        ends = [n for n in range(len(rows)) if n not in used]
        steps = []
        for _ in range(rng.randint(1, 3)):
            draws = [n for n in range(len(rows)) if rows[n][0] == "draw"]
            group = draws if rng.random() < 0.8 else range(len(rows))
            symbols = rng.sample(group, rng.randint(1, min(2, len(group))))
            targets = ends if rng.random() < 0.4 else rng.sample(range(len(draws), len(rows)), rng.randint(1, 2))
            steps.append((rng.choice((*JOINT, "linear", "split", "add")), symbols, targets))
        with pytest.raises(Rejected):
            verify(document(rows, ends, steps), no_model)
        tried += accepted(document(rows, ends, steps[:1])) if steps[0][0] != "injective" else 0
    assert tried > 10  # first steps that hold
