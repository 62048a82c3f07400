"""`secmoe prove` and `secmoe check-proof`: the ledger of theorems, and certificates re-checked without search."""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any

from rich.text import Text

from proofs.assumptions import total_bits
from proofs.certificate import certificate, check_file, check_folder, encode, trace_case
from proofs.checker import Accepted
from proofs.counterexample import judge
from proofs.ledger import MODEL, Row, UnknownProtocol, entries, ledger, rows_of
from proofs.limits import limits
from protocols.broken import FAULTS
from protocols.entry import DECLARED
from secmoe.bounding import bounds_json, print_bounds
from secmoe.exit import FAILED, SUCCESS
from secmoe.mapping import print_map, write_graph
from sim.role import Role
from transcripts.show import open_console

PLANTED = "broken."
CONTRACT = "contract "
WIDTHS = (8, 16, 32, 64)


class BadWidth(ValueError):
    """A ring width that no theorem has."""


class BadScope(ValueError):
    """Options that do not go together."""


class BadFolder(ValueError):
    """A place for certificates that is no folder."""


def prove(options: argparse.Namespace) -> int:
    """Print the ledger, a mask map or a drawing; write certificates if asked. Exit 1 unless every verdict holds."""
    if options.width is not None and options.width not in WIDTHS:
        raise BadWidth(f"--width: expected 8, 16, 32 or 64, got {options.width}")
    if options.protocol is not None and options.protocol.startswith(PLANTED):
        return _prove_fault(options.protocol.removeprefix(PLANTED), options)
    if options.bounds:
        return _bounds_only(options)
    rows = rows_of(entries(options.protocol), options.width)
    if options.graph:
        return write_graph(rows, options)
    if options.map:
        return print_map(rows, options.json)
    folder = certificate_folder(options.certificates)
    console = open_console()
    proved, written = [], 0
    for row in ledger(rows):
        proved.append(row)
        if folder is not None:
            written += _write(folder, row)
        if not options.json:
            console.print(_line(row), soft_wrap=True)
    bounds = list(limits()) if options.protocol is None and options.width is None else []
    if options.json:
        told = {"model": MODEL, "rows": [_json(row) for row in proved], "certificates": written}
        print(json.dumps({**told, "bounds": bounds_json(bounds)}))
    else:
        _summary(proved, written, folder)
        if bounds:
            print_bounds(console, bounds, in_full=False)
    proofs_hold = all(row.holds and not row.outdated for row in proved)
    return SUCCESS if proofs_hold and all(bound.holds for bound in bounds) else FAILED


def _bounds_only(options: argparse.Namespace) -> int:
    if options.protocol is not None:
        raise BadScope(f"--bounds: expected no protocol, got {options.protocol!r}: they are about all that ships")
    bounds = list(limits())
    if options.json:
        print(json.dumps({"bounds": bounds_json(bounds)}))
    else:
        print_bounds(open_console(), bounds, in_full=True)
    return SUCCESS if all(bound.holds for bound in bounds) else FAILED


def certificate_folder(name: str | None) -> Path | None:
    """The folder that --certificates names, made if it is missing; raises BadFolder."""
    if not name:
        return None
    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise BadFolder(f"--certificates: expected a folder, got the file {folder}; name another place")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _prove_fault(name: str, options: argparse.Namespace) -> int:
    """A planted fault: the verdict for each corrupted party, with its counterexample. Exit 1, as it should."""
    found = [fault for fault in FAULTS if fault.name == name]
    if not found:
        raise UnknownProtocol(f"expected broken.NAME with one of {', '.join(f.name for f in FAULTS)}, got {name!r}")
    (fault,) = found
    if fault.services is not None:
        raise UnknownProtocol(
            f"{PLANTED}{name} is a fault below the interfaces, where its text is as it should be: expected one that a "
            f"symbolic run can show; see it with secmoe audit {PLANTED}{name}"
        )
    if options.map or options.graph:
        rows = [(fault.entry, fault.entry.cases[0])]
        return write_graph(rows, options) if options.graph else print_map(rows, options.json)
    verdicts = {role: judge(fault.entry.proto, fault.entry.cases[0], role, fault.tiny) for role in Role}
    if options.json:
        told = {role.value: {"status": v.kind, "detail": v.detail} for role, v in verdicts.items()}
        print(json.dumps({"protocol": PLANTED + name, "fault": fault.what, "private": told}))
    else:
        console = open_console()
        console.print(Text(f"{PLANTED}{name}: {fault.what}"))
        for role, v in verdicts.items():
            console.print(Text(f"private against {role.value}: {v.kind} {v.detail}".rstrip()))
    return SUCCESS if all(v.kind == "PROVED" for v in verdicts.values()) else FAILED


def _write(folder: Path, row: Row) -> int:
    """One certificate per corrupted party of a proved case."""
    count, run = 0, None
    for role in Role:
        if not row.declared and row.private[role].status == "PROVED":
            name = re.sub(r"[^a-z0-9]+", "-", f"{row.entry.name} {row.case.name}".lower()).strip("-")
            path = folder / f"{name}.{role.value}.json"
            run = run or trace_case(row.entry, row.case)
            path.write_text(encode(certificate(row.entry, row.case, role, run)), encoding="utf-8")
            count += 1
    return count


def _status(row: Row, role: Role) -> str:
    status = row.private[role].status
    return DECLARED if row.declared and status == "PROVED" else status


def _refreshing(row: Row) -> str:
    return "PROVED" if all(v.status == "PROVED" for v in row.refreshing.values()) else "-"


def _line(row: Row) -> Text:
    """One row of the ledger, in columns."""
    verdicts = (row.correct.status, *(_status(row, role) for role in Role), _refreshing(row))
    seconds = row.correct.seconds + sum(v.seconds for v in row.private.values())
    cells = "".join(f"{verdict:10}" for verdict in verdicts)
    return Text(f"{row.entry.name + ': ' + row.case.name:46}{cells}{seconds:6.2f} s  {row.correct.method}")


def _summary(rows: list[Row], written: int, folder: Path | None) -> None:
    console = open_console()

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    say("columns: correct, private against client, private against server, refreshing (optional), time, method")
    for row in rows:
        for verdict in row.judged:
            if verdict.status != "PROVED":
                known = row.reason(verdict)
                listed = f"listed: {known}" if known else verdict.detail
                say(f"{row.entry.name} ({row.case.name}), {verdict.kind}: {verdict.status} {listed}")
        for kind in row.outdated:
            say(f"{row.entry.name} ({row.case.name}), {kind}: PROVED, yet listed as unknown; take it off the list")
    contracts = {a for row in rows for a in row.correct.assumptions if a.startswith(CONTRACT)}
    inputs = sorted({a for row in rows for a in row.correct.assumptions if a.startswith("input")})
    say(f"contracts used, each proved at its own shape and parameters, none resting on itself: {len(contracts)}")
    if inputs:
        say("premises on inputs: " + "; ".join(a.removeprefix("input: ") for a in inputs))
    assumptions = tuple(dict.fromkeys(a for row in rows for a in row.assumptions))
    for a in assumptions:
        distance = f", 2^{round(math.log2(a.distance))} per session" if a.distance else ""
        say(f"assumed ({a.where}, {a.kind}{distance}): {a.name} [{a.source}]")
    if bits := total_bits(assumptions):
        say(f"statistical distances in total: at most 2^-{bits} per session")
    if len({row.entry.name for row in rows}) == 1:
        for role in Role:
            if rows[0].private[role].status == "PROVED":
                told = rows[0].private[role].detail if rows[0].declared else rows[0].statement(role)
                say(f"corrupted {role.value}: private {told}" if rows[0].declared else told)
    say(f"model: {MODEL}; a PROVED row is a statement about this protocol text at this shape")
    if folder is not None:
        say(f"{written} certificates in {folder}")


def _json(row: Row) -> dict[str, Any]:
    def verdict(v: Any) -> dict[str, Any]:
        return {"status": v.status, "method": v.method, "detail": v.detail, "seconds": v.seconds}

    return {
        "protocol": row.entry.name,
        "case": row.case.name,
        "correct": {**verdict(row.correct), "assumptions": list(row.correct.assumptions)},
        "private": {role.value: {**verdict(row.private[role]), "status": _status(row, role)} for role in Role},
        "refreshing": {role.value: verdict(v) for role, v in row.refreshing.items()},
        "assumptions": [vars(a) for a in row.assumptions],
        "statements": [] if row.declared else [row.statement(role) for role in Role],
        "holds": row.holds,
    }


def check_proof(options: argparse.Namespace) -> int:
    """Re-check a certificate, or every certificate of a folder, against the source that is installed."""
    path = Path(options.certificate)
    if path.is_dir():
        return _check_folder(path, options.json)
    accepted = check_file(path)
    if options.json:
        print(json.dumps({"accepted": True, "steps": accepted.steps, "claim": accepted.claim}))
    else:
        told = f"ACCEPTED: {_claimed(accepted)}; {accepted.steps} steps re-checked against the installed source"
        open_console().print(Text(told), soft_wrap=True)
    return SUCCESS


def _claimed(accepted: Accepted) -> str:
    claim = accepted.claim
    return f"{claim['protocol']} ({claim['case']}), corrupted {claim['corrupted']}"


def _check_folder(folder: Path, as_json: bool) -> int:
    """One line per certificate. Raises BadFolder where one is refused, after all were looked at."""
    console = open_console()
    told: list[dict[str, Any]] = []
    refused: list[str] = []
    for path, accepted, problem in check_folder(folder):
        told.append({"file": path.name, "accepted": problem is None, "problem": problem})
        if accepted is None:
            refused.append(f"{path.name}: {problem}")
        elif not as_json:
            console.print(Text(f"ACCEPTED: {_claimed(accepted)}; {accepted.steps} steps"), soft_wrap=True)
    if as_json:
        print(json.dumps({"accepted": not refused, "certificates": told}))
    if not told:
        raise BadFolder(
            f"{folder}: expected certificates (*.json), got none; write some with secmoe prove --certificates"
        )
    if refused:
        raise BadFolder(f"{len(refused)} of {len(told)} certificates refused; the first: {refused[0]}")
    return SUCCESS
