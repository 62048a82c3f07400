"""Foreign traces: SPU's top_k recorded for real, the public interface, the command."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from secmoe.cli import main
from sim.role import CLIENT, SERVER
from tests.spu_traces import WHOLE, line, lines_of, read, recorded, written
from transcripts.diff import compare
from transcripts.importers import ForeignMessage, Imported, TraceUnreadable, UnfitMessage, keep
from transcripts.importers.spu import OptionRefused, SpuImporter
from transcripts.importers.spu_lines import ValueTooLong
from transcripts.record import OutputError
from transcripts.store import Transcript

LINE = re.compile(r".*\[spu link\] key=(root:.*), tag=(.*), value=(.*)")
OPENED = "r1/b2p"  # the comparison bits that top_k opens


# -- the example: what SPU's top_k tells by its traffic ----------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("kept") / f"{name}.secmoe"
            keep(SpuImporter(content_length=WHOLE), recorded(name), made[name])
        return made[name]

    return get


@pytest.mark.parametrize("name", ["distinct.1", "distinct.2"])
def test_the_traffic_of_top_k_depends_on_the_secret_values(name: str, kept: Callable[[str], Path]) -> None:
    """Two runs on equal values have one structure, a run on distinct values another: exact equality, no statistic."""
    with Transcript(kept("equal.1")) as a, Transcript(kept("equal.2")) as b, Transcript(kept(name)) as c:
        assert compare(a, b).equal
        assert compare(a, b).differing > 0
        difference = compare(a, c)
        assert not difference.equal
        assert {"missing", "rounds"} <= {change.kind for change in difference.changes}
        assert {change.scope for change in difference.changes} == {"r1", OPENED, "r1/open(x^a,y^b)"}
        opened = [[h.nbytes for h in t.headers if h.scope == OPENED and h.sender is CLIENT] for t in (a, b, c)]
    assert opened[0] == opened[1] == [56, 48, 40, 32, 24, 16, 8]  # 8-byte words: each partition splits off one value
    assert opened[2] == sizes_in_the_log(name, "b2p") != opened[0]
    assert len(opened[2]) < len(opened[0])


def sizes_in_the_log(name: str, tag: str) -> list[int]:
    found = [LINE.fullmatch(text) for text in recorded(name)[0].read_text().splitlines()]
    return [len(m[3]) // 2 for m in found if m and m[2] == tag]


@pytest.mark.parametrize("name", ["equal.1", "equal.2", "distinct.1", "distinct.2"])
def test_every_byte_of_the_trace_is_in_the_transcript(name: str, kept: Callable[[str], Path]) -> None:
    """Read a second time, plainly: a line whose key names the peer as source is a receive, all others are sent."""
    with Transcript(kept(name)) as transcript:
        for rank, role in enumerate((CLIENT, SERVER)):
            found = [LINE.fullmatch(text) for text in recorded(name)[rank].read_text().splitlines()]
            sent = [(m[2], m[3]) for m in found if m and not m[1].endswith(f":{1 - rank}->{rank}")]
            ours = [h for h in transcript.headers if h.sender is role]
            contents = [(h.scope.removeprefix("r1/"), transcript.message(h).payload) for h in ours]
            assert Counter(contents) == Counter((tag, bytes.fromhex(value)) for tag, value in sent)
            assert len(ours) == len(sent)
        assert transcript.public["trace_content_length"] == WHOLE
        assert [file["name"] for file in transcript.public["files"]] == [path.name for path in recorded(name)]
        assert (transcript.public["cut"], transcript.seeded) == (0, False)


def test_exchanges_take_one_round_each(kept: Callable[[str], Path]) -> None:
    with Transcript(kept("equal.1")) as transcript:
        swaps = [h for h in transcript.headers if h.label.split("/")[-1].startswith("allgather")]
        depths = [h.depth for h in swaps if h.sender is CLIENT]
        assert depths == [h.depth for h in swaps if h.sender is SERVER] == sorted(set(depths))


def test_ranks_and_roots_are_options() -> None:
    plain = list(SpuImporter(content_length=WHOLE).messages(recorded("equal.1")))
    swapped = list(SpuImporter(1, WHOLE).messages(recorded("equal.1")))
    flipped = [(m.sender.peer, m.label, m.depth, m.content) for m in swapped]
    assert flipped == [(m.sender, m.label, m.depth, m.content) for m in plain]
    inputs = [m for m in plain if not m.certain]
    assert {m.kind for m in inputs} == {"gather input", "bcast input"} and len(inputs) == 14
    roots = {"root:3:GATHER": 0, "root:4:BCAST": 0, "root:5:BCAST": 0, "a2v": 1, "root:9:GATHER": 0}
    told = list(SpuImporter(content_length=WHOLE, roots=roots).messages(recorded("equal.1")))
    assert len(told) == len(plain) - 5
    senders = {m.label: m.sender for m in told if m.kind in ("gather", "bcast")}
    assert senders == {
        "BEAVER_TFP:SYNC_SEEDS/gather": SERVER,
        "BEAVER_TFP:PERM/bcast": CLIENT,
        "perm_open_perm/bcast": CLIENT,
        "a2v/gather": CLIENT,
        "a2v/gather.2": SERVER,
    }
    assert {m.label for m in told} == {m.label for m in plain}
    with pytest.raises(OptionRefused, match="'b2p'"):
        list(SpuImporter(content_length=WHOLE, roots={"b2p": 0}).messages(recorded("equal.1")))


def test_a_cut_trace_says_so(tmp_path: Path) -> None:
    """Cut as SPU cuts: the first n bytes of each value."""
    cut = [[re.sub(rb"(value=[0-9a-f]{32})[0-9a-f]*", rb"\1", text) for text in lines] for lines in lines_of("equal.1")]
    done = keep(SpuImporter(content_length=16), written(tmp_path, cut), tmp_path / "x.secmoe")
    assert done.cut > 0 and done.public["cut"] == done.cut
    with Transcript(done.path) as transcript:
        kinds = {h.nbytes: h.spec for h in transcript.headers if h.scope == OPENED}
        assert str(kinds[16]).count("allgather, cut") == 1 and str(kinds[8]).count("cut") == 0
        assert sum("cut" in str(h.spec) for h in transcript.headers) == done.cut
    one = [line("root:1:ALLGATHER", content=bytes(20))]
    for limit, whole in ((21, True), (20, False)):
        assert [m.whole for m in read(tmp_path, [one, one], content_length=limit)] == [whole, whole]
    with pytest.raises(ValueTooLong, match=r"0\.log:1: expected at most 19 bytes of value, got 20"):
        read(tmp_path, [one, one], content_length=19)


# -- the public interface ----------------------------------------------------------------------------------------------


class Listed:
    """An importer of somebody else's: messages from a list."""

    framework = "list"

    def __init__(self, *messages: ForeignMessage) -> None:
        self._messages = messages

    def public(self) -> Mapping[str, Any]:
        return {"listed": len(self._messages)}

    def messages(self, paths: Sequence[Path]) -> Iterator[ForeignMessage]:
        return iter(self._messages)


def listed(path: Path, *messages: ForeignMessage) -> Imported:
    return keep(Listed(*messages), [], path)


def test_partial_content_is_recorded_by_header_and_digest(tmp_path: Path) -> None:
    whole = ForeignMessage(CLIENT, "a/hello", 1, "p2p", 3, b"abc")
    partial = ForeignMessage(SERVER, "a/long", 2, "p2p", 1000, b"beginning")
    done = listed(tmp_path / "a.secmoe", partial, whole)
    other = listed(tmp_path / "b.secmoe", ForeignMessage(SERVER, "a/long", 2, "p2p", 1000, b"Beginning"), whole)
    assert (done.messages, done.cut, done.uncertain, done.rounds) == (2, 1, 0, 2)
    assert done.nbytes == {CLIENT: 3, SERVER: 1000}
    assert done.public["known"] != other.public["known"] and done.seal != other.seal
    with Transcript(done.path) as transcript:
        assert [(h.label, h.nbytes, transcript.message(h).payload) for h in transcript.headers] == [
            ("r1/a/hello", 3, b"abc"),
            ("r1/a/long", 1000, None),
        ]
        assert transcript.public == done.public and done.public["files"] == []


@pytest.mark.parametrize(
    "message",
    [
        ForeignMessage(CLIENT, "no scope", 1, "p2p", 0, b""),
        ForeignMessage(CLIENT, "a//b", 1, "p2p", 0, b""),
        ForeignMessage(CLIENT, "a/\x1b", 1, "p2p", 0, b""),
        ForeignMessage(CLIENT, "a/b", 1, "", 0, b""),
        ForeignMessage(CLIENT, "a/b", 0, "p2p", 0, b""),
        ForeignMessage(CLIENT, "a/b", 1, "p2p", 1, b"xy"),
    ],
)
def test_what_no_transcript_can_hold_is_refused(message: ForeignMessage, tmp_path: Path) -> None:
    with pytest.raises(UnfitMessage):
        listed(tmp_path / "a.secmoe", message)
    assert list(tmp_path.iterdir()) == []


def test_a_doubled_label_is_refused(tmp_path: Path) -> None:
    one = ForeignMessage(CLIENT, "a/b", 1, "p2p", 0, b"")
    with pytest.raises(UnfitMessage, match="got two"):
        listed(tmp_path / "a.secmoe", one, one)
    assert listed(tmp_path / "a.secmoe", one, ForeignMessage(SERVER, "a/b", 1, "p2p", 0, b"")).messages == 2


def test_places_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        keep(SpuImporter(), [tmp_path / "missing"] * 2, tmp_path / "x.txt")
    for wrong in (tmp_path / "missing", tmp_path):
        with pytest.raises(TraceUnreadable):
            keep(SpuImporter(), [wrong] * 2, tmp_path / "x.secmoe")
    assert list(tmp_path.iterdir()) == []


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces, out = [str(path) for path in recorded("equal.1")], tmp_path / "x.secmoe"
    roots = [word for tag in ("BEAVER_TFP:SYNC_SEEDS", "BEAVER_TFP:PERM") for word in ("--root", f"{tag}=0")]
    length = ["--content-length", str(WHOLE)]
    assert main(["import", *traces, "--out", str(out), *length, *roots, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    with Transcript(out) as transcript:
        assert (told["seal"], told["messages"]) == (transcript.seal.hex(), len(transcript.headers))
        assert told["client_to_server"] == sum(h.nbytes for h in transcript.headers if h.sender is CLIENT)
        assert told["public"] == transcript.public
        assert transcript.public["roots"] == {"BEAVER_TFP:PERM": 0, "BEAVER_TFP:SYNC_SEEDS": 0}
    assert told["uncertain"] == 14 - 2 * 3
    assert main(["import", *traces, "--out", str(tmp_path / "y.secmoe"), *length]) == 0
    text = capsys.readouterr().out
    assert "14 messages, of which half crossed the wire" in text and "y.secmoe: " in text
    assert main(["inspect", str(out)]) == 0
    assert 'imported="SPU link trace"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.log", "missing.log"], "there is no such file"),
        (["0.log"], "expected the traces of rank 0 and of rank 1"),
        (["0.log", "1.log", "1.log"], "got 3 files"),
        (["0.log", "0.log"], "one file twice"),
        (["0.log", "1.log"], "give the run's trace_content_length"),
        (["0.log", "1.log", "--content-length", "0"], "from 1 byte"),
        (["0.log", "1.log", "--root", "a2v"], "expected KEY=0 or KEY=1"),
        (["0.log", "1.log", "--root", "a2v=2"], "expected KEY=0 or KEY=1"),
        (["0.log", "1.log", "--content-length", "999", "--root", "x=1"], "expected the key or the tag"),
        (["1.log", "0.log", "--content-length", "999"], "1.log:3: "),
        ([".", "."], "not a regular file"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = [line("root:1:ALLGATHER", content=bytes(101))]
    written(tmp_path, [[*long, *lines_of("equal.1")[rank][1:]] for rank in (0, 1)])
    monkeypatch.chdir(tmp_path)
    assert main(["import", *arguments, "--out", "x.secmoe"]) == 2
    told = capsys.readouterr()
    assert reason in told.err and told.err.count("\n") == 1 and told.out == ""
    assert not Path("x.secmoe").exists()


def test_hostile_text_stays_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = ["\x1b[2J<script>", "[bold]x[/bold]", "\u202eevil", "a, tag=b, value=00", "../../x", "\r\x00", "%2F"]
    trace = [line(f"\x1b[31m:{n}:ALLGATHER", tag) for n, tag in enumerate(hostile, 1)]
    paths = written(tmp_path, [trace, trace])
    out = tmp_path / "x.secmoe"
    assert main(["import", *map(str, paths), "--out", str(out)]) == 0
    assert main(["inspect", str(out), "--list"]) == 0
    told = capsys.readouterr().out
    assert told.replace("\n", "").isprintable()
    for shown in ("%1B[2J<script>", "[bold]x[%2Fbold]", "%E2%80%AEevil", "a, tag=b, value=00", "..%2F..%2Fx", "%252F"):
        assert f"r1/{shown}/allgather" in told


def test_what_is_not_there_is_called_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Content that a trace cuts off is not an ideal functionality's, and no private side would make it replay."""
    out, page = tmp_path / "x.secmoe", tmp_path / "x.html"
    listed(out, ForeignMessage(SERVER, "a/long", 1, "p2p", 1000, b"beginning"))
    assert main(["inspect", str(out), "--message", "0"]) == 0
    told = capsys.readouterr().out
    assert "the trace that was imported does not hold all of them" in told and "ideal" not in told
    assert main(["inspect", str(out), "--html", str(page)]) == 0
    assert "does not hold all of them" in page.read_text() and "sealed box" not in page.read_text()
    capsys.readouterr()
    assert main(["replay", str(out)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f'the trace of another one ("{Listed.framework}")' in said and "secmoe diff" in said and "--seed" not in said
