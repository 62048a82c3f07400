"""Certificates: a privacy proof as canonical JSON that `proofs.checker` re-checks without search.

A document holds the claim (protocol, case, corrupted party, statement, inputs), hashes of the sources it is about, the
part of the array DAG that reaches the view, the view itself (every message with its wire header, and what ideal
functionalities deliver), and the steps. Nodes are numbered by their place in that part of the DAG; `dag.kinds` lists
[operation, parameters, width, shape, source line] once each. The same source gives the same bytes.
"""

from __future__ import annotations

import hashlib
import math
import operator
import platform
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import proofs
import protocols
import sim
from proofs.checker import FORMAT, VERSION, Accepted, Rejected, canonical, check, digest
from proofs.private import JOINT, Step, prove_private
from proofs.search import no_model
from proofs.symbolic import CONST, INPUT, Dag, Node, cone
from proofs.trace import Seen, Trace, trace, uncollected
from protocols.catalog import CATALOG
from protocols.entry import DECLARED, Case, Entry
from protocols.he.ideal import IdealHeService
from protocols.he.service import DEFAULT_BUDGET
from protocols.ot.ideal import IdealOtService
from protocols.sharing import reveal_to
from sim.ring import Ring, RingArray
from sim.role import CLIENT, SERVER, Role
from sim.wire import Blob, quoted, spec_to_json
from sim.world import Service

Document = dict[str, Any]
LARGEST = 1 << 27  # bytes of a file
FUNCTIONALITY_OUTPUT = "functionality"  # the kind of a view entry that no message carries
# Of this package; the search is not trusted.
FRONT_END = ("symbolic.py", "trace.py", "certificate.py", "checker.py", "rules.py", "joint.py")


class NotProved(ValueError):
    """The view still depends on secrets, so there is nothing to certify."""


class UnknownClaim(ValueError):
    """A claim about a protocol, case or party that the catalog does not have."""


def trace_case(entry: Entry, case: Case) -> Trace:
    """The symbolic run of a catalog case in the hybrid world; input i is the leaf `xi`, weight i the leaf `wi`."""
    dag = Dag()
    client: list[RingArray | None] = []
    server: list[RingArray | None] = []
    weights: list[RingArray] = []
    for i, secret in enumerate(case.secrets):
        if secret.weight:
            weights.append(dag.leaf(SERVER.value, f"w{i}", secret.spec))
            continue
        for role, arguments in ((CLIENT, client), (SERVER, server)):
            mine = secret.owner in (None, role)
            arguments.append(dag.leaf(role.value, f"x{i}", secret.spec) if mine else None)
    ours, theirs = (case.arrange(list(a)) if case.arrange else list(a) for a in (client, server))
    if case.prepare is not None:
        ours.append(None)
        theirs.append(case.prepare(lambda plan, weight: weight, weights))  # type: ignore[arg-type]  # leaves, not words
    services: list[Service] = [IdealOtService(), *([IdealHeService(case.plans)] if case.plans else [])]
    return trace(entry.proto, services, [*case.leading, *ours], [*case.leading, *theirs], case.public, dag)


@cache
def sources() -> dict[str, str]:
    """SHA-256 of every module a proof is about: rings and front end, functionality models, protocol texts, checker."""
    found = {}
    for package in (sim, protocols):
        root = Path(package.__path__[0])
        found.update({f"{root.name}/{path.relative_to(root).as_posix()}": path for path in root.rglob("*.py")})
    front = Path(proofs.__path__[0])
    found.update({f"{front.name}/{name}": front / name for name in FRONT_END})
    return {name: hashlib.sha256(found[name].read_bytes()).hexdigest() for name in sorted(found)}


def versions() -> dict[str, str]:
    """What the front end runs on."""
    return {"python": platform.python_version(), "numpy": metadata.version("numpy")}


def ranges(case: Case) -> dict[tuple[str, str], tuple[int, int]]:
    """Declared bounds of the secrets in the clear, by owner and name of the input. A share has none."""
    return {
        (secret.owner.value, f"x{i}"): secret.range
        for i, secret in enumerate(case.secrets)
        if secret.owner is not None and not secret.weight and (secret.low, secret.high) != (None, None)
    }


def masking_of(distance: Fraction) -> list[int] | None:
    """A statistical distance as a claim has it: bits (rounded down), numerator, denominator; None for 0."""
    if not distance:
        return None
    bits = (distance.denominator // distance.numerator).bit_length() - 1
    return [bits, distance.numerator, distance.denominator]


def told_answer(entry: Entry, run: Trace, corrupted: Role) -> list[str]:
    """The message that tells a corrupted party the answer of a protocol that declares so, by its label; mostly none.

    It is sent by the protocol's own and only `reveal_to`, and the party's output is its sum with a share that the party
    holds. So it is the answer less that share, which a simulator makes of the answer: the rest of the view is what
    there is to prove. Any other opening stays in the view.
    """
    label = f"{run.execution.prefix}/{entry.name}/{reveal_to.name}/share"
    if entry.status != DECLARED or entry.realises.leaks_route:
        return []
    seen = [s for s in run.view(corrupted) if s.label == label]
    outputs = [run.dag.nodes[number] for number in run.outputs[corrupted]]
    return [s.label for s in seen if len(outputs) == 1 and outputs[0].op == "add" and s.node in outputs[0].args]


def _hidden(entry: Entry, run: Trace, corrupted: Role) -> list[Seen]:
    """The view without the answer."""
    told = told_answer(entry, run, corrupted)
    return [seen for seen in run.view(corrupted) if seen.label not in told]


def claim_of(entry: Entry, case: Case, run: Trace, corrupted: Role, masking: Any = None) -> Document:
    """The claim, its statement in words included. masking: the statistical distance, as `masking_of` gives it."""
    told = told_answer(entry, run, corrupted)
    leaves = [node for node in run.dag.nodes if node.op == INPUT]
    inputs: list[list[Any]] = [[node.owner, node.label, node.ring.l, list(node.shape)] for node in leaves]
    secrets = [
        f"{name} (Z_2^{width}, shape {tuple(shape)})"
        for owner, name, width, shape in inputs
        if owner != corrupted.value
    ]
    epsilon = -round(math.log2(DEFAULT_BUDGET)) if case.plans and corrupted is CLIENT else None
    flooding = "" if epsilon is None else f" responses are flooded to statistical distance 2^-{epsilon} per session;"
    answered = f" but for its answer, told in {told[0]}" if told else ""
    within = f"statistical (distance at most 2^-{masking[0]} from one law, inputs in range)" if masking else "perfect"
    statement = (
        f"{entry.name} ({case.name}): {within} view-independence of the {corrupted.peer.value}'s inputs "
        f"{', '.join(secrets) or '(none)'}{answered}, corrupted {corrupted.value}, semi-honest, ideal OT"
        f"{' and HE' if case.plans else ''};{flooding} OT{' and HE' if case.plans else ''}: assumed"
    )
    return {
        "protocol": entry.name,
        "case": case.name,
        "corrupted": corrupted.value,
        "statement": statement,
        "inputs": inputs,
        "width": max((row[2] for row in inputs), default=0),
        "epsilon_bits": epsilon,
        "masking": masking,
        "ranges": [] if masking is None else [[*key, low, high] for key, (low, high) in sorted(ranges(case).items())],
    } | ({"told": told} if told else {})


def _plain(value: Any) -> Any:
    """A node parameter as JSON."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, str) else operator.index(value)


def dag_json(dag: Dag, numbers: Sequence[int]) -> tuple[Document, dict[int, int]]:
    """These nodes, renumbered; and the new number of each."""
    place = {number: i for i, number in enumerate(numbers)}
    kinds: list[Any] = []
    known: dict[tuple[Any, ...], int] = {}
    rows = []
    told: dict[str, str] = {}
    for number in numbers:
        op, args, params, ring, shape, line = dag.nodes[number]
        said = told.get(line)
        if said is None:  # inputs are made by the caller
            said = told[line] = line if line.startswith(f"{protocols.__name__}.") else ""
        key = (op, params, ring.l, shape, said)
        kind = known.get(key)
        if kind is None:
            kind = known[key] = len(kinds)
            kinds.append([op, _plain(params), ring.l, list(shape), said])
        rows.append([kind, *[place[a] for a in args]])
    return {"kinds": kinds, "nodes": rows}, place


def _view_json(run: Trace, role: Role, place: Mapping[int, int], told: Sequence[str]) -> list[list[Any]]:
    """[label, depth, kind, dtype, shape, node or None] of everything the corrupted party receives. Sealed messages, and
    the one that tells the answer, have no node."""
    rows: list[list[Any]] = []
    for message in run.execution.view(role):
        content = message.content
        if isinstance(content, Blob):
            content = None if content.sealed else content.data
        header = spec_to_json(message.spec)
        node = place[content.value] if isinstance(content, RingArray) and message.label not in told else None
        rows.append([message.label, message.depth, header["kind"], header["dtype"], header["shape"], node])
    for seen in run.view(role):
        if seen.ideal:
            node_ = run.dag.nodes[seen.node]
            ring, shape = f"z2^{node_.ring.l}", list(node_.shape)
            rows.append([seen.label, 0, FUNCTIONALITY_OUTPUT, ring, shape, place[seen.node]])
    return rows


def rebuilt(entry: Entry, case: Case, run: Trace, corrupted: Role, masking: Any = None) -> Document:
    """The document of a run without steps: what the checker compares a certificate with."""
    dag, place = dag_json(run.dag, cone(run.dag, [seen.node for seen in _hidden(entry, run, corrupted)]))
    return {
        "format": FORMAT,
        "version": VERSION,
        "claim": claim_of(entry, case, run, corrupted, masking),
        "sources": sources(),
        "versions": versions(),
        "dag": dag,
        "dag_digest": digest(dag),
        "view": _view_json(run, corrupted, place, told_answer(entry, run, corrupted)),
    }


def step_json(step: Step, place: Mapping[int, int]) -> list[Any]:
    """[rule, symbol, node]; lists of them for a joint rule."""
    symbols, nodes = [place[n] for n in step.symbols], [place[n] for n in step.nodes]
    return [step.rule, symbols, nodes] if step.rule in JOINT else [step.rule, *symbols, *nodes]


def certificate(entry: Entry, case: Case, corrupted: Role, run: Trace | None = None) -> Document:
    """Prove privacy against a corrupted party and write the proof down; raises NotProved."""
    run = run or trace_case(entry, case)
    view = _hidden(entry, run, corrupted)
    peeled = prove_private(run.dag, view, corrupted, ranges(case))
    if peeled.findings:
        labels = ", ".join(finding.seen.label for finding in peeled.findings[:3])
        raise NotProved(f"{entry.name} ({case.name}), corrupted {corrupted.value}: not proved private at {labels}")
    body = rebuilt(entry, case, run, corrupted, masking_of(peeled.distance))
    place = {number: i for i, number in enumerate(cone(run.dag, [seen.node for seen in view]))}
    body["steps"] = [step_json(step, place) for step in peeled.steps]
    return {**body, "digest": digest(body)}


def encode(document: Document) -> str:
    """The text of a certificate file."""
    return canonical(document) + "\n"


def find(claim: Mapping[str, Any], rows: Sequence[Entry] = CATALOG) -> tuple[Entry, Case, Role]:
    """The catalog row that a claim is about; raises UnknownClaim."""
    for entry in rows:
        for case in entry.cases:
            if (entry.name, case.name) == (claim.get("protocol"), claim.get("case")):
                for role in Role:
                    if role.value == claim.get("corrupted"):
                        return entry, case, role
    raise UnknownClaim(
        f"no protocol {quoted(claim.get('protocol'))} with a case {quoted(claim.get('case'))} and a party "
        f"{quoted(claim.get('corrupted'))} in the catalog; `secmoe catalog` lists them"
    )


class Rebuilder:
    """From a claim to the document of the source; the two parties of a case share one trace."""

    def __init__(self, rows: Sequence[Entry] = CATALOG) -> None:
        self.rows = rows
        self._last: tuple[Any, Trace] | None = None

    def __call__(self, claim: Document) -> Document:
        entry, case, role = find(claim, self.rows)
        key = (entry.name, case.name)
        if self._last is None or self._last[0] != key:
            self._last = (key, trace_case(entry, case))
        masking = claim.get("masking")
        if masking is not None and not (isinstance(masking, list) and [type(n) for n in masking] == [int] * 3):
            raise Rejected(
                f"malformed certificate: expected a statistical distance as three integers, got {quoted(masking)}"
            )
        return rebuilt(entry, case, self._last[1], role, masking)


def check_file(path: Path, rebuild: Rebuilder | None = None) -> Accepted:
    """Re-check a certificate file against the source; raises Rejected, UnknownClaim or OSError."""
    text = _text(path)
    with uncollected():
        return check(text, rebuild or Rebuilder(), no_model)


def _text(path: Path) -> str:
    """The text of a certificate file; Rejected where it is none, before it is read where that can be known."""
    if path.exists() and not path.is_file():
        raise Rejected(f"{path}: expected a certificate, got something that is not a regular file")
    if path.stat().st_size > LARGEST:
        raise Rejected(f"{path}: expected a certificate of at most {LARGEST:,} bytes, got {path.stat().st_size:,}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Rejected(f"{path}: expected a certificate, got a file that is not UTF-8 ({error.reason})") from error


def check_folder(folder: Path) -> Iterator[tuple[Path, Accepted | None, str | None]]:
    """Re-check every certificate (*.json) of a folder, in the order of names: the file, what was accepted, or why not.

    The two parties of a case share one symbolic run where their files stand side by side.
    """
    rebuild = Rebuilder()
    for path in sorted(folder.glob("*.json")):
        try:
            accepted = check_file(path, rebuild)
        except (Rejected, UnknownClaim) as error:
            yield path, None, str(error)
        else:
            yield path, accepted, None


def restore(document: Document) -> Dag:
    """The array DAG of a certificate."""
    dag = Dag()
    for kind, *args in document["dag"]["nodes"]:
        op, params, width, shape, line = document["dag"]["kinds"][kind]
        number = len(dag.nodes)
        ring, shape = Ring(width), tuple(shape)
        dag.nodes.append(Node(op, tuple(args), _tuples(params), ring, shape, line))
        if op == CONST:
            value = params[0]
            words = np.uint64(value) if isinstance(value, int) else np.frombuffer(bytes.fromhex(value), "<u8")
            dag.constants[number] = np.broadcast_to(words.reshape(shape) if words.ndim else words, shape)
    return dag


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
