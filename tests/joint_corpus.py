"""Hand-made certificates of the joint rules, right and forged: one forgery for every condition."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from proofs.certificate import masking_of
from tests.checker_corpus import Row, document, draw, op, secret

Made = dict[str, Any]
DEPTH, ATOMS = 100, 10  # limits of a linear step


def const(value: Any, width: int = 2, shape: Sequence[int] = ()) -> Row:
    return op("const", params=[value], width=width, shape=shape)


def words(*values: int) -> str:
    return b"".join(value.to_bytes(8, "little") for value in values).hex()


def part(a: int, lo: Any, hi: Any, n: int, width: int = 2) -> Row:
    return op("index", a, params=[["slice", lo, hi, None]], shape=(n,), width=width)


R, Q, X, Y = draw(), draw(label="q"), secret(), secret(label="y")
R3, X3 = draw(width=3), secret(width=3)
PAIRS = draw(shape=(2, 3))


# -- split -------------------------------------------------------------------------------------------------------------
def halves(first: Row, second: Row, symbol: Row, view: Sequence[int] = (5, 6), **more: Any) -> Made:
    """Two secrets hidden by two parts of one symbol: rows 1 and 2."""
    mine = [("split", [0], [1, 2]), ("add", 1, 5), ("add", 2, 6)]
    rows = [
        symbol,
        first,
        second,
        *(secret(label=f"x{i}", width=p[3], shape=p[4]) for i, p in enumerate((first, second))),
    ]
    rows += [op("add", i, i + 2, width=p[3], shape=p[4]) for i, p in ((1, first), (2, second))]
    return document(rows, view, more.get("steps", mine))


FOUR = draw(shape=(4,))
BITS = draw(width=4)
SPLIT: list[tuple[str, Made]] = [
    ("split into slices", halves(part(0, None, 1, 1), part(0, 1, None, 3), FOUR)),
    ("split, some entries unused", halves(part(0, 3, None, 1), part(0, None, 2, 2), FOUR)),
    (
        "split into fields",
        document(
            [BITS, op("cast", 0), op("shr", 0, params=[2], width=4), op("cast", 2), X, Y, op("add", 1, 4), op("sub",
             5, 3)],
            [6, 7],
            [("split", [0], [1, 3]), ("add", 1, 6), ("sub", 3, 7)],
        ),
    ),
    (
        "split into fields of fields",
        document(
            [draw(width=3), op("shr", 0, params=[1], width=3), op("cast", 1), op("shr", 2, params=[1]),
             op("cast", 3, width=1), op("cast", 0, width=1), secret(width=1), secret(label="y", width=1),
             op("add", 4, 6, width=1), op("add", 5, 7, width=1)],
            [8, 9],
            [("split", [0], [4, 5]), ("add", 4, 8), ("add", 5, 9)],
        ),
    ),
    (
        "split across the axes",
        document(
            [PAIRS, op("transpose", 0, params=[1, 0], shape=(3, 2)),
             op("index", 1, params=[["tuple", ["slice", None, 1, None]]], shape=(1, 2)),
             op("index", 0, params=[["tuple", "...", ["slice", 1, None, None]]], shape=(2, 2)),
             secret(shape=(1, 2)), secret(label="y", shape=(2, 2)), op("add", 2, 4, shape=(1, 2)),
             op("add", 3, 5, shape=(2, 2))],
            [6, 7],
            [("split", [0], [2, 3]), ("add", 2, 6), ("add", 3, 7)],
        ),
    ),
    (
        "split of a reshaped symbol",
        document(
            [PAIRS, op("reshape", 0, shape=(6,)), part(1, 3, None, 3),
             op("index", 0, params=[0], shape=(3,)), secret(shape=(3,)), op("add", 2, 4, shape=(3,)),
             op("sub", 3, 4, shape=(3,))],
            [5, 6],
            [("split", [0], [2, 3]), ("add", 2, 5), ("sub", 3, 6)],
        ),
    ),
]  # fmt: skip
BAD_SPLIT: list[tuple[str, Made, str]] = [
    ("split of two", document([R, Q, op("cast", 0), X], [2, 3], [("split", [0, 1], [2])]), "more than one symbol"),
    ("overlapping slices", halves(part(0, None, 3, 3), part(0, 2, None, 2), FOUR), "taken twice"),
    (
        "overlapping fields",
        document([BITS, op("cast", 0), op("shr", 0, params=[1], width=4), op("cast", 2), X], [1, 3, 4],
                 [("split", [0], [1, 3])]),
        "taken twice",
    ),
    ("field beyond the top", document([R, op("shr", 0, params=[1]), X], [1, 2], [("split", [0], [1])]), "bits beyond"),
    ("split into a wider ring", document([R, op("cast", 0, width=3), X], [1, 2], [("split", [0], [1])]), "bits beyond"),
    ("split and a use besides", halves(part(0, None, 1, 1), part(0, 1, None, 3), FOUR, (0, 5, 6)), "past the nodes"),
    ("split of one use of two", halves(part(0, None, 1, 1), part(0, 1, None, 3), FOUR, steps=[("split", [0], [1])]),
     "past the nodes"),
    ("a sum as a part", document([R, X, op("add", 0, 1)], [2], [("split", [0], [2])]), "not made of the symbol alone"),
    ("a part of something else", document([R, Q, op("cast", 1), X], [2, 3], [("split", [0], [2])]), "symbol alone"),
    (
        "a part of a part that is a symbol",
        document([FOUR, part(0, None, 2, 2), part(1, None, 1, 1), X], [1, 2, 3], [("index", 0, 1), ("split", [0],
         [2])]),
        "is a symbol itself",
    ),
    ("a shift left as a part", document([R, op("shl", 0, params=[0]), X], [1, 2], [("split", [0], [1])]), "not a part"),
    (
        "a part of another shape",
        document([R, op("cast", 0, shape=(2,)), X], [1, 2], [("split", [0], [1])]),
        "has another shape",
    ),
    ("a part repeated", halves(part(0, None, 1, 4), part(0, 1, None, 3), FOUR), "index has another shape"),
    (
        "diagonal as a part",
        document([draw(shape=(2, 2)), op("transpose", 0, params=[0, 0], shape=(2, 2)), X], [1, 2], [("split", [0],
         [1])]),
        "not a permutation",
    ),
    (
        "reshape to more, as a part",
        document([R, op("reshape", 0, shape=(2,)), X], [1, 2], [("split", [0], [1])]),
        "changes the size",
    ),
]  # fmt: skip


# -- linear ------------------------------------------------------------------------------------------------------------
def masks(*more: Row, steps: Sequence[Any] | None = None, view: Sequence[int] = ()) -> Made:
    """Rows 0 to 3 are r, q, x, y; the last two of the others hide x and y."""
    rows = [R, Q, X, Y, *more]
    n = len(rows)
    ends = [op("add", n - 2, 2), op("add", n - 1, 3)]
    return document([*rows, *ends], [n, n + 1, *view], [("linear", [0, 1], [n, n + 1])] if steps is None else steps)


def factor(*more: Row, at: int = -1, step: Any = None, symbol: Row = R) -> Made:
    """x + r f, where f is the last of the rows that are given; rows 0 to 2 are r, x, y. The other secret is y, sent
    under a mask of its own in the end."""
    rows = [symbol, X, Y, *more]
    n = len(rows)
    rows += [op("mul", 0, n + at), op("add", n, 1)]
    # Whatever secrets the factor is made of are still live: the step must hold, then they are shown to be gone.
    return document(rows, [n + 1], [step or ("linear", [0], [n + 1])])


def doubled(count: int) -> list[Row]:
    """1 + sum of y_i y_i + y_i: odd, with `count` unknown bits."""
    rows: list[Row] = []
    rows += [secret(label=f"z{i}") for i in range(count)]
    rows.append(const(1))
    total = 3 + count
    for i in range(count):
        n = 3 + len(rows)
        rows += [op("mul", 3 + i, 3 + i), op("add", n, 3 + i), op("add", n + 1, total)]
        total = n + 2
    return rows


def chosen(width: int) -> list[Row]:
    """The sum of all [z = c]: one."""
    rows: list[Row] = [secret(label="z", width=width), op("equals", 3, params=[0], width=1)]
    total = 4
    for c in range(1, 1 << width):
        n = 3 + len(rows)
        rows += [op("equals", 3, params=[c], width=1), op("add", n, total, width=1)]
        total = n + 1
    return [*rows, op("cast", total)]


def chain(length: int) -> list[Row]:
    """A public one behind so many negations."""
    return [const(1), *(op("neg", 3 + i) for i in range(length))]


TWICE = op("shl", 1, params=[1])
LINEAR: list[tuple[str, Made]] = [
    ("odd determinant", masks(TWICE, op("add", 0, 1), op("add", 0, 4))),
    ("odd determinant, by differences", masks(op("add", 1, 1), op("sub", 0, 1), op("sub", 4, 0))),
    ("even in one, odd in the other", masks(op("shl", 0, params=[1]), op("neg", 4), op("add", 5, 1), op("add", 0, 4))),
    ("shift by nothing", masks(op("shl", 1, params=[0]), op("neg", 0), op("add", 4, 0), op("neg", 5))),
    (
        "more symbols than nodes",
        document([R, Q, X, op("sub", 0, 1), op("mul", 2, 3), op("add", 4, 0)], [5], [("linear", [0, 1], [5])]),
    ),
    (
        "a mask chosen by a secret bit",
        document(
            [R, Q, X, secret(label="b", width=1), op("cast", 3), op("sub", 1, 0), op("mul", 4, 5), op("add", 0, 6),
             op("add", 2, 7)],
            [8],
            [("linear", [0, 1], [8])],
        ),
    ),
    (
        "two masks in either order",
        document(
            [R, Q, X, Y, secret(label="b", width=1), op("cast", 4), op("sub", 1, 0), op("mul", 5, 6), op("add", 0, 7),
             op("sub", 1, 7), op("add", 8, 2), op("add", 9, 3)],
            [10, 11],
            [("linear", [0, 1], [10, 11])],
        ),
    ),
    (
        "reduced masks",
        document(
            [R3, draw(label="q", width=3), op("add", 0, 1, width=3), op("cast", 2), op("cast", 0), X, Y, op("add", 3,
             5),
             op("add", 4, 6), op("cast", 8)],
            [7, 9],
            [("linear", [0, 1], [7, 9])],
        ),
    ),
    (
        "below a symbol nothing counts",
        document(
            [R, Q, draw(label="s"), op("mul", 0, 0), op("add", 2, 3), X, op("add", 0, 4), op("add", 6, 1), op("neg", 1),
             op("add", 7, 5)],
            [9, 8],
            [("add", 2, 4), ("linear", [0, 1], [8, 9])],
        ),
    ),
    ("a node above a node", masks(op("add", 0, 1), op("add", 4, 1), op("add", 5, 4))),
    ("odd by a public factor", factor(const(2), op("mul", 2, 3), const(1), op("add", 4, 5))),
    ("odd by public words", document(
        [draw(shape=(2,)), const(words(1, 3), shape=(2,)), op("mul", 0, 1, shape=(2,)), secret(shape=(2,)),
         op("add", 2, 3, shape=(2,))], [4], [("linear", [0], [4])])),
    ("odd by a shift", factor(op("shl", 2, params=[1]), const(3), op("sub", 4, 3))),
    ("odd by a shift by nothing", factor(op("shl", 2, params=[0]), op("sub", 2, 3), const(1), op("sub", 5, 4))),
    ("odd by negation", factor(op("neg", 2), op("add", 2, 3), const(1), op("add", 4, 5))),
    ("odd, the bit of a bit", factor(op("cast", 2, width=1), op("cast", 3), op("shr", 4, params=[1]), const(1),
     op("add", 5, 6))),
    ("odd, a bit of a bit shifted up", factor(op("shl", 2, params=[1]), op("shr", 3, params=[1]), op("add", 2, 4),
     const(1), op("add", 5, 6))),
    ("odd by a public bit", factor(const(2), op("shr", 3, params=[1]))),
    ("odd product", factor(op("mul", 2, 2), op("add", 2, 3), const(1), op("sub", 5, 4))),
    ("odd behind a long way", factor(*chain(DEPTH))),
    ("odd with many unknown bits", factor(*doubled(ATOMS))),
    ("one of eight", factor(*chosen(3))),
    ("a factor in part a mask", document(
        [R, X, draw(label="q"), op("add", 0, 2), op("mul", 3, 0), op("mul", 2, 0), op("sub", 4, 5), X, op("sub", 2, 0),
         op("add", 1, 8)], [9], [("linear", [0, 2], [9])])),
]  # fmt: skip
BAD_LINEAR: list[tuple[str, Made, str]] = [
    ("even determinant", masks(op("add", 0, 1), op("sub", 0, 1)), "even or dependent factors"),
    ("one mask for two", masks(op("neg", 0), op("neg", 0), steps=[("linear", [0], [5, 6])]),
     "even or dependent factors"),
    ("twice the mask", factor(const(2)), "even or dependent factors"),
    ("mask and itself", document([R, X, op("add", 0, 0), op("add", 2, 1)], [3], [("linear", [0], [3])]), "even or dep"),
    ("mask minus itself", document([R, X, op("sub", 0, 0), op("add", 2, 1)], [3], [("linear", [0], [3])]),
     "even or dep"),
    ("mask shifted left", document([R, X, op("shl", 0, params=[1]), op("add", 2, 1)], [3], [("linear", [0], [3])]),
     "even or dependent"),
    ("secret factor", factor(op("neg", 2)), "if the unknown bits are 0"),
    ("even for one value of two", factor(op("cast", 2, width=1), op("cast", 3)), "if the unknown bits are 0"),
    ("even for the other value", factor(const(1), op("add", 2, 3)), "if the unknown bits are 1"),
    ("odd for one entry only", document(
        [draw(shape=(2,)), const(words(1, 2), shape=(2,)), op("mul", 0, 1, shape=(2,)), secret(shape=(2,)),
         op("add", 2, 3, shape=(2,))], [4], [("linear", [0], [4])]), "if the unknown bits are 0"),
    ("a carry", factor(const(1), op("add", 3, 3), op("shr", 4, params=[1]), const(1), op("add", 5, 6)), "bits are 1"),
    ("another comparison", factor(secret(label="z"), op("equals", 3, params=[1], width=1), op("equals", 3,
     params=[2], width=1),
                                  op("add", 4, 5, width=1), op("cast", 6)), "if the unknown bits are 00"),
    ("one of sixteen", factor(*chosen(4)), "more than 10 unknown bits"),
    ("behind too long a way", factor(*chain(DEPTH + 1)), "if the unknown bits are 0"),
    ("too many unknown bits", factor(*doubled(ATOMS + 1)), "more than 10 unknown bits"),
    (
        "a symbol is one unknown bit",
        document([R, X, Y, Q, op("add", 3, 2), op("add", 4, 2), op("mul", 0, 5), op("add", 6, 1)], [7],
                 [("add", 3, 4), ("linear", [0], [7])]),
        "unknown bits are 00$",
    ),
    (
        "factor of another shape",
        document([draw(shape=(1,)), secret(shape=(1,)), const(1), op("cast", 2, shape=(1,)), op("mul", 0, 3,
         shape=(1,)),
                  op("add", 1, 4, shape=(1,))], [5], [("linear", [0], [5])]),
        "unknown bits are 0",
    ),
    ("a sum over an axis", document([draw(shape=(2,)), op("sum", 0, params=[0]), X, op("add", 1, 2)], [3],
                                    [("linear", [0], [3])]), "is not entrywise"),
    ("a wider sum", document([R, X3, op("add", 0, 1, width=3)], [2], [("linear", [0], [2])]), "is not entrywise"),
    ("a symbol times a symbol", document([R, Q, X, op("mul", 0, 1), op("add", 3, 2)], [4], [("linear", [0, 1], [4])]),
     "multiplies symbols"),
    ("a symbol squared", document([R, X, op("mul", 0, 0), op("add", 2, 1)], [3], [("linear", [0], [3])]),
     "multiplies symbols"),
    ("a mask extended", document([R, X3, op("cast", 0, width=3), op("add", 2, 1, width=3)], [3], [("linear", [0],
     [3])]),
     "is not linear"),
    ("a mask shifted right", document([R, X, op("shr", 0, params=[0]), op("add", 2, 1)], [3], [("linear", [0], [3])]),
     "is not linear"),
    ("a comparison with a mask", document([draw(width=1), op("equals", 0, params=[0], width=1), X], [1, 2],
                                          [("linear", [0], [1])]), "is not linear"),
    ("a node without the symbol", document([R, X, op("add", 0, 1), op("neg", 1)], [2, 3], [("linear", [0], [2, 3])]),
     "even or dependent"),
    ("a way past the nodes", masks(op("neg", 0), op("neg", 1), view=[0]), "past the nodes"),
    ("linear in a secret", document([X, Y, op("add", 0, 1)], [2], [("linear", [0], [2])]), "not uniform and unseen"),
    ("linear in an own draw", document([draw("client"), X, op("add", 0, 1)], [2], [("linear", [0], [2])]),
     "not uniform"),
]  # fmt: skip


# -- injective ---------------------------------------------------------------------------------------------------------
def one_to_one(*more: Row, symbol: Row = R3, other: Row = X3, step: Any = None) -> Made:
    """A function of row 0 (the last of the rows given) hides row 1; both are in one ring."""
    rows = [symbol, other, *more]
    n = len(rows)
    rows.append(op("add", n - 1, 1, width=other[3], shape=other[4]))
    return document(rows, [n], [step or ("injective", [0], [n])])


def wide(name: str, *args: int, **more: Any) -> Row:
    return op(name, *args, width=3, **more)


SPREAD = [wide("shl", 0, params=[2]), wide("shr", 2, params=[1]), wide("add", 0, 3)]
INJECTIVE: list[tuple[str, Made]] = [
    ("low bits added higher up", one_to_one(*SPREAD)),
    ("tripled", one_to_one(wide("shl", 0, params=[1]), wide("add", 0, 2))),
    ("minus an even multiple", one_to_one(wide("mul", 0, 1), wide("add", 2, 2), wide("sub", 3, 0))),
    ("tripled beside words", one_to_one(
        wide("shl", 0, params=[1], shape=(2,)), const(words(1, 3), 3, (2,)), wide("add", 0, 2, shape=(2,)),
        wide("add", 3, 4, shape=(2,)), symbol=draw(width=3, shape=(2,)), other=secret(width=3, shape=(2,)))),
    ("times a public five", one_to_one(const(5, 3), wide("mul", 0, 2), wide("neg", 3))),
    ("compared", one_to_one(op("equals", 0, params=[0], width=1), symbol=draw(width=1), other=secret(width=1))),
    ("extended and reduced", one_to_one(op("cast", 0, width=4), wide("cast", 2))),
]  # fmt: skip
BAD_INJECTIVE: list[tuple[str, Made, str]] = [
    ("halved and rounded", one_to_one(wide("shr", 0, params=[1]), wide("sub", 0, 2)), "finds two values"),
    ("times a secret", one_to_one(wide("mul", 0, 1)), "finds two values"),
    ("times half a secret", one_to_one(wide("shr", 1, params=[1]), wide("mul", 0, 2)), "finds two values"),
    ("compared", one_to_one(op("equals", 0, params=[1], width=1), wide("cast", 2), wide("sub", 0, 3)),
     "finds two values"),
    ("compared as a word", one_to_one(wide("equals", 0, params=[1]), wide("sub", 0, 2)), "is no bit"),
    ("negated twice at once", one_to_one(wide("neg", 0, 0)), "has no meaning for the solver"),
    ("another ring", document([R, op("cast", 0, width=3), X], [1, 2], [("injective", [0], [1])]),
     "another ring or shape"),
    ("another shape", document([R, op("broadcast", 0, shape=(1,)), X], [1, 2], [("injective", [0], [1])]),
     "another ring or shape"),
    ("of nothing", document([R3, X3, wide("neg", 1), wide("add", 0, 1)], [2, 3], [("injective", [0], [2])]),
     "does not depend"),
    ("in itself", document([R3, X3], [0, 1], [("injective", [0], [0])]), "does not depend"),
    ("two symbols", document([R, Q, X, op("add", 0, 2)], [3], [("injective", [0, 1], [3])]), "one symbol or node"),
    ("two nodes", document([R, X, op("add", 0, 1), op("sub", 0, 1)], [2, 3], [("injective", [0], [2, 3])]),
     "one symbol or node"),
    ("turned round", document([draw(shape=(2, 2)), op("transpose", 0, params=[1, 0], shape=(2, 2)), X], [1, 2],
                              [("injective", [0], [1])]), "has no meaning for the solver"),
    ("not entrywise", document([draw(shape=(2,)), op("index", 0, params=[0]), op("broadcast", 1, shape=(2,)), X], [2,
     3],
                               [("injective", [0], [2])]), "is not entrywise"),
    ("a way past the node", one_to_one(*SPREAD, wide("neg", 0), wide("add", 5, 4), step=("injective", [0], [4])),
     "past the nodes"),
]  # fmt: skip


# -- statistical -------------------------------------------------------------------------------------------------------
RANGES = [["server", "x", 0, 1], ["server", "y", -1, 2]]


def bounded(
    *more: Row, high: int | None = None, e: int = -1, sub: bool = False, swap: bool = False, **claim: Any
) -> Made:
    """The last of the rows given, hidden by row 0 (three bits) in Z_2^5. high: width of its interval, in the claim.

    Row 2 is x, between 0 and 1, row 3 is y, between -1 and 2, row 4 is z, of two bits without bounds.
    """
    rows = [draw(width=3), op("cast", 0, width=5), X, Y, secret(label="z"), *more]
    n = len(rows)
    args = (1, n + e) if swap else (n + e, 1)
    rows.append(op("sub" if sub else "add", *args, width=5))
    named = {} if high is None else {"masking": masking_of(Fraction(high, 8))}
    return document(rows, [n], [("statistical", [0], [n])], **{"ranges": RANGES, **named, **claim})


WIDER = op("cast", 2, width=5)
STATISTICAL: list[tuple[str, Made]] = [
    ("a bounded secret", bounded(WIDER, high=1)),
    ("a bounded secret minus a mask", bounded(WIDER, high=1, sub=True)),
    ("a mask minus a bounded secret", bounded(WIDER, high=1, sub=True, swap=True)),
    ("a signed secret", bounded(op("cast", 3), op("cast", 5, width=1), op("cast", 6, width=5), high=1)),
    ("reduced, as it is", bounded(op("cast", 4, width=2), op("neg", 5), op("cast", 6, width=5), high=3)),
    ("a secret without bounds", bounded(op("cast", 4, width=5), high=3)),
    ("a signed secret extended", bounded(op("cast", 3, width=5), high=3)),
    ("in one ring", bounded(secret(label="y", width=5), op("cast", 5, width=5), high=3)),
    ("a sum that stays within", bounded(op("add", 2, 2), op("cast", 5, width=5), high=2)),
    ("a sum that does not", bounded(op("add", 4, 2), op("cast", 5, width=5), high=3)),
    ("a sum that just does not", bounded(op("add", 2, 4), op("shr", 5, params=[1]), op("cast", 6, width=5), high=1)),
    ("a difference", bounded(WIDER, op("sub", 5, 5, width=5), high=2)),
    ("a negation", bounded(WIDER, op("neg", 5, width=5), op("sub", 6, 5, width=5), high=2)),
    ("with a constant", bounded(WIDER, const(1, 5), op("add", 5, 6, width=5), high=1)),
    ("a half", bounded(op("cast", 4, width=5), op("shr", 5, params=[1], width=5), high=1)),
    ("a half of one that goes beyond", bounded(op("neg", 2), op("shr", 5, params=[1]), op("cast", 6, width=5), high=1)),
    ("a comparison", bounded(op("equals", 3, params=[0], width=5), high=1)),
    ("a power of two", bounded(WIDER, op("add", 5, 5, width=5), high=2)),
    (
        "a sum over an axis, turned and cut",
        bounded(
            secret(label="u", shape=(2, 3)), op("cast", 5, width=5, shape=(2, 3)),
            op("transpose", 6, params=[1, 0], width=5, shape=(3, 2)), op("sum", 7, params=[0], width=5, shape=(2,)),
            op("index", 8, params=[0], width=5), high=3, ranges=[["server", "u", 0, 1]],
        ),
    ),
    (
        "joined constants",
        bounded(const(words(1, 2), 5, (2,)), const(2, 5, (1,)), op("concat", 5, 6, params=[0], width=5, shape=(3,)),
                op("reshape", 7, width=5, shape=(1, 3)), op("broadcast", 8, width=5, shape=(2, 3)),
                op("sum", 9, params=[1], width=5, shape=(2,)), op("index", 10, params=[0], width=5), WIDER,
                op("add", 11, 12, width=5), high=4),
    ),
    (
        "of several entries",
        document(
            [draw(width=5, shape=(2,)), op("cast", 0, width=6, shape=(2,)), secret(width=6, shape=(2,)),
             op("add", 1, 2, width=6, shape=(2,))],
            [3], [("statistical", [0], [3])], ranges=[["server", "x", 2, 5]], masking=masking_of(Fraction(6, 32)),
        ),
    ),
    (
        "two of them",
        document(
            [draw(width=3), draw(label="q", width=4), op("cast", 0, width=5), op("cast", 1, width=5), secret(width=5),
             op("add", 4, 2, width=5), op("add", 4, 3, width=5)],
            [5, 6], [("statistical", [0], [5]), ("statistical", [1], [6])], ranges=[["server", "x", 0, 1]],
            masking=masking_of(Fraction(3, 16)),
        ),
    ),
    (
        "beside a symbol",
        bounded(draw(label="q"), op("add", 4, 5), op("cast", 6, width=5), high=3)
        | {"steps": [("add", 5, 6), ("statistical", [0], [8])]},
    ),
    ("of an own draw", bounded(draw("client", "own"), op("cast", 5, width=5), WIDER, op("add", 6, 7, width=5), high=4)),
]  # fmt: skip
ONCE = bounded(WIDER, high=1)


def claims(masking: Any) -> Made:
    return {**ONCE, "claim": {**ONCE["claim"], "masking": masking}}


BAD_STATISTICAL: list[tuple[str, Made, str]] = [
    ("no distance claimed", bounded(WIDER), "names no statistical distance"),
    ("another distance claimed", bounded(WIDER, high=2), "names another statistical distance"),
    ("rounded down", claims([4, 1, 8]), "rounds the statistical distance down"),
    ("without a denominator", claims([3, 1, 0]), "malformed certificate"),
    ("without bits", claims([1, 8]), "malformed certificate"),
    ("a product", bounded(WIDER, high=1) | {
        "dag": bounded(WIDER, op("mul", 1, 5, width=5))["dag"], "steps": [("statistical", [0], [6])],
        "view": [["message", 1, "ring", "", [], 6]]}, "the node is a mul"),
    ("joined in another shape", document(
        [draw(width=3), op("cast", 0, width=5), secret(width=5), op("add", 1, 2, width=5, shape=(1,))], [3],
        [("statistical", [0], [3])]), "the node is a add"),
    ("two of the masks", document([draw(width=3), op("cast", 0, width=5), X, op("add", 1, 1, width=5)], [3, 2],
                                  [("statistical", [0], [3])]), "not one operand, in a wider ring"),
    ("not in a wider ring", document([draw(width=3), wide("shl", 0, params=[0]), X3, wide("add", 1, 2)], [3],
                                     [("statistical", [0], [3])]), "not one operand, in a wider ring"),
    ("another mask", document([draw(width=3), draw(label="q", width=3), op("cast", 1, width=5), secret(width=5),
                               op("add", 2, 3, width=5)], [4], [("statistical", [0], [4])]), "not one operand"),
    ("in a wider ring and shape", document(
        [draw(width=3), op("cast", 0, width=5, shape=(1,)), secret(width=5, shape=(1,)), op("add", 1, 2, width=5,
         shape=(1,))],
        [3], [("statistical", [0], [3])]), "not the symbol in a wider ring"),
    ("a mask that is gone", document([R3, op("cast", 0), X, op("add", 1, 2)], [3],
                                     [("cast", 0, 1), ("statistical", [0], [3])]), "not the symbol in a wider ring"),
    ("hides itself", bounded(op("cast", 0, width=1), op("cast", 5, width=5), WIDER, op("add", 6, 7, width=5), high=2),
     "the rest depends on the symbol"),
    ("two symbols at once", bounded(draw(label="q"), WIDER, high=1) | {"steps": [("statistical", [0, 5], [7])]},
     "more than one symbol or node"),
    ("two nodes at once", document(
        [draw(width=3), op("cast", 0, width=5), secret(width=5), op("add", 1, 2, width=5), op("sub", 1, 2, width=5)],
         [3, 4],
        [("statistical", [0], [3, 4])]), "more than one symbol or node"),
    ("used twice", document(
        [draw(width=3), op("cast", 0, width=5), secret(width=5), op("add", 1, 2, width=5), op("sub", 1, 2, width=5)],
         [3, 4],
        [("statistical", [0], [3])]), "past the nodes"),
    ("as a mask of something else", document(
        [draw(width=3), op("cast", 0, width=5), secret(width=5), secret(label="y", width=5), op("add", 1, 2, width=5),
         op("add", 4, 3, width=5)], [5], [("statistical", [0], [4]), ("add", 4, 5)], ranges=[["server", "x", 0, 1]]),
     "not uniform and unseen"),
    ("settled twice", ONCE | {"steps": [*ONCE["steps"], ("statistical", [0], [6])]}, "a symbol already"),
]  # fmt: skip

JOINT_GENUINE = [*SPLIT, *LINEAR, *INJECTIVE, *STATISTICAL]
JOINT_FORGED = [*BAD_SPLIT, *BAD_LINEAR, *BAD_INJECTIVE, *BAD_STATISTICAL]
