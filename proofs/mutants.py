"""Mutants of the protocol text: one operator, constant, comparison, role or statement of a function body changed.

A mutant is made from the syntax tree and put in place by exchanging the function's code object, so that every importer
runs it and nothing is loaded twice. Left alone: closed forms of costs (tests compare them with the wire), messages of
errors, annotations, and conditions that only refuse arguments.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any
from unittest.mock import patch

from protocols import (
    boolean,
    compare,
    convert,
    crossing,
    embedding,
    feed_forward,
    hidden,
    linear,
    locate,
    look_up,
    matmul,
    moe,
    nonlinear,
    polynomial,
    products,
    routing,
    row_products,
    select,
    sharing,
    softmax,
)
from protocols import truncate as truncation
from protocols.he import interface
from sim.party import Party, ProtocolDecl

TEXTS: tuple[ModuleType, ...] = (
    sharing, boolean, convert, compare, locate, truncation, products, matmul, nonlinear, look_up, polynomial, routing,
    linear, interface, crossing, row_products, embedding, softmax, hidden, select, feed_forward, moe,
)  # fmt: skip
# What no hybrid run of a catalog case follows: the budget of epsilon, checks of arguments, the encoding of weights,
# public plans made before a run, helpers of costs, and local functions that no catalog protocol calls; a public
# schedule whose loop opens no scope, so that mutants of it need not end; and what only runs of many seconds follow:
# softmax, its choice of positions among rows of different lengths, and products inside norms and attention. Their own
# tests decide.
NOT_RUN = frozenset(
    {
        "boolean.blank_group",
        "crossing.CrossingPlan._fewest_bytes",
        "crossing.product",
        "feed_forward._admit",
        "locate._within",
        "locate.comparable",
        "locate.window_bits",
        "matmul.check_shapes",
        "moe._admit",
        "routing.index_of",
        "row_products.RowPlan.fewest_bytes",
        "row_products.scaled",
        "select._admit",
        "sharing.own_share",
        "softmax._row_products",
        "softmax.rounds",
        "softmax.softmax",
        "softmax.taken",
        "truncate._check",
    }
)
_NOT_RUN_CALLS = frozenset({"_check", "_admit", "check_shapes"})
ENDLESS = 30_000  # scopes that the runs of one judgement may open; the largest of the catalog opens some 10,000

_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_SIGNS: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitXor: ast.BitAnd}
_ROLES = frozenset({"CLIENT", "SERVER"})


class EndlessRun(RuntimeError):
    """A run that opens scopes without end."""


class UnknownText(ValueError):
    """A function that is no protocol text."""


@dataclass(frozen=True)
class TextMutant:
    """One change. text: module.function; line: of the file; operator: the kind of change; change: before -> after, with
    a number where a function has the same one again."""

    text: str
    line: int
    operator: str
    change: str
    code: CodeType

    @property
    def name(self) -> str:
        return f"{self.text}: {self.operator}: {self.change}"

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The mutant in place of the text."""
        function = functions()[self.text]
        kept = function.__code__
        function.__code__ = self.code
        try:
            with bounded():
                yield
        finally:
            function.__code__ = kept


@contextmanager
def bounded() -> Iterator[None]:
    """Runs that open too many scopes raise EndlessRun: a loop of protocol text always opens one."""
    opened = 0
    child = Party.child

    def counted(self: Party, name: str) -> Party:
        nonlocal opened
        opened += 1
        if opened > ENDLESS:
            raise EndlessRun(f"{self.scope}: expected at most {ENDLESS} scopes; the text does not end")
        return child(self, name)

    with patch.object(Party, "child", counted):
        yield


@cache
def functions() -> dict[str, FunctionType]:
    """Every function of protocol text by module.name, methods by module.class.name, without closed forms of cost."""
    found: dict[str, FunctionType] = {}
    for module in TEXTS:
        short = module.__name__.rpartition(".")[2]
        for name, value in vars(module).items():
            holders = vars(value).items() if inspect.isclass(value) else [("", value)]
            for inner, held in holders:
                each = held.run if isinstance(held, ProtocolDecl) else getattr(held, "__func__", held)
                if not isinstance(each, FunctionType) or each.__code__.co_filename != module.__file__:
                    continue
                full = f"{short}.{name}" + (f".{inner}" if inner else "")
                left_alone = name.endswith("_cost") or inner.startswith("__") or full in NOT_RUN or name == "Engine"
                if not left_alone and each not in found.values():
                    found[full] = each
    return found


def mutants(text: str) -> Iterator[TextMutant]:
    """All mutants of one function. Raises UnknownText."""
    function = functions().get(text)
    if function is None:
        raise UnknownText(f"protocol text: expected one of {', '.join(functions())}, got {text!r}")
    tree = ast.parse(inspect.getsource(inspect.getmodule(function) or interface))
    seen: Counter[tuple[str, str]] = Counter()
    (body,) = [node for node in ast.walk(tree) if _defines(node, function)]
    for operator, node, holder, field, replacement in _sites(body):
        change = f"{_shown(node)} -> {_shown(replacement)}"
        seen[operator, change] += 1
        change += f" #{seen[operator, change]}" if seen[operator, change] > 1 else ""
        _put(holder, field, ast.copy_location(replacement, node))
        code = _compiled(body, function)
        _put(holder, field, node)
        yield TextMutant(text, getattr(node, "lineno", 0), operator, change, code)


def _defines(node: ast.AST, function: FunctionType) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return node.name == function.__name__ and first == function.__code__.co_firstlineno


def _put(holder: list[Any] | ast.AST, field: int | str, node: ast.AST) -> None:
    if isinstance(holder, list) and isinstance(field, int):
        holder[field] = node
    else:
        setattr(holder, str(field), node)


def _shown(node: ast.AST) -> str:
    text = "nothing" if isinstance(node, ast.Pass) else ast.unparse(node)
    return text if len(text) <= 60 else text[:57] + "..."


def _compiled(body: ast.AST, function: FunctionType) -> CodeType:
    """The code object of a changed function, as its module would make it."""
    assert isinstance(body, ast.FunctionDef | ast.AsyncFunctionDef)
    decorators, body.decorator_list = body.decorator_list, []
    future = ast.ImportFrom("__future__", [ast.alias("annotations")], 0)
    module = ast.fix_missing_locations(ast.Module([future, body], []))
    code = compile(module, function.__code__.co_filename, "exec", dont_inherit=True)
    body.decorator_list = decorators
    return next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__)


# -- where a change is possible: (operator, node, its holder, its place in it, what replaces it) -----------------------
Holder = list[Any] | ast.AST
Site = tuple[str, ast.AST, Holder, int | str, ast.AST]


def _sites(function: ast.AST) -> list[Site]:
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    found: list[Site] = []
    for statement in function.body:
        found += _below(statement, function.body)
    return found


def _below(node: ast.AST, siblings: list[Any]) -> Iterator[Site]:
    """Changes of a statement among its siblings, and of all below it."""
    if isinstance(node, ast.Raise) or (isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise)):
        return
    if isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Constant):
            return  # a docstring
        if _left_alone(node.value):
            return
        yield "drop a statement", node, siblings, siblings.index(node), ast.Pass()
    yield from _inside(node)


def _left_alone(call: ast.AST) -> bool:
    """Whether a statement only checks arguments, or the budget of epsilon."""
    names = {n.id for n in ast.walk(call) if isinstance(n, ast.Name)}
    return bool(names & _NOT_RUN_CALLS)


def _inside(node: ast.AST) -> Iterator[Site]:
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return  # a self-check of zip
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        if isinstance(value, list):
            for i, child in enumerate(value):
                if isinstance(child, ast.stmt):
                    yield from _below(child, value)
                elif isinstance(child, ast.AST):
                    yield from _changes(child, value, i)
                    yield from _inside(child)
        elif isinstance(value, ast.AST):
            yield from _changes(value, node, name)
            yield from _inside(value)


def _changes(node: ast.AST, holder: Holder, field: int | str) -> Iterator[Site]:
    match node:
        case ast.Constant(value=bool(v)):
            yield "turn a flag", node, holder, field, ast.Constant(not v)
        case ast.Constant(value=int(v)):
            yield "constant by one", node, holder, field, ast.Constant(v + 1)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _TURNED:
            turned = ast.Compare(left, [_TURNED[type(op)]()], [right])
            yield "negate a comparison", node, holder, field, turned
        case ast.IfExp(test=ast.Name() as test, body=body, orelse=other):
            yield "negate a condition", node, holder, field, ast.IfExp(test, other, body)
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in _SIGNS:
                yield "turn a sign", node, holder, field, ast.BinOp(left, _SIGNS[type(op)](), right)
            yield "send the operand", node, holder, field, left
            if isinstance(op, ast.Add | ast.Sub | ast.BitXor | ast.Mult):
                yield "send the operand", node, holder, field, right
        case ast.UnaryOp(op=ast.USub() | ast.Invert(), operand=operand):
            yield "turn a sign", node, holder, field, operand
        case ast.Name(id=name) if name in _ROLES:
            yield "turn a role", node, holder, field, ast.Attribute(ast.Name(name, ast.Load()), "peer", ast.Load())
        case ast.Call(func=func, args=[first, *rest], keywords=keywords):
            at = 1 if isinstance(first, ast.Name) and first.id == "p" else 0
            args = [first, *rest]
            if len(args) >= at + 2 and not any(isinstance(a, ast.Starred) for a in args[at : at + 2]):
                swapped = [*args[:at], args[at + 1], args[at], *args[at + 2 :]]
                yield "swap two arguments", node, holder, field, ast.Call(func, swapped, keywords)
