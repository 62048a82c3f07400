"""`--view` shows what its party receives and nothing else, in every form in which a run can be shown."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest

from secmoe.cli import main
from sim.message import Message, chain
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER, Role
from sim.wire import BlobSpec
from sim.world import Execution
from tests.small_runs import keep_small
from transcripts.facts import NoSuchMessage, Selection
from transcripts.record import Recorder
from transcripts.store import Transcript

CPU = {CLIENT: 1234.125, SERVER: 4321.375}


def sent_by(role: Role) -> list[Message]:
    """Messages whose label, scope and content say who sent them."""
    mark = f"from_{role.value}"
    blob = f"content {mark} ".encode() * 3
    word = bytes.fromhex("c1c1c1c1c1c1c1c1" if role is CLIENT else "5e5e5e5e5e5e5e5e")
    return [
        Message(role, f"r1/p/{mark}/blob", f"r1/p/{mark}", 1, BlobSpec(f"kind {mark}", len(blob)), blob),
        Message(role, f"r1/p/{mark}/word", f"r1/p/{mark}", 2, Spec(Ring(64), (2,)), word * 2),
    ]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "x.secmoe"
    messages = sorted([*sent_by(CLIENT), *sent_by(SERVER)], key=lambda m: m.order)
    cpu_by_scope = {(role, f"r1/p/from_{role.value}"): seconds for role, seconds in CPU.items()}
    cpu_by_depth = {(role, 1): seconds for role, seconds in CPU.items()}
    with Recorder(path, {"model": "m"}, seeded=False) as recorder:
        recorder.add(Execution({}, tuple(messages), cpu_by_scope, cpu_by_depth, {"reserved_pool": 77}, "r1"))
        recorder.seal()
    return path


def hidden(path: Path, view: Role) -> list[str]:
    """Everything in the file that the party does not receive, as it would look if it were shown."""
    with Transcript(path) as transcript:
        own = [h for h in transcript.headers if h.sender is view]
        chains = [h.chain.hex() for h in transcript.headers]
    contents = [m.payload or b"" for m in sent_by(view)]
    word = int.from_bytes(contents[1][:8], "little")
    return [
        f"from_{view.value}",
        *(h.digest.hex() for h in own),
        *chains,
        *(content[:16].hex() for content in contents),
        *(content[:16].hex(" ") for content in contents),
        f"{word:#x}",
        str(word),
        *(f"{seconds:.3f}" for seconds in CPU.values()),
        *map(str, CPU.values()),
        "reserved_pool",
        transcript.seal.hex(),
    ]


FORMS = [
    [],
    ["--list"],
    ["--scope", "r1"],
    ["--scope", "r1/p", "--list"],
    ["--sql", "SELECT * FROM message LEFT JOIN payload ON payload.id = payload"],
    ["--sql", "SELECT * FROM main.message, main.payload, main.run"],
    ["--sql", "SELECT name, sql FROM sqlite_schema"],
    ["--html", "page.html"],
    ["--html", "page.html", "--scope", "r1"],
    *(["--message", str(n)] for n in range(4)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("form", "as_json", "view"), list(product(FORMS, [False, True], Role)))
def test_nothing_else_is_shown(
    kept: Path,
    form: list[str],
    as_json: bool,
    view: Role,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    status = main(["inspect", str(kept), "--view", view.value, *form, *(["--json"] if as_json else [])])
    told = capsys.readouterr()
    text = told.out + told.err + "".join(page.read_text() for page in tmp_path.glob("*.html"))
    for secret in hidden(kept, view):
        assert secret not in text.replace("\n", ""), secret
    if form[:1] != ["--message"]:
        assert status == 0 and (f"from_{view.peer.value}" in text or "sqlite_schema" in form[-1])


def test_without_a_view_all_of_it_is_there(kept: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The markers that the test above looks for are what the other forms show."""
    told = ""
    for form in (["--json", "--list"], [], *(["--message", str(n)] for n in range(4))):
        assert main(["inspect", str(kept), *form]) == 0
        told += capsys.readouterr().out.replace("\n", "")
    for n in range(4):
        assert main(["inspect", str(kept), "--json", "--message", str(n)]) == 0
        told += capsys.readouterr().out
    for view in Role:
        assert [secret for secret in hidden(kept, view) if secret not in told] == []


@pytest.mark.parametrize("view", Role)
def test_messages_of_the_view_can_be_looked_at_and_others_not(
    view: Role, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.secmoe"
    keep_small(path, private=False)
    with Transcript(path) as transcript:
        selection = Selection(transcript, view=view)
        received = [transcript.message(h) for h in transcript.headers if h.sender is not view]
        assert [h.label for h in selection.headers] == [m.label for m in received]
        phases = [[m for m in received if m.label.split("/")[0] == name] for name in ("setup", "r1")]
        assert Selection(transcript, "r1", view).digest == chain(phases[1])
        for header in transcript.headers:
            status = main(["inspect", str(path), "--view", view.value, "--message", str(header.seq)])
            told = capsys.readouterr()
            if header in selection.headers:
                assert status == 0 and header.label in told.out
            else:
                assert status == 2 and told.out == "" and told.err.count("\n") == 1
                with pytest.raises(NoSuchMessage, match="is not in the view of"):
                    selection.numbered(header.seq)


def test_a_view_has_no_times(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for view in ([], ["--view", "client"]):
        assert main(["inspect", str(kept), *view]) == 0
        assert ("server s" in capsys.readouterr().out) == (not view)
        assert main(["inspect", str(kept), "--json", *view]) == 0
        facts = json.loads(capsys.readouterr().out)
        for row in (*facts["phases"], *facts["scopes"]):
            assert ("cpu_s" in row) == (not view)


def test_one_form_at_a_time(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for forms in (["--sql", "SELECT 1", "--html", "x.html"], ["--list", "--message", "1"]):
        with pytest.raises(SystemExit) as raised:
            main(["inspect", str(kept), *forms])
        assert raised.value.code == 2 and "not allowed with" in capsys.readouterr().err


def test_scopes_narrow_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.secmoe"
    keep_small(path, private=False)
    scope = ["inspect", str(path), "--scope", "r1/twice/masked.2", "--json"]
    assert main(scope) == 0
    inside = [m["seq"] for m in json.loads(capsys.readouterr().out)["messages"]]
    assert main([*scope, "--sql", "SELECT seq FROM message"]) == 0
    assert [seq for (seq,) in json.loads(capsys.readouterr().out)["rows"]] == inside
    assert main([*scope, "--message", str(inside[0])]) == 0
    capsys.readouterr()
    assert main([*scope, "--message", "0"]) == 2
    assert "is not in r1/twice/masked.2" in capsys.readouterr().err
    assert main(["inspect", str(path), "--scope", "r1/nothing"]) == 2
    assert "expected a scope with messages" in capsys.readouterr().err
