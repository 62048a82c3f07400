"""Leakage reports: red without a certificate and an audit of the very shape; nothing altered or foreign is believed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proofs.certificate import certificate, trace_case
from proofs.checker import canonical, digest
from protocols.catalog import CATALOG
from protocols.entry import Case, Entry
from secmoe import checked
from secmoe.checked import Checked, Store
from secmoe.cli import main
from secmoe.layer import LayerRun
from secmoe.leakage import run_report
from secmoe.result_file import AUDIT, CERTIFICATE, StoreError, finite, name_of, read, write_whole
from secmoe.shaped import row_of
from sim.role import Role
from tests.report_runs import ANOTHER, MODEL, TINY, keep
from tests.test_page import HOSTILE, Elements, policy_of
from transcripts.report import BAD, GOOD, Report, report_page, top_lines
from transcripts.store import Transcript
from transcripts.verdicts import DECLARED, LEAK, NO_LEAK

KEYS = [
    *("title", "holds", "verdicts", "source", "subjects", "run", "epsilon", "bounds", "assumptions", "distance_bits"),
    *("elsewhere", "reproduce", "not_shown"),
]
SUBJECT_KEYS = [
    *("protocol", "case", "functionality", "leakage", "verdicts", "certificates", "audits", "refused", "cost"),
]
COMMAND = "secmoe audit --run x.secmoe --runs 2000 --model real --against experts --seed 1"
Json = dict[str, Any]
Row = tuple[Entry, Case]
SMALL: Row = next((entry, case) for entry in CATALOG for case in entry.cases if entry.name == "b2a")


def verdict(role: Role, kind: str = NO_LEAK, **more: Any) -> Json:
    """What an audit says, as `transcripts.verdicts.to_json` tells it."""
    told = {"verdict": kind, "protocol": "p", "case": "c", "corrupted": role.value, "secret": "2 inputs"}
    told |= {"model": "real", "seed": "1", "runs": 2000, "tested": 7, "smallest_p": 0.2, "null_alarm": False}
    power = {"found": 9, "planted": 9}
    rest = {"detectable_sd": 0.4, "power": power, "leak": None, "advice": "", "line": f"{kind}: it"}
    rest |= {"words": {"looked_at": 5, "of": 9}, "session": None}
    return {**told, **rest, "faults": {"found": ["broken.x"], "missed": []}, **more}


@pytest.fixture(scope="module")
def proofs() -> dict[Role, Json]:
    return proved(*SMALL)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store()


def proved(entry: Entry, case: Case) -> dict[Role, Json]:
    run = trace_case(entry, case)
    return {role: certificate(entry, case, role, run) for role in Role}


def fill(store: Store, proofs: dict[Role, Json], row: Row = SMALL, audits: bool = True) -> dict[str, Path]:
    """Keep certificates and audits; the file of each, by kind and party."""
    entry, case = row
    files = {f"certificate {role.value}": store.keep_certificate(proofs[role], "prove").path for role in Role}
    for role in Role if audits else ():
        files[f"audit {role.value}"] = store.keep_audit(entry.name, case.name, verdict(role), COMMAND).path
    return files


def report_of(path: Path, store: Store) -> Report:
    with Transcript(path) as transcript:
        return run_report(transcript, store)


# -- the store ---------------------------------------------------------------------------------------------------------
def test_what_is_kept_is_found_again(store: Store, proofs: dict[Role, Json]) -> None:
    assert store.lookup(*SMALL) == Checked() and not store.folder.exists()
    files = fill(store, proofs)
    found = store.lookup(*SMALL)
    assert found.refused == () and not found.missing and found.leaks == []
    assert {r.digest for r in found.results if r.kind == CERTIFICATE} == {d["digest"] for d in proofs.values()}
    audits = {json.loads(p.read_text())["digest"] for name, p in files.items() if name.startswith(AUDIT)}
    assert {r["digest"] for r in found.to_json() if r["kind"] == AUDIT} == audits
    assert [list(r) for r in found.to_json()] == [["kind", "corrupted", "verdict", "digest"]] * 4
    assert [r["kind"] for r in found.to_json()] == [CERTIFICATE] * 2 + [AUDIT] * 2
    assert {p.name for p in store.folder.iterdir()} == {p.name for p in files.values()}
    assert {name: p.name for name, p in fill(store, proofs).items()} == {name: p.name for name, p in files.items()}


@pytest.mark.parametrize(
    "other", [replace(TINY, tokens=2), replace(TINY, params=ANOTHER), replace(TINY, order="literal")]
)
def test_another_shape_or_parameter_set_is_not_checked(store: Store, other: LayerRun) -> None:
    entry, case = row_of(TINY)
    store.keep_audit(entry.name, case.name, verdict(Role.CLIENT), COMMAND)
    assert len(store.lookup(entry, case).results) == 1
    found = store.lookup(*row_of(other))
    assert found == Checked() and [tone for tone, _ in checked.lines(found)] == [BAD, BAD]


def test_another_source_is_not_believed(store: Store, proofs: dict[Role, Json]) -> None:
    fill(Store(source="0" * 64), proofs)
    found = store.lookup(*SMALL)
    assert found.results == () and len(found.refused) == 4
    assert all("another source" in r.reason for r in found.refused)


def test_a_changed_source_file_changes_the_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = checked.installed.__wrapped__()
    for name in (
        *checked.WIRING,
        *(str(p.relative_to(checked.ROOT)) for p in (checked.ROOT / "transcripts/lattice").glob("*.py")),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((checked.ROOT / name).read_bytes())
    monkeypatch.setattr(checked, "ROOT", tmp_path)
    assert checked.installed.__wrapped__() == before
    (tmp_path / "secmoe/shaped.py").write_bytes(b"#")
    changed = checked.installed.__wrapped__()
    monkeypatch.setattr(checked, "sources", lambda: {"sim/ring.py": "0"})
    assert len({before, changed, checked.installed.__wrapped__()}) == 3
    monkeypatch.setattr(checked, "source_digest", lambda: "0")
    assert len({before, changed, checked.installed.__wrapped__()}) == 3


def resealed(path: Path, change: Callable[[Json], None]) -> None:
    """Alter a result and give it the digest, the encoding and the name that go with it."""
    document = json.loads(path.read_text())
    change(document)
    document["digest"] = digest({key: value for key, value in document.items() if key != "digest"})
    path.unlink()
    (path.parent / name_of(document)).write_text(canonical(document) + "\n")


def shorten(document: Json) -> None:
    document["result"]["steps"] = []
    body = {key: value for key, value in document["result"].items() if key != "digest"}
    document["result"]["digest"] = digest(body)


def swap(document: Json) -> None:
    document["corrupted"] = "server"


def set_result(key: str, value: Any) -> Callable[[Json], None]:
    return lambda document: document["result"].update({key: value})


@pytest.mark.parametrize(
    ("which", "change", "reason"),
    [
        ("certificate client", shorten, "still depends on the secret"),
        ("certificate client", swap, "about something else"),
        ("certificate client", set_result("dag", {}), "altered"),
        ("certificate client", lambda document: document.update(result=[]), "as an object"),
        ("certificate client", lambda document: document.update(kind="poem"), "expected a certificate or an audit"),
        ("audit client", lambda document: document.update(result=None), "expected an audit"),
        ("audit client", set_result("verdict", "SECURE"), "expected one of"),
        ("audit client", set_result("runs", "many"), "expected an audit's verdict"),
        ("audit client", set_result("power", {"found": 1}), "power"),
        ("audit client", set_result("faults", {"found": ["x"]}), "faults"),
        ("audit client", set_result("model", "imagined"), "expected a model"),
        ("audit client", lambda document: document.update(corrupted="nobody"), "against a party"),
        ("audit client", lambda document: document.update(version=2), "version"),
        ("audit client", lambda document: document.update(format="else"), "foreign"),
        ("audit client", lambda document: document.update(more=1), "exactly"),
    ],
)
def test_a_result_that_lies_under_a_right_digest_is_not_believed(
    store: Store, proofs: dict[Role, Json], which: str, change: Callable[[Json], None], reason: str
) -> None:
    resealed(fill(store, proofs)[which], change)
    found = store.lookup(*SMALL)
    assert [reason in r.reason for r in found.refused] in ([True], [])  # an unknown kind has another name
    kind, role = which.split()
    assert not found.of(kind, Role(role)) and found.missing
    assert any(tone == BAD for tone, _ in checked.lines(found))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"NO LEAK FOUND", b"LEAK"),
        lambda data: data.replace(b'"runs":2000', b'"runs":9999'),
        lambda data: data.replace(b":2000", b":NaN"),
        lambda data: data.replace(b":2000", b":" + b"9" * 5000),
        lambda data: data + b" ",
        lambda data: b"\xff" + data,
        lambda data: b"[" * 100_000,
        lambda data: b"[]",
        lambda data: b"",
    ],
)
def test_a_damaged_file_is_refused_with_its_reason(store: Store, damage: Callable[[bytes], bytes]) -> None:
    entry, case = SMALL
    path = store.keep_audit(entry.name, case.name, verdict(Role.CLIENT), COMMAND).path
    path.write_bytes(damage(path.read_bytes()))
    found = store.lookup(*SMALL)
    assert found.results == () and [r.file for r in found.refused] == [path.name] and found.refused[0].reason


def test_names_links_and_folders_are_not_believed(store: Store) -> None:
    entry, case = SMALL
    path = store.keep_audit(entry.name, case.name, verdict(Role.CLIENT), COMMAND).path
    renamed = path.with_name(path.name.replace("-audit-", "-audit-0"))
    renamed.write_bytes(path.read_bytes())
    path.with_name(path.name.replace("-audit-", "-audit-1")).symlink_to(path)
    path.with_name(path.name.replace("-audit-", "-audit-2")).mkdir()
    found = store.lookup(*SMALL)
    assert [r.digest for r in found.results] == [read(path)["digest"]]
    assert len(found.refused) == 3
    assert {"renamed" in r.reason or "regular" in r.reason for r in found.refused} == {True}


def test_results_are_written_whole_or_not_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    store.folder.mkdir(parents=True)
    write_whole(store.folder / "x", "before")
    monkeypatch.setattr("secmoe.result_file.os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        store.keep_audit("p", "c", verdict(Role.CLIENT), COMMAND)
    with pytest.raises(OSError, match="No space"):
        write_whole(store.folder / "x", "after")
    assert [(p.name, p.read_text()) for p in store.folder.iterdir()] == [("x", "before")]


def test_a_leak_is_not_outvoted_by_later_audits(store: Store) -> None:
    entry, case = SMALL
    store.keep_audit(entry.name, case.name, verdict(Role.CLIENT, LEAK, runs=100), f"{COMMAND} 1")
    store.keep_audit(entry.name, case.name, verdict(Role.CLIENT, NO_LEAK, runs=9000), f"{COMMAND} 2")
    found = store.lookup(*SMALL)
    assert [r.verdict for r in found.of(AUDIT, Role.CLIENT)] == [LEAK, NO_LEAK] and len(found.leaks) == 1
    assert any(tone == BAD and LEAK in text for tone, text in checked.lines(found))


def test_infinities_become_words() -> None:
    assert finite({"a": [float("inf"), (1.5, float("nan"))]}) == {"a": ["inf", [1.5, "nan"]]}


# -- the report --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("public", "seeded", "told"),
    [({}, False, "does not name"), ({"sources": "0" * 64}, False, "another source"), ({}, True, "SEEDED")],
)
def test_a_run_of_another_source_or_a_seed_is_red(
    store: Store, tmp_path: Path, public: Json, seeded: bool, told: str
) -> None:
    own = {"sources": store.source} if seeded else public
    report = report_of(keep(tmp_path / "x.secmoe", seeded=seeded, **own), store)
    assert not report["holds"]
    assert [told in text for tone, text in report["verdicts"] if tone == BAD] == [True]


def test_hostile_strings_stay_text(store: Store, tmp_path: Path) -> None:
    entry, case = row_of(TINY)
    plain = report_page(report_of(keep(tmp_path / "x.secmoe"), store))
    for i, word in enumerate(HOSTILE):
        faults = {"found": [word], "missed": [word]}
        line = verdict(Role.CLIENT, line=word, secret=word, advice=word, faults=faults)
        store.keep_audit(entry.name, case.name, line, f"{word} {i}")
    public = {f"key {word}": word for word in HOSTILE}
    path = keep(tmp_path / "<b>.secmoe", replace(TINY, model=HOSTILE[0]), **public)
    page = report_page(report_of(path, store))
    elements, calm = Elements(page), Elements(plain)
    assert {t for t, _ in elements.tags} <= {t for t, _ in calm.tags} | {"br", "span"}
    assert len(elements.inline["script"]) == 2 and len(elements.inline["style"]) == 1
    for word in HOSTILE[:3]:
        assert word in elements.text and word not in page
    policy = policy_of(elements)
    assert policy["default-src"] == ["'none'"]
    assert set(policy) == {"default-src", "script-src", "style-src", "base-uri", "form-action"}
    for _, attributes in elements.tags:
        assert not attributes.keys() & {"src", "href", "style", "action", "srcset", "data"}
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import", page)


# -- the commands ------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_report_is_red_until_the_shape_is_proved_and_audited(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, (entry, case) = keep(tmp_path / "x.secmoe", sources=store.source), row_of(TINY)
    assert main(["report", str(path), "--json"]) == 1
    empty = json.loads(capsys.readouterr().out)
    assert list(empty) == KEYS and [tone for tone, _ in top_lines(empty)] == [BAD, BAD, GOOD, GOOD]
    for (_, text), command in zip(top_lines(empty), ("prove", "audit"), strict=False):
        assert text.startswith("privacy NOT CHECKED") and text.endswith(f"; run: secmoe {command} --run x.secmoe")
    assert "NONE" in report_page(empty)

    assert main(["prove", "--run", str(path), "--json", "--certificates", "copies"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["protocol", "case", "source", "private"] and told["source"] == store.source
    assert sorted(p.name for p in Path("copies").iterdir()) == ["x.client.json", "x.server.json"]
    files = [store.keep_audit(entry.name, case.name, verdict(role), COMMAND).path for role in Role]

    assert main(["report", str(path), "--json", "--html", "x.html"]) == 0
    full = json.loads(capsys.readouterr().out)
    assert list(full) == KEYS and list(full["subjects"][0]) == SUBJECT_KEYS
    assert {tone for tone, _ in top_lines(full)} == {GOOD} and full["epsilon"]["queries"] > 0
    page = Path("x.html").read_text()
    for text in (*(row["digest"] for row in told["private"]), COMMAND, store.source, "9 of 9"):
        assert text in page
    assert page.index("PROVED against") < page.index("Bounds") < page.index("What a pass does not show")
    assert "NONE" not in page and str(tmp_path) not in page

    for name in [*store.folder.glob("*-certificate-*"), files[0]]:
        name.unlink()
    half = report_of(path, store)
    red = [text for tone, text in top_lines(half) if tone == BAD]
    assert not half["holds"] and any("no certificate; run: secmoe prove --run x.secmoe" in text for text in red)


@pytest.mark.slow
def test_a_run_is_tied_to_the_certificates_of_its_shape_alone(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*options: str) -> Json:
        assert main(["run", "hi", "--layer", "0", "--json", "--params", "P64tiny", *options]) == 0
        told: Json = json.loads(capsys.readouterr().out)
        return told

    before = run("--out", "x.secmoe")
    assert before["checked_by"] == []
    assert main(["prove", "--run", "x.secmoe", "--json"]) == 0
    digests = [row["digest"] for row in json.loads(capsys.readouterr().out)["private"]]
    found = run()["checked_by"]
    assert [(row["kind"], row["corrupted"], row["verdict"]) for row in found] == [
        ("certificate", "client", "PROVED"),
        ("certificate", "server", "PROVED"),
    ]
    assert [row["digest"] for row in found] == digests
    assert run("--layer", "1")["checked_by"] == found  # of all weights
    assert run("--pad", "2")["checked_by"] == run("--order", "literal")["checked_by"] == []
    assert main(["run", "hi", "--layer", "0", "--params", "P64tiny"]) == 0
    told = capsys.readouterr().out
    assert "PROVED against a corrupted client" in told and "NOT CHECKED at this commit and shape: no audit" in told


@pytest.mark.slow
def test_a_whole_model_is_proved_and_reported_by_its_run(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = keep(Path("x.secmoe"), MODEL, sources=store.source)
    before = report_of(path, store)
    lacking = [text for tone, text in top_lines(before) if tone == BAD]
    assert any("no certificate; run: secmoe prove --run x.secmoe" in text for text in lacking)
    assert main(["prove", "--run", "x.secmoe"]) == 0
    said = capsys.readouterr().out
    assert said.count("PROVED, corrupted") == 2
    assert said.count("but for its answer, told in r1/encoder/reveal_to/share, corrupted client") == 1
    row = row_of(MODEL)
    for role in Role:
        store.keep_audit(row[0].name, row[1].name, verdict(role), COMMAND)
    report = report_of(path, store)
    (subject,) = report["subjects"]
    assert [c["corrupted"] for c in subject["certificates"]] == ["client", "server"]
    assert subject["leakage"] == {"client": ["the answer"], "server": []}
    assert (
        "another run of the same shape",
        "secmoe run TEXT --model '' --order reassociated --answer class --params P64tiny",
    ) in report["reproduce"]
    assert [text for tone, text in top_lines(report) if tone == BAD and "epsilon" not in text] == []


@pytest.mark.nightly
def test_a_whole_model_is_audited_by_its_run(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The client is told an answer that depends on the weights, and the audit says so; of the server, too few runs."""
    keep(Path("x.secmoe"), MODEL, sources=store.source)
    assert main(["audit", "--run", "x.secmoe", "--runs", "80", "--no-power", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert {v["corrupted"]: v["verdict"] for v in told["verdicts"]} == {"client": DECLARED, "server": "INCONCLUSIVE"}
    (session,) = told["sessions"].values()
    assert session["params"] == "P64tiny" and session["responses"] > 0
    assert len(list(store.folder.glob("*-audit-*.json"))) == 2


@pytest.mark.slow
def test_an_audit_writes_its_report_and_keeps_its_verdicts(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--runs", "80", "--model", "hybrid", "--no-power"]
    assert main(["audit", "mux_public", *options, "--html", "x.html", "--json"]) == 1
    json.loads(capsys.readouterr().out)
    page = Path("x.html").read_text()
    assert "secmoe audit mux_public --runs 80 --model hybrid --against experts --seed 1 --no-power" in page
    assert "PROVED against a corrupted client" in page and "INCONCLUSIVE" in page and "power not measured" in page
    assert len(list(store.folder.glob("*-audit-*.json"))) == 2
    assert main(["audit", "broken.share_echoed", *options, "--html", "y.html"]) == 1
    page = Path("y.html").read_text()
    assert "no certificate: " in page and "LEAK: broken.share_echoed" in page
    assert len(list(store.folder.glob("*.json"))) == 2


@pytest.mark.slow
def test_an_audit_of_a_runs_own_shape_is_found_by_its_report(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    keep(Path("x.secmoe"), sources=store.source)
    options = ["--runs", "80", "--model", "hybrid", "--no-power", "--html", "x.html"]
    assert main(["audit", "--run", "x.secmoe", *options]) == 1
    capsys.readouterr()
    assert "secmoe.shaped" not in Path("x.html").read_text()
    assert main(["report", "x.secmoe", "--json"]) == 1
    (subject,) = json.loads(capsys.readouterr().out)["subjects"]
    assert [row["corrupted"] for row in subject["audits"]] == ["client", "server"]
    assert all(row["command"].startswith("secmoe audit --run x.secmoe --runs 80") for row in subject["audits"])
    assert not any("no audit" in text for _, text in subject["verdicts"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "none.secmoe"],
        ["report", "x.secmoe", "--html", "x.txt"],
        ["report", "foreign.secmoe"],
        ["prove", "b2a", "--run", "x.secmoe"],
        ["prove", "--run", "x.secmoe", "--map"],
        ["prove", "--run", "none.secmoe"],
        ["audit", "b2a", "--run", "x.secmoe"],
        ["audit", "--run", "none.secmoe"],
        ["audit", "b2a", "--html", "x.txt"],
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    store: Store, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    keep(Path("x.secmoe"))
    keep(Path("foreign.secmoe"), shape={"d": 1})
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not store.folder.exists()
