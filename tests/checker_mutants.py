"""Mutants of the checker: its text with one condition, statement or operand taken away, or one comparison turned."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import proofs.checker

SOURCE = Path(proofs.checker.__file__).read_text()
TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.LtE: ast.Lt,
    ast.Lt: ast.LtE,
    ast.Gt: ast.GtE,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def load(tree: ast.Module, name: str) -> ModuleType:
    """A module from a syntax tree."""
    module = ModuleType(name)
    sys.modules[name] = module  # dataclasses look their module up
    exec(compile(tree, name, "exec"), module.__dict__)
    return module


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node


def _bodies(function: ast.FunctionDef) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(function):
        if isinstance(node, ast.While):  # a loop that no longer consumes what it loops over has no outcome
            continue
        for name in ("body", "orelse"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                yield body


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def mutants() -> Iterator[tuple[str, ModuleType]]:
    """(what was changed, the changed checker). Annotations, messages and docstrings are left alone."""
    tree = ast.parse(SOURCE)
    for where, node, siblings, i, replacement in list(_sites(tree)):
        what, siblings[i], kept = f"{where}: {ast.unparse(node)[:100]}", replacement, siblings[i]
        module = load(tree, "checker_mutant")
        siblings[i] = kept
        yield what, module


Site = tuple[str, ast.AST, list[Any], int, ast.AST]  # where, what is changed, and in which list it is replaced by what


def _sites(tree: ast.Module) -> Iterator[Site]:
    for function in functions(tree):
        for body in _bodies(function):
            for i, statement in enumerate(body):
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
