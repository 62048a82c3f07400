"""A user's protocol by name, MODULE:PROTOCOL: its declaration, found in the module or guessed from the signature.

What is declared is a `protocols.entry.Entry`, the same as a row of the catalog. A protocol whose module holds no entry
for it, and which is in no row of the catalog, gets the plainest one its signature allows: ring arrays are shared
vectors of two 64-bit words.

An entry is also an attribute of THIS module, under the name by which it was asked for: audits find their target there,
in whichever process they run.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
import traceback
import typing
from functools import cache
from types import ModuleType
from typing import Any

from protocols.catalog import CATALOG
from protocols.entry import Case, Entry, Secret
from sim.party import ProtocolDecl
from sim.ring import Ring, RingArray
from sim.role import CLIENT, Role
from transcripts.targets import Target

GUESSED = "two 64-bit words"
GUESSED_RING, GUESSED_SHAPE = Ring(64), (2,)


class BadName(ValueError):
    """What was asked for is no MODULE:PROTOCOL."""


class ImportFailed(ValueError):
    """The module does not import: it is missing, or it raises."""


class NotAProtocol(ValueError):
    """The module has no protocol of this name."""


class NoExample(ValueError):
    """Nothing says with which inputs the protocol is to be run."""


def declaration(what: str) -> Entry:
    """The entry of MODULE:NAME, NAME an entry or a declared protocol. The working directory is searched as well.

    Raises BadName, ImportFailed, NotAProtocol, NoExample, each in one line. A module is imported once per process.
    """
    module_name, colon, name = what.partition(":")
    words = module_name.split(".")
    if not (colon and name.isidentifier() and all(word.isidentifier() for word in words)):
        raise BadName(f"expected MODULE:PROTOCOL, such as my_package.my_module:my_protocol, got {what!r}")
    module = imported(module_name)
    found = vars(module).get(name)
    if isinstance(found, ProtocolDecl):
        found = _entry_of(module, name, found)
    if not isinstance(found, Entry):
        kind = "nothing of this name" if found is None else f"an object of type {type(found).__name__}"
        own = [key for key, value in vars(module).items() if _is_own(value, module)]
        has = f"it has {', '.join(own)}" if own else "declare one with @protocol(realises=...)"
        raise NotAProtocol(f"{what}: expected a protocol or an Entry, got {kind}; {has}")
    if not found.cases:
        raise NoExample(f"{what}: its entry has no case; give one: Entry({name}, (Case('64 bits', (Secret(...),)),))")
    return found


def target(what: str, case: Case) -> Target:
    """What an audit of this case samples."""
    return Target(f"{__name__}:{what}", case.name)


@cache
def imported(name: str) -> ModuleType:
    """The module, what it prints sent to standard error. Raises ImportFailed with the line that failed."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()  # the file may be younger than the folder's listing
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's file may raise anything, SystemExit too
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            raise ImportFailed(f"{name}: there is no module {missing} in {here} or among what is installed") from error
        raise ImportFailed(f"{name} does not import: {raised_at(error)}") from error


def raised_at(error: BaseException, file: str | None = None) -> str:
    """FILE:LINE: type: message. The line is the innermost one of `file`, or where it has none, of any file but Python's
    own import machinery."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    machinery = ("<frozen", importlib.__file__)
    lines = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(machinery)]
    lines = [f for f in lines if f.filename == file] or lines
    where = f"{lines[-1].filename}:{lines[-1].lineno}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"


def _is_own(value: object, module: ModuleType) -> bool:
    """Whether this is a protocol, or an entry of one, whose text is in the module."""
    proto = value.proto if isinstance(value, Entry) else value
    return isinstance(proto, ProtocolDecl) and proto.run.__module__ == module.__name__


def _entry_of(module: ModuleType, name: str, proto: ProtocolDecl[Any]) -> Entry:
    """The module's entry for a protocol; else the catalog's row; else one guessed from its signature."""
    entries = {key: value for key, value in vars(module).items() if isinstance(value, Entry) and value.proto is proto}
    distinct = list({id(value): value for value in entries.values()}.values())
    if len(distinct) > 1:
        names = ", ".join(f"{module.__name__}:{key}" for key in entries)
        raise NotAProtocol(f"{module.__name__}:{name} has several entries; name one of {names}")
    rows = [row for row in CATALOG if row.proto is proto]
    return next(iter([*distinct, *rows]), None) or guessed(proto)


def guessed(proto: ProtocolDecl[Any]) -> Entry:
    """An entry for a protocol that has none: ring arrays are shared, rings 64 bits wide, roles the client."""
    needed = "declare its inputs: Entry(protocol, (Case('64 bits', (Secret(...),), {...}),))"
    try:
        hints = typing.get_type_hints(proto.run)
    except (NameError, TypeError) as error:
        raise NoExample(f"{proto.name}: its annotations do not resolve ({error}); {needed}") from error
    secrets: list[Secret] = []
    public: dict[str, Any] = {}
    stand_ins = {Ring: GUESSED_RING, Role: CLIENT}
    for parameter in list(inspect.signature(proto.run).parameters.values())[1:]:
        hint = hints.get(parameter.name)
        if parameter.default is not parameter.empty:
            continue
        if hint is RingArray and parameter.kind is parameter.POSITIONAL_OR_KEYWORD and not public:
            secrets.append(Secret(GUESSED_RING, GUESSED_SHAPE))
        elif parameter.kind is parameter.KEYWORD_ONLY and hint in stand_ins:
            public[parameter.name] = stand_ins[hint]
        else:
            raise NoExample(f"{proto.name}: nothing says what {parameter.name!r} is; {needed}")
    if not secrets:
        raise NoExample(f"{proto.name}: it takes no ring array; {needed}")
    return Entry(proto, (Case(GUESSED, tuple(secrets), public),))


def __getattr__(name: str) -> Entry:
    """The entry of MODULE:PROTOCOL, as an attribute of this module."""
    if ":" not in name:
        raise AttributeError(name)
    try:
        return declaration(name)
    except (BadName, ImportFailed, NotAProtocol, NoExample) as error:
        raise AttributeError(str(error)) from error
