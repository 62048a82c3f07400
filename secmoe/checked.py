"""What has been checked: certificates and audit verdicts, kept under the digest of the source they are about.

One JSON file per result in `./runs/checked`, plain and canonical: format, version, kind, protocol, case, corrupted
party, command, source digest, result, digest. A case's name spells out every public parameter (see `secmoe.shaped`), so
a result belongs to exactly one source, protocol, shape and parameter set; its file name says which. A file is written
whole or not at all. Reading trusts nothing: what is altered, foreign, renamed or about another source is not believed,
with the reason, and a certificate is believed only when the checker has accepted it against the installed source. An
audit cannot be re-checked without running it: its file is believed as it stands, and whoever can write to the folder
can write what it says.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from proofs.certificate import Rebuilder, UnknownClaim, encode, sources
from proofs.checker import Accepted, Rejected, canonical, check, digest
from proofs.search import no_model
from proofs.trace import uncollected
from protocols.entry import Case, Entry
from secmoe.inputs import RUNS
from secmoe.result_file import (
    AUDIT,
    CERTIFICATE,
    FORMAT,
    SUFFIX,
    VERSION,
    Json,
    StoreError,
    finite,
    name_of,
    prefix_of,
    read,
    write_whole,
)
from sim.role import Role
from transcripts.campaign import ROOT, source_digest
from transcripts.sampling import HYBRID, REAL
from transcripts.verdicts import DECLARED, INCONCLUSIVE, LEAK, NO_LEAK

SOURCES = "sources"  # the public parameter of a kept run that names the source which made it
WIRING = (  # what makes a catalog row of a run, and what judges the figures of an audit
    "secmoe/examining.py", "secmoe/layer.py", "secmoe/layer_protocols.py",
    "secmoe/shaped.py", "secmoe/whole.py",
    "transcripts/answers.py", "transcripts/audit.py", "transcripts/power.py", "transcripts/reuse.py",
    "transcripts/sessions.py", "transcripts/tweaks.py", "transcripts/verdicts.py",
)  # fmt: skip
VERDICTS = (LEAK, DECLARED, INCONCLUSIVE, NO_LEAK)
PROVED = "PROVED"
MADE_BY: Mapping[str, str] = {CERTIFICATE: "prove", AUDIT: "audit"}  # the command that keeps a result


@dataclass(frozen=True)
class Result:
    """One believed result. verdict: PROVED, or what the audit said. content: of an audit, its figures."""

    kind: str
    corrupted: Role
    verdict: str
    digest: str
    command: str
    content: Json

    def to_json(self) -> Json:
        """An item of `checked_by`."""
        return {"kind": self.kind, "corrupted": self.corrupted.value, "verdict": self.verdict, "digest": self.digest}


@dataclass(frozen=True)
class Kept:
    """Where a result was written, and its digest: of a certificate its own, of an audit that of the file."""

    path: Path
    digest: str


@dataclass(frozen=True)
class Refused:
    """A file that is about this shape by its name and is not believed."""

    file: str
    reason: str


@dataclass(frozen=True)
class Checked:
    """Everything that is known of one protocol, shape and parameter set at the installed source."""

    results: tuple[Result, ...] = ()
    refused: tuple[Refused, ...] = ()

    def of(self, kind: str, role: Role) -> list[Result]:
        """The results of a kind about one corrupted party: of audits the worst first, then that of the most runs."""
        found = [r for r in self.results if (r.kind, r.corrupted) == (kind, role)]
        return sorted(found, key=lambda r: (r.verdict not in (LEAK, DECLARED), -r.content.get("runs", 0), r.digest))

    @property
    def missing(self) -> dict[str, list[Role]]:
        """What a complete check has and this one lacks: by kind, against whom."""
        lacking = {kind: [role for role in Role if not self.of(kind, role)] for kind in MADE_BY}
        return {kind: roles for kind, roles in lacking.items() if roles}

    @property
    def leaks(self) -> list[Result]:
        """Audits that found one, declared or not."""
        return [r for r in self.results if r.verdict in (LEAK, DECLARED)]

    def to_json(self) -> list[Json]:
        """The value of `checked_by`."""
        return [r.to_json() for r in self.results]


@cache
def installed() -> str:
    """Digest of the source a result is about: the modules that certificates hash, and those of an audit."""
    names = [*WIRING, *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "transcripts/lattice").glob("*.py")))]
    wiring = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in names}
    return digest({"certificates": sources(), "audits": source_digest(), "wiring": wiring})


class Store:
    """The folder of results. Nothing is made before something is kept."""

    def __init__(self, folder: Path | None = None, source: str | None = None) -> None:
        self.folder, self.source = folder or RUNS / "checked", source or installed()

    # -- writing ---------------------------------------------------------------------------------------------------
    def keep_certificate(self, document: Json, command: str) -> Kept:
        """A certificate, as `proofs.certificate.certificate` makes it."""
        claim = document["claim"]
        about = {"protocol": claim["protocol"], "case": claim["case"], "corrupted": claim["corrupted"]}
        own: str = document["digest"]
        return Kept(self._keep(CERTIFICATE, about, command, document).path, own)

    def keep_audit(self, protocol: str, case: str, verdict: Json, command: str) -> Kept:
        """A verdict of an audit as `transcripts.verdicts.to_json` tells it. protocol, case: of the catalog row."""
        about = {"protocol": protocol, "case": case, "corrupted": verdict["corrupted"]}
        return self._keep(AUDIT, about, command, finite(verdict))

    def _keep(self, kind: str, about: Mapping[str, str], command: str, result: Json) -> Kept:
        body = {"format": FORMAT, "version": VERSION, "kind": kind, **about, "command": command}
        body |= {"source": self.source, "result": result}
        document = {**body, "digest": digest(body)}
        path = self.folder / name_of(document)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, canonical(document) + "\n")
        except OSError as error:
            raise StoreError(
                f"{path}: the result cannot be kept ({error.strerror}); make room or fix the folder"
            ) from error
        return Kept(path, str(document["digest"]))

    # -- reading ---------------------------------------------------------------------------------------------------
    def lookup(self, entry: Entry, case: Case, certificates: bool = True) -> Checked:
        """What is believed of this row. Certificates are re-checked: one symbolic run of the case, and their replay."""
        believed, refused = [], []
        rebuild = Rebuilder([entry])
        wanted = (entry.name, case.name)
        for path in sorted(self.folder.glob(f"{prefix_of(*wanted)}-*{SUFFIX}")):
            try:
                document = read(path)
                if (document["protocol"], document["case"]) != wanted:
                    raise StoreError("it is about another protocol or shape")
                if document["source"] != self.source:
                    raise StoreError("it is about another source; prove or audit again")
                if document["kind"] == AUDIT:
                    believed.append(_audited(document))
                elif certificates:
                    believed.append(_certified(document, rebuild))
            except (StoreError, Rejected, UnknownClaim) as error:
                refused.append(Refused(path.name, str(error)))
        return Checked(tuple(sorted(believed, key=_order)), tuple(refused))


def _order(result: Result) -> tuple[int, str, str]:
    return (CERTIFICATE, AUDIT).index(result.kind), result.corrupted.value, result.digest


def rechecked(document: Json, rebuild: Rebuilder) -> Accepted:
    """What the checker accepts of a certificate, against the installed source; raises Rejected, UnknownClaim."""
    with uncollected():
        return check(encode(document), rebuild, no_model)


def _certified(document: Json, rebuild: Rebuilder) -> Result:
    if not isinstance(document["result"], dict):
        raise StoreError("expected a certificate as an object")
    accepted = rechecked(document["result"], rebuild)
    claim = accepted.claim
    if any(claim[name] != document[name] for name in ("protocol", "case", "corrupted")):
        raise StoreError("the certificate in it is about something else")
    content = {"statement": claim["statement"], "steps": accepted.steps, "nodes": accepted.nodes}
    role = Role(document["corrupted"])
    return Result(CERTIFICATE, role, PROVED, accepted.digest, document["command"], content)


# What a report needs of an audit, by type.
AUDIT_FIELDS: Mapping[str, tuple[type, ...]] = {
    "verdict": (str,), "corrupted": (str,), "secret": (str,), "model": (str,), "seed": (str,), "line": (str,),
    "runs": (int,), "tested": (int,), "null_alarm": (bool,), "detectable_sd": (float, int, str),
    "power": (dict, type(None)), "faults": (dict, type(None)), "leak": (dict, type(None)), "advice": (str,),
    "words": (dict,), "session": (dict, type(None)),
}  # fmt: skip


def _audited(document: Json) -> Result:
    verdict = document["result"]
    if not isinstance(verdict, dict) or any(type(verdict.get(k)) not in types for k, types in AUDIT_FIELDS.items()):
        raise StoreError(f"expected an audit's verdict with {', '.join(AUDIT_FIELDS)}")
    if verdict["verdict"] not in VERDICTS or verdict["corrupted"] != document["corrupted"]:
        raise StoreError(f"expected one of {', '.join(VERDICTS)} about the corrupted party")
    if verdict["model"] not in (REAL, HYBRID):
        raise StoreError(f"expected a model of {REAL}, {HYBRID}")
    power, faults = verdict["power"], verdict["faults"]
    if power is not None and not all(type(power.get(word)) is int for word in ("found", "planted")):
        raise StoreError("power: expected how many planted faults there were and were found")
    if faults is not None and not all(_are_texts(faults.get(word)) for word in ("found", "missed")):
        raise StoreError("faults: expected the names of those found and missed")
    session = verdict["session"]
    if session is not None and not (type(session.get("responses")) is int and isinstance(session.get("line"), str)):
        raise StoreError("session: expected how many responses were looked at, and a line")
    role = Role(document["corrupted"])
    return Result(AUDIT, role, verdict["verdict"], document["digest"], document["command"], verdict)


def lines(checked: Checked, run: Path | None = None) -> Iterator[tuple[str, str]]:
    """The state of a shape in words, each with a tone: good, warn or bad. run: a kept run of the shape, to say which
    command gives what is missing."""
    for role in Role:
        for result in checked.of(CERTIFICATE, role)[:1]:
            yield "good", f"PROVED against a corrupted {role.value} (certificate {result.digest[:16]}, re-checked now)"
        for model in (REAL, HYBRID):
            for result in [r for r in checked.of(AUDIT, role) if r.content["model"] == model][:1]:
                yield audit_tone(result.content), f"audit, corrupted {role.value}: {told(result)}"
    subject = "NOT CHECKED" if checked.results else "privacy NOT CHECKED"
    for kind, roles in checked.missing.items():
        against = f" against a corrupted {roles[0].value}" if len(roles) == 1 else ""
        advice = "" if run is None else f"; run: secmoe {MADE_BY[kind]} --run {shown_path(run)}"
        yield "bad", f"{subject} at this commit and shape: no {kind}{against}{advice}"
    yield from _refusals(checked.refused)


def shown_path(path: Path) -> str:
    """A path as a word of a command; of an absolute one the name alone, for a report is passed on."""
    return shlex.quote(path.name if path.is_absolute() else str(path))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def audit_tone(figures: Json) -> str:
    """Good only where real bytes were looked at: in every run, or in a whole session beside hybrid runs."""
    if figures["verdict"] != NO_LEAK:
        return "bad"
    return "good" if figures["model"] == REAL or figures["session"] else "warn"


def told(result: Result) -> str:
    """An audit in one line."""
    figures = result.content
    power = figures["power"]
    planted = "power not measured" if power is None else f"power {power['found']} of {power['planted']} planted faults"
    null = "null ALARM" if figures["null_alarm"] else "null quiet"
    against = " against the simulator" if figures.get("against") == "simulator" else ""
    session, advice = figures["session"], f"; {figures['advice']}" if figures["advice"] else ""
    beside = f", beside a real session of {session['responses']} responses" if session else ""
    return (
        f"{result.verdict}{against}, {figures['model']} model, n = {figures['runs']}, {planted}, {null}{beside}{advice}"
    )


def _refusals(refused: Sequence[Refused]) -> Iterable[tuple[str, str]]:
    return (("warn", f"not believed: {r.file}: {r.reason}") for r in refused)
