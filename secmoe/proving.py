"""`secmoe prove` and `secmoe check-proof`: the ledger of theorems, and certificates re-checked without search."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from proofs.certificate import certificate, check_file, encode
from proofs.counterexample import judge
from proofs.ledger import DECLARED, MODEL, Row, UnknownProtocol, entries, ledger
from protocols.broken import FAULTS
from secmoe.exit import FAILED, SUCCESS
from sim.role import Role
from transcripts.show import open_console

PLANTED = "broken."


class BadWidth(ValueError):
    """A ring width that no theorem has."""


def prove(options: argparse.Namespace) -> int:
    """Print the ledger; write certificates if asked. Exit 1 unless every verdict holds."""
    if options.width is not None and options.width not in (8, 16, 32, 64):
        raise BadWidth(f"--width: expected 8, 16, 32 or 64, got {options.width}")
    if options.protocol is not None and options.protocol.startswith(PLANTED):
        return _prove_fault(options.protocol.removeprefix(PLANTED), options.json)
    chosen = entries(options.protocol)
    folder = Path(options.certificates) if options.certificates else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    console = open_console()
    rows, written = [], 0
    for row in ledger(chosen, options.width):
        rows.append(row)
        if folder is not None:
            written += _write(folder, row)
        if not options.json:
            console.print(_table(row))
    if options.json:
        print(json.dumps({"model": MODEL, "rows": [_json(row) for row in rows], "certificates": written}))
    else:
        _summary(rows, written, folder)
    return SUCCESS if all(row.holds for row in rows) else FAILED


def _prove_fault(name: str, as_json: bool) -> int:
    """A planted fault: the verdict for each corrupted party, with its counterexample. Exit 1, as it should."""
    found = [fault for fault in FAULTS if fault.name == name]
    if not found:
        raise UnknownProtocol(f"expected broken.NAME with one of {', '.join(f.name for f in FAULTS)}, got {name!r}")
    (fault,) = found
    verdicts = {role: judge(fault.entry.proto, fault.entry.cases[0], role, fault.tiny) for role in Role}
    if as_json:
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
    count = 0
    for role in Role:
        if not row.declared and row.private[role].status == "PROVED":
            name = re.sub(r"[^a-z0-9]+", "-", f"{row.entry.name} {row.case.name}".lower()).strip("-")
            path = folder / f"{name}.{role.value}.json"
            path.write_text(encode(certificate(row.entry, row.case, role)), encoding="utf-8")
            count += 1
    return count


def _status(row: Row, role: Role) -> str:
    return DECLARED if row.declared else row.private[role].status


def _table(row: Row) -> Table:
    table = Table.grid(padding=(0, 2))
    for width in (46, 10, 10, 10):
        table.add_column(width=width, no_wrap=True)
    table.add_column(no_wrap=True)
    seconds = row.correct.seconds + sum(v.seconds for v in row.private.values())
    cells = (f"{row.entry.name}: {row.case.name}", row.correct.status, *(_status(row, role) for role in Role))
    table.add_row(*(Text(cell) for cell in cells), Text(f"{seconds:6.2f} s  {row.correct.method}"))
    return table


def _summary(rows: list[Row], written: int, folder: Path | None) -> None:
    console = open_console()
    console.print("columns: correct, private against client, private against server, time, method of correctness")
    for row in rows:
        told = [row.correct, *([] if row.declared else row.private.values())]
        for verdict in told:
            if verdict.status != "PROVED":
                console.print(
                    Text(f"{row.entry.name} ({row.case.name}), {verdict.kind}: {verdict.status} {verdict.detail}")
                )
    assumed = sorted({a for row in rows for a in row.correct.assumptions})
    if assumed:
        console.print(Text("correctness rests on: " + "; ".join(assumed)))
    if len({row.entry.name for row in rows}) == 1:
        for role in Role:
            if not rows[0].declared and rows[0].private[role].status == "PROVED":
                console.print(Text(rows[0].statement(role)))
    console.print(Text(f"model: {MODEL}; a PROVED row is a statement about this protocol text at this shape"))
    if folder is not None:
        console.print(Text(f"{written} certificates in {folder}"))


def _json(row: Row) -> dict[str, Any]:
    def verdict(v: Any) -> dict[str, Any]:
        return {"status": v.status, "method": v.method, "detail": v.detail, "seconds": v.seconds}

    return {
        "protocol": row.entry.name,
        "case": row.case.name,
        "correct": {**verdict(row.correct), "assumptions": list(row.correct.assumptions)},
        "private": {role.value: {**verdict(row.private[role]), "status": _status(row, role)} for role in Role},
        "statements": [] if row.declared else [row.statement(role) for role in Role],
        "holds": row.holds,
    }


def check_proof(options: argparse.Namespace) -> int:
    """Re-check one certificate against the source that is installed."""
    accepted = check_file(Path(options.certificate))
    if options.json:
        print(json.dumps({"accepted": True, "steps": accepted.steps, "claim": accepted.claim}))
    else:
        claim = accepted.claim
        told = f"{claim['protocol']} ({claim['case']}), corrupted {claim['corrupted']}"
        open_console().print(Text(f"ACCEPTED: {told}; {accepted.steps} steps re-checked against the installed source"))
    return SUCCESS
