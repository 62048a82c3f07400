"""Mutants of the checker and its rules: their text with one condition, statement or operand taken away, or one
comparison turned."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import proofs.checker
import proofs.joint
import proofs.rules

PARTS = (proofs.rules, proofs.joint, proofs.checker)  # each imports from those before it
SOURCES = {part.__name__: inspect.getsource(part) for part in PARTS}
CODE = {name: compile(text, name, "exec") for name, text in SOURCES.items()}
TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.LtE: ast.Lt,
    ast.Lt: ast.LtE,
    ast.Gt: ast.GtE,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def load(changed: str, tree: ast.Module) -> ModuleType:
    """The checker with one of its parts from a syntax tree, and the parts that import from that one made anew."""
    kept = {part.__name__: part for part in PARTS}
    names = list(kept)
    try:
        for name in names[names.index(changed) :]:
            module = sys.modules[name] = ModuleType(name)  # dataclasses look their module up
            exec(compile(tree, name, "exec") if name == changed else CODE[name], module.__dict__)
        return sys.modules[proofs.checker.__name__]
    finally:
        sys.modules.update(kept)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node


def _statements(function: ast.FunctionDef) -> Iterator[tuple[list[ast.stmt], int]]:
    """Statements by their place. Of a while loop the conditions only: it must go on consuming what it loops over."""
    for node in ast.walk(function):
        for name in ("body", "orelse"):
            found = getattr(node, name, None)
            body: list[ast.stmt] = found if isinstance(found, list) else []
            for i, statement in enumerate(body):
                if not isinstance(node, ast.While) or _is_condition(statement):
                    yield body, i


def _is_condition(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and ast.unparse(statement).startswith("need(")


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def mutants() -> Iterator[tuple[str, ModuleType]]:
    """(what was changed, the changed checker). Annotations, messages and docstrings are left alone."""
    for part, text in SOURCES.items():
        tree = ast.parse(text)
        for where, node, siblings, i, replacement in list(_sites(tree)):
            what, siblings[i], kept = f"{part}.{where}: {ast.unparse(node)[:100]}", replacement, siblings[i]
            module = load(part, tree)
            siblings[i] = kept
            yield what, module


Site = tuple[str, ast.AST, list[Any], int, ast.AST]  # where, what is changed, and in which list it is replaced by what


def _sites(tree: ast.Module) -> Iterator[Site]:
    for function in functions(tree):
        for body, i in _statements(function):
            statement = body[i]
            if not _is_docstring(statement) and not isinstance(statement, ast.FunctionDef):
                nothing = ast.copy_location(ast.Pass(), statement)
                yield f"{function.name} without statement", statement, body, i, nothing
        for node in ast.walk(function):
            if isinstance(node, ast.BoolOp):
                for i, operand in enumerate(node.values):
                    neutral = ast.copy_location(ast.Constant(isinstance(node.op, ast.And)), operand)
                    yield f"{function.name} without operand", operand, node.values, i, neutral
            if isinstance(node, ast.Compare):
                for i, comparison in enumerate(node.ops):
                    if type(comparison) in TURNED:
                        turned = TURNED[type(comparison)]()
                        yield f"{function.name} with {type(comparison).__name__} turned", node, node.ops, i, turned
