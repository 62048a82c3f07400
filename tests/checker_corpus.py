"""Hand-made certificates, right and forged: for every condition of the checker one forgery that it alone refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = tuple[str, Sequence[int], Sequence[Any], int, Sequence[int]]  # op, operands, parameters, width, shape


def draw(owner: str = "server", label: str = "r", width: int = 2, shape: Sequence[int] = ()) -> Row:
    return "draw", (), (owner, label), width, shape


def secret(owner: str = "server", label: str = "x", width: int = 2, shape: Sequence[int] = ()) -> Row:
    return "input", (), (owner, label), width, shape


def op(name: str, *args: Any, params: Sequence[Any] = (), width: int = 2, shape: Sequence[int] = ()) -> Row:
    return name, args, params, width, shape


def document(
    rows: Sequence[Row], view: Sequence[Any], steps: Sequence[Any], corrupted: str = "client", **claim: Any
) -> dict[str, Any]:
    """What `verify` reads of a certificate."""
    return {
        "claim": {"corrupted": corrupted, **claim},
        "dag": {
            "kinds": [[name, list(params), width, list(shape), "here:1"] for name, _, params, width, shape in rows],
            "nodes": [[i, *args] for i, (_, args, _, _, _) in enumerate(rows)],
        },
        "view": [["message", 1, "ring", "z2^2", [], node] for node in view],
        "steps": [list(step) for step in steps],
        "digest": "",
    }


R, X = draw(), secret()
MASKED = [R, X, op("add", 0, 1)]
ADD = ("add", 0, 2)
WIDE, SQUARE = draw(shape=(3,)), draw(shape=(2, 2))
TWO = [draw(), draw(label="q"), X]

# name, document
GENUINE: list[tuple[str, dict[str, Any]]] = [
    ("nothing seen", document([], [], [])),
    ("sealed", document([], [None], [])),
    ("own input", document([secret("client")], [0], [])),
    ("own draw", document([draw("client")], [0], [])),
    ("add", document(MASKED, [2], [ADD])),
    ("server corrupted", document([draw("client"), secret("client"), op("add", 0, 1)], [2], [ADD], "server")),
    ("functionality's mask", document([draw("functionality"), X, op("sub", 1, 0)], [2], [("sub", 0, 2)])),
    ("neg", document([R, X, op("neg", 0), op("add", 1, 2)], [3], [("neg", 0, 2), ("add", 2, 3)])),
    (
        "odd",
        document(
            [R, op("const", params=[3]), op("mul", 0, 1), X, op("add", 2, 3)], [4], [("odd", 0, 2), ("add", 2, 4)]
        ),
    ),
    (
        "odd words",
        document(
            [
                draw(shape=(2,)),
                op("const", params=["01" + "00" * 7 + "03" + "00" * 7], shape=(2,)),
                op("mul", 1, 0, shape=(2,)),
                secret(shape=(2,)),
                op("sub", 2, 3, shape=(2,)),
            ],
            [4],
            [("odd", 0, 2), ("sub", 2, 4)],
        ),
    ),
    (
        "reshape",
        document(
            [SQUARE, op("reshape", 0, shape=(4,)), secret(shape=(4,)), op("add", 1, 2, shape=(4,))],
            [3],
            [("reshape", 0, 1), ("add", 1, 3)],
        ),
    ),
    (
        "transpose",
        document(
            [
                draw(shape=(2, 3)),
                op("transpose", 0, params=[1, 0], shape=(3, 2)),
                secret(shape=(3, 2)),
                op("add", 1, 2, shape=(3, 2)),
            ],
            [3],
            [("transpose", 0, 1), ("add", 1, 3)],
        ),
    ),
    (
        "index",
        document(
            [
                WIDE,
                op("index", 0, params=[["slice", 1, None, None]], shape=(2,)),
                secret(shape=(2,)),
                op("add", 1, 2, shape=(2,)),
            ],
            [3],
            [("index", 0, 1), ("add", 1, 3)],
        ),
    ),
    (
        "index, every part",
        document(
            [
                draw(shape=(2, 3, 4, 2)),
                op("index", 0, params=[["tuple", -2, None, "...", ["slice", None, None, -2]]], shape=(1, 3, 4, 1)),
                secret(shape=(1, 3, 4, 1)),
                op("add", 1, 2, shape=(1, 3, 4, 1)),
            ],
            [3],
            [("index", 0, 1), ("add", 1, 3)],
        ),
    ),
    (
        "cast",
        document([draw(width=3), op("cast", 0, width=2), X, op("add", 1, 2)], [3], [("cast", 0, 1), ("add", 1, 3)]),
    ),
    (
        "concat",
        document(
            [
                *TWO,
                op("reshape", 0, shape=(1,)),
                op("reshape", 1, shape=(1,)),
                op("concat", 3, 4, params=[0], shape=(2,)),
                secret(label="y", shape=(2,)),
                op("add", 5, 6, shape=(2,)),
            ],
            [7],
            [("reshape", 0, 3), ("reshape", 1, 4), ("concat", 4, 5), ("add", 5, 7)],
        ),
    ),
    ("sum", document([WIDE, op("sum", 0, params=[0]), X, op("add", 1, 2)], [3], [("sum", 0, 1), ("add", 1, 3)])),
    # The second message's mask is free only once the first message is a symbol.
    (
        "freed by a later mask",
        document([*TWO, op("add", 0, 1), op("add", 1, 2)], [3, 4], [("add", 0, 3), ("add", 1, 4)]),
    ),
    (
        "dead branches die deeply",
        document([R, X, op("mul", 1, 1), op("mul", 2, 2), op("add", 0, 3)], [4], [("add", 0, 4)]),
    ),
    (
        "a symbol that was seen through another",
        document([*TWO, op("add", 0, 2), op("sub", 3, 1)], [4], [("add", 0, 3), ("sub", 3, 4)]),
    ),
]

CONCAT = [draw(shape=(1,)), draw(label="q", shape=(1,)), secret(shape=(1,)), draw("client", "own", shape=(1,))]

# name, document, what the checker says
FORGED: list[tuple[str, dict[str, Any], str]] = [
    ("unknown party", document(MASKED, [2], [ADD], "nobody"), "expected client or server"),
    ("hidden by a cycle", document([op("neg", 1), op("neg", 2), X], [0], []), "operands must precede"),
    ("operand counted from the end", document([X, op("neg", 0), op("neg", -2), R], [2], []), "operands must precede"),
    ("operand true", document([R, X, op("add", 0, True)], [2], [ADD]), "operands must precede"),
    ("unknown owner", document([draw("everybody"), X, op("add", 0, 1)], [2], [ADD]), "unknown owner"),
    (
        "one label, two draws",
        document([R, draw(width=3), X, op("add", 0, 2), op("neg", 1, width=3)], [3, 4], [("add", 0, 3)]),
        "drawn twice",
    ),
    ("view entry from the end", document([*MASKED, draw(label="q")], [-1], []), "expected a node"),
    ("view entry beyond", document(MASKED, [3], []), "expected a node"),
    ("view entry true", document(MASKED, [True], []), "expected a node"),
    ("symbol from the end", document(MASKED, [2], [("add", -3, 2)]), "no node -3"),
    ("symbol beyond", document(MASKED, [2], [("add", 3, 2)]), "no node 3"),
    ("symbol false", document(MASKED, [2], [("add", False, 2)]), "no node False"),
    ("node from the end", document(MASKED, [2], [("add", 0, -1)]), "no node -1"),
    ("node beyond", document(MASKED, [2], [("add", 0, 3)]), "no node 3"),
    ("node true", document([R, op("neg", 0)], [1], [("neg", 0, True)]), "no node True"),
    ("twice", document(MASKED, [2], [ADD, ADD]), "a symbol already"),
    ("on a dead node", document([R, X, op("add", 0, 1), op("mul", 0, 1)], [3], [ADD]), "does not reach the view"),
    ("no operand", document([R, X, op("neg", 1), op("neg", 0)], [2, 3], [("neg", 0, 2)]), "not an operand"),
    ("secret as symbol", document([X, op("neg", 0)], [1], [("neg", 0, 1)]), "not uniform and unseen"),
    ("own draw as symbol", document([draw("client"), X, op("add", 0, 1)], [2], [ADD]), "not uniform and unseen"),
    (
        "own draw as symbol, server",
        document([R, secret("client"), op("add", 0, 1)], [2], [ADD], "server"),
        "not uniform and unseen",
    ),
    (
        "stale node as symbol",
        document([R, X, op("mul", 0, 0), op("add", 2, 1)], [3], [("add", 2, 3)]),
        "not uniform and unseen",
    ),
    ("mask in the view", document(MASKED, [0, 2], [ADD]), "has 2 uses"),
    ("mask used twice", document([R, X, op("add", 0, 1), op("sub", 0, 1)], [2, 3], [ADD]), "has 2 uses"),
    ("local rule of two", document([*TWO, op("add", 0, 1)], [3], [("add", [0, 1], 3)]), "one symbol and one node"),
    (
        "local rule of two nodes",
        document([R, op("neg", 0), X, op("add", 0, 2)], [1, 3], [("neg", 0, [1, 3])]),
        "one symbol and one node",
    ),
    ("symbol named twice", document(MASKED, [2], [("linear", [0, 0], [2])]), "named twice"),
    ("mask twice in one node", document([R, X, op("add", 0, 0), op("mul", 1, 2)], [3], [("add", 0, 2)]), "has 2 uses"),
    (
        "masked message sent twice and used",
        document([*MASKED, op("mul", 2, 1)], [2, 3], [ADD, ("add", 2, 3)]),
        "has 2 uses",
    ),
    ("unknown rule", document([R, X, op("mul", 0, 1)], [2], [("mul", 0, 2)]), "unknown rule"),
    ("rule of another operation", document([R, X, op("mul", 0, 1)], [2], [ADD]), "the node is a mul"),
    ("three operands", document([*TWO, op("add", 0, 1, 2)], [3], [("add", 0, 3)]), "3 operands, expected 2"),
    ("sum of a wider ring", document([R, secret(width=3), op("add", 0, 1, width=3)], [2], [ADD]), "another width"),
    ("broadcast mask", document([R, secret(shape=(2,)), op("add", 0, 1, shape=(2,))], [2], [ADD]), "another shape"),
    ("secret factor", document([R, X, op("mul", 0, 1)], [2], [("odd", 0, 2)]), "not public"),
    (
        "even factor",
        document(
            [R, op("const", params=[2]), op("mul", 0, 1), X, op("add", 2, 3)], [4], [("odd", 0, 2), ("add", 2, 4)]
        ),
        "the factor is even",
    ),
    (
        "one even factor",
        document(
            [
                draw(shape=(2,)),
                op("const", params=["01" + "00" * 7 + "02" + "00" * 7], shape=(2,)),
                op("mul", 0, 1, shape=(2,)),
                secret(shape=(2,)),
                op("add", 2, 3, shape=(2,)),
            ],
            [4],
            [("odd", 0, 2), ("add", 2, 4)],
        ),
        "the factor is even",
    ),
    (
        "factor of another width",
        document([R, op("const", params=[1], width=3), op("mul", 0, 1, width=3)], [2], [("odd", 0, 2)]),
        "another width",
    ),
    (
        "reshape to a wider ring",
        document([R, op("reshape", 0, width=3)], [1], [("reshape", 0, 1)]),
        "changes the width",
    ),
    (
        "reshape to more entries",
        document([R, op("reshape", 0, shape=(2,))], [1], [("reshape", 0, 1)]),
        "changes the size",
    ),
    (
        "transpose to a wider ring",
        document([SQUARE, op("transpose", 0, params=[1, 0], width=3, shape=(2, 2))], [1], [("transpose", 0, 1)]),
        "changes the width",
    ),
    (
        "diagonal",
        document([SQUARE, op("transpose", 0, params=[0, 0], shape=(2, 2))], [1], [("transpose", 0, 1)]),
        "not a permutation",
    ),
    (
        "transpose to another shape",
        document([draw(shape=(2, 3)), op("transpose", 0, params=[1, 0], shape=(2, 3))], [1], [("transpose", 0, 1)]),
        "another shape",
    ),
    (
        "index to a wider ring",
        document([WIDE, op("index", 0, params=[0], width=3)], [1], [("index", 0, 1)]),
        "changes the width",
    ),
    (
        "index with repetition",
        document([WIDE, op("index", 0, params=[["slice", 0, 2, None]], shape=(4,))], [1], [("index", 0, 1)]),
        "another shape",
    ),
    ("index beyond", document([WIDE, op("index", 0, params=[3])], [1], [("index", 0, 1)]), "out of range"),
    ("index before", document([WIDE, op("index", 0, params=[-4])], [1], [("index", 0, 1)]), "out of range"),
    (
        "index list",
        document([WIDE, op("index", 0, params=[["list", 0, 0]], shape=(2,))], [1], [("index", 0, 1)]),
        "expected integers and slices",
    ),
    (
        "too many indices",
        document([WIDE, op("index", 0, params=[["tuple", 0, 0]])], [1], [("index", 0, 1)]),
        "malformed certificate: IndexError",
    ),
    (
        "index true",
        document([WIDE, op("index", 0, params=[True])], [1], [("index", 0, 1)]),
        "malformed certificate: TypeError",
    ),
    ("cast to a wider ring", document([R, op("cast", 0, width=3)], [1], [("cast", 0, 1)]), "a wider ring"),
    ("cast to more entries", document([R, op("cast", 0, shape=(2,))], [1], [("cast", 0, 1)]), "changes the shape"),
    (
        "concat with a secret",
        document([*CONCAT, op("concat", 0, 2, params=[0], shape=(2,))], [4], [("concat", 0, 4)]),
        "a part is not uniform",
    ),
    (
        "concat with an own draw",
        document([*CONCAT, op("concat", 3, 0, params=[0], shape=(2,))], [4], [("concat", 0, 4)]),
        "a part is not uniform",
    ),
    (
        "concat of a part seen elsewhere",
        document([*CONCAT, op("concat", 0, 1, params=[0], shape=(2,))], [1, 4], [("concat", 0, 4)]),
        "a part has other uses",
    ),
    (
        "concat of a part and itself",
        document([*CONCAT, op("concat", 0, 1, 1, params=[0], shape=(3,))], [4], [("concat", 0, 4)]),
        "a part has other uses",
    ),
    (
        "concat to a wider ring",
        document([*CONCAT, op("concat", 0, 1, params=[0], width=3, shape=(2,))], [4], [("concat", 0, 4)]),
        "a part of another width",
    ),
    (
        "concat to more entries",
        document([*CONCAT, op("concat", 0, 1, params=[0], shape=(3,))], [4], [("concat", 0, 4)]),
        "another total size",
    ),
    (
        "sum to a wider ring",
        document([WIDE, op("sum", 0, params=[0], width=3)], [1], [("sum", 0, 1)]),
        "changes the width",
    ),
    (
        "sum to more entries",
        document([WIDE, op("sum", 0, params=[0], shape=(3,))], [1], [("sum", 0, 1)]),
        "another shape",
    ),
    ("empty sum", document([draw(shape=(0,)), op("sum", 0, params=[0])], [1], [("sum", 0, 1)]), "an empty sum"),
    ("secret in clear", document([X], [0], []), "depends on the secret"),
    ("no step", document(MASKED, [2], []), "depends on the secret"),
    (
        "server's secret for a corrupted client",
        document([secret("client"), X, op("add", 0, 1)], [2], []),
        "depends on the secret",
    ),
    (
        "mask cut off before it hides",
        document([R, X, op("add", 0, 1), op("add", 2, 1)], [3], [ADD]),
        "depends on the secret",
    ),
    ("kind beyond", {**document(MASKED, [2], [ADD]), "dag": {"kinds": [], "nodes": [[0]]}}, "malformed certificate"),
    ("step of two", document(MASKED, [2], [("add", 0)]), "malformed certificate"),
    ("no claim", {**document(MASKED, [2], [ADD]), "claim": {}}, "malformed certificate"),
    ("no steps", {k: v for k, v in document(MASKED, [2], [ADD]).items() if k != "steps"}, "malformed certificate"),
    ("width of no ring", document([R, op("cast", 0, width="2")], [1], [("cast", 0, 1)]), "malformed certificate"),
]
