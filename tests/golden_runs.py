"""Golden digests of the catalog: the seeded runs behind them, where they lie, and `make golden`, which records them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.catalog import CATALOG
from protocols.entry import Case, Entry, Secret
from protocols.he.packing import key_set
from secmoe.examples import Example
from sim.tape import derive_key
from sim.world import Execution, Session
from tests.harness import adjusted, inputs, services
from transcripts.golden import Scope, digests, from_golden, to_golden

FOLDER = Path(__file__).parent / "golden"
SEED = b"golden"
SETUP = "setup"
ROWS = [(entry, case) for entry in CATALOG for case in entry.cases]


def values(secret: Secret, word: str) -> NDArray[np.int64]:
    """Pseudorandom values of a secret's declared range, from SHAKE128: the same with any version of any library."""
    low, high = secret.range
    size = int(np.prod(secret.shape))
    stream = hashlib.shake_128(derive_key(SEED, "input") + word.encode()).digest(16 * size)
    drawn = [low + int.from_bytes(stream[at : at + 16], "little") % (high - low + 1) for at in range(0, 16 * size, 16)]
    return np.array(drawn, dtype=np.int64).reshape(secret.shape)


def masks(secret: Secret, word: str) -> NDArray[np.uint64]:
    """A pseudorandom client share."""
    size = int(np.prod(secret.shape))
    stream = hashlib.shake_128(derive_key(SEED, "share") + word.encode()).digest(8 * size)
    return (np.frombuffer(stream, "<u8").astype(np.uint64) & np.uint64(secret.ring.mask)).reshape(secret.shape)


def example(case: Case) -> Example:
    """Pseudorandom inputs of a case."""
    drawn = [values(secret, f"{i}") for i, secret in enumerate(case.secrets)]
    shares = [masks(secret, f"{i}") for i, secret in enumerate(case.secrets)]
    return Example(tuple(adjusted(case, drawn)), tuple(shares))


def executed(entry: Entry, case: Case, ideal: bool = False) -> tuple[Execution, Execution]:
    """Set-up and run of a seeded session on these inputs; or in the hybrid world."""
    session, given = Session(services(case.plans, ideal), seed=SEED, hybrid=ideal), example(case)
    client, server = inputs(case, given.values, given.masks, ideal)
    return session.setup, session.run(entry.proto, client, server, **case.public)


def rows(entry: Entry, case: Case) -> dict[str, Scope]:
    """The golden rows of a seeded run of a case: of its session's set-up and of the run."""
    return digests([message for each in executed(entry, case) for message in each.messages])


def setup_name(case: Case) -> str:
    """Which set-up a case's session has: one per set of keys."""
    keys = key_set(case.plans[0].params, case.plans) if case.plans else None
    return "ot" if keys is None else f"ot and he, {keys.params.name}, {keys.nbytes} bytes of keys"


def names() -> list[str]:
    """The protocols that have golden digests, each once."""
    return list(dict.fromkeys(entry.name for entry, _ in ROWS))


def path(name: str) -> Path:
    """The file of a protocol, or of the set-ups."""
    return FOLDER / f"{name}.json"


def read(name: str) -> dict[str, dict[str, Scope]]:
    """The golden rows of a protocol by case, or those of the set-ups."""
    recorded: dict[str, Any] = json.loads(path(name).read_text())
    return {case: from_golden(scopes) for case, scopes in recorded.items()}


def split(found: Mapping[str, Scope]) -> tuple[dict[str, Scope], dict[str, Scope]]:
    """The rows of the set-up and those of the run."""
    setup = {scope: row for scope, row in found.items() if scope.split("/")[0] == SETUP}
    return setup, {scope: row for scope, row in found.items() if scope not in setup}


def record() -> None:
    """Write every file anew, and remove those of protocols that are gone."""
    files: dict[str, dict[str, Any]] = {SETUP: {}} | {name: {} for name in names()}
    for entry, case in ROWS:
        setup, run = split(rows(entry, case))
        files[SETUP][setup_name(case)] = to_golden(setup)
        files[entry.name][case.name] = to_golden(run)
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for name, cases in files.items():
        path(name).write_text(_lines(cases))


def _lines(cases: dict[str, dict[str, Any]]) -> str:
    """JSON with one line per scope, so that a change reads as one."""
    blocks = []
    for case, scopes in cases.items():
        lines = [f"    {json.dumps(scope)}: {json.dumps(row)}" for scope, row in scopes.items()]
        blocks.append(f"  {json.dumps(case)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


if __name__ == "__main__":
    record()
