"""`secmoe inspect --sql` answers SELECTs and nothing else, within limits, and from the selection alone."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest

from secmoe.cli import main
from sim.role import CLIENT, SERVER, Role
from tests.small_runs import keep_small
from transcripts import sql
from transcripts.facts import Selection
from transcripts.sql import SqlRefused, query
from transcripts.store import Transcript


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "small.secmoe"
    keep_small(path)
    return path


def test_the_answer_is_that_of_the_file(kept: Path) -> None:
    columns = "seq, label, sender, hex(digest), content"
    text = f"SELECT {columns} FROM message JOIN payload ON payload.id = payload ORDER BY seq"
    with Transcript(kept) as transcript:
        answer = query(Selection(transcript), text)
        assert answer.columns == ["seq", "label", "sender", "hex(digest)", "content"] and not answer.more
        for header, found in zip(transcript.headers, answer.rows, strict=True):
            content = transcript.message(header).payload
            assert content is not None
            named = [header.seq, header.label, header.sender.value, header.digest.hex().upper(), content.hex()]
            assert found == named


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1, 2.5, 'x', NULL, X'00ff', 9e999", [[1, 2.5, "x", None, "00ff", "inf"]]),
        ("SELECT CAST(X'ff41' AS TEXT)", [["�A"]]),
        ("SELECT value FROM json_each('[3, 4]')", [[3], [4]]),
        ("SELECT count(*) FROM (SELECT DISTINCT phase FROM message)", [[2]]),
        ("WITH s AS (SELECT seeded FROM run) SELECT seeded FROM s", [[1]]),
        ("SELECT name FROM sqlite_schema ORDER BY 1", [["message"], ["payload"], ["run"]]),
    ],
)
def test_values(kept: Path, text: str, expected: list[list[object]]) -> None:
    with Transcript(kept) as transcript:
        assert query(Selection(transcript), text).rows == expected


@pytest.mark.parametrize("view", [None, CLIENT])
@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM message",
        "UPDATE run SET public = '{}'",
        "INSERT INTO payload VALUES (9, X'00')",
        "DROP TABLE run",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "ATTACH ':memory:' AS other",
        "VACUUM INTO '{folder}/copy'",
        "PRAGMA query_only = OFF",
        "PRAGMA page_count",
        "SELECT * FROM pragma_table_info('run')",
        "SELECT load_extension('x')",
        "SELECT * FROM sqlite_temp_schema",
        "BEGIN",
        "SELECT 1; SELECT 2",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT * FROM r",
        "SELECT",
        "",
        "-- nothing",
        "SELECT 1\0",
        "SELECT nothing FROM message",
        "SELECT ?",
        "SELECT zeroblob(1 << 30)",
        "SELECT length(zeroblob(1 << 29))",
        "EXPLAIN DELETE FROM message",
    ],
)
def test_everything_else_is_refused(kept: Path, tmp_path: Path, text: str, view: Role | None) -> None:
    before = kept.read_bytes()
    with Transcript(kept) as transcript, pytest.raises(SqlRefused) as raised:
        query(Selection(transcript, view=view), text.replace("{folder}", str(tmp_path)))
    assert "--sql: " in str(raised.value)
    assert kept.read_bytes() == before
    assert list(tmp_path.iterdir()) == [] and len(list(kept.parent.iterdir())) == 3  # the run and its private sides


def test_unsafe_functions_are_not_authorised(kept: Path) -> None:
    with Transcript(kept) as transcript, pytest.raises(SqlRefused, match="to use function: load_extension"):
        query(Selection(transcript), "SELECT load_extension('x')")


def test_limits(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cross = "FROM message a, message b, message c, message d, message e, message f, message g, message h"
    with Transcript(kept) as transcript:
        selection = Selection(transcript)
        answer = query(selection, f"SELECT 1 {cross}", rows=7)
        assert len(answer.rows) == 7 and answer.more
        started = time.monotonic()
        with pytest.raises(SqlRefused, match=r"within 0\.2 s"):
            query(selection, f"SELECT count(*) {cross}", seconds=0.2)
        assert time.monotonic() - started < 5
        monkeypatch.setattr(sql, "BYTES", 1000)
        with pytest.raises(SqlRefused, match="at most"):
            query(selection, "SELECT hex(zeroblob(60)) FROM message")


@pytest.mark.parametrize("view", Role)
@pytest.mark.parametrize("table", ["message", "main.message"])
def test_a_view_holds_what_the_party_receives(kept: Path, view: Role, table: str) -> None:
    with Transcript(kept) as transcript:
        selection = Selection(transcript, view=view)
        own = (transcript.message(h).payload or b"" for h in transcript.headers if h.sender is view)
        mine = {content for content in own if len(content) > 4}  # a few bits may well be the same
        assert query(selection, f"SELECT DISTINCT sender FROM {table}").rows == [[view.peer.value]]
        contents = {bytes.fromhex(content) for (content,) in query(selection, "SELECT content FROM payload").rows}
        assert contents == {transcript.message(h).payload for h in selection.headers} and not contents & mine
        told = json.dumps(query(selection, "SELECT * FROM run").rows)
        assert transcript.chain.hex() not in told and transcript.seal.hex() not in told and "cpu" not in told
        with pytest.raises(SqlRefused):
            query(selection, "SELECT chain FROM message")


def test_a_scope_holds_its_messages(kept: Path) -> None:
    with Transcript(kept) as transcript:
        selection = Selection(transcript, "r1/twice/masked.2")
        found = query(selection, "SELECT scope, count(*) FROM message GROUP BY 1").rows
        assert found == [["r1/twice/masked.2", len(selection.headers)]]


def test_one_content_row_for_two_messages(tmp_path: Path) -> None:
    """Two messages of equal content may share its row; a selection copies it once."""
    path = tmp_path / "x.secmoe"
    keep_small(path)
    with Transcript(path) as transcript:
        selection = Selection(transcript, view=SERVER)
        doubled = [h.payload for h in selection.headers]
        object.__setattr__(selection.headers[1], "payload", doubled[0])
        assert query(selection, "SELECT count(*) FROM payload").rows == [[len(doubled) - 1]]


def test_the_command(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(kept), "--sql", "SELECT 1 AS one, char(27) || 'x' AS two, NULL"]) == 0
    table = capsys.readouterr().out
    assert "one" in table and "\\x1bx" in table and "NULL" in table and "1 rows" in table
    assert main(["inspect", str(kept), "--sql", "SELECT hex(zeroblob(99))"]) == 0
    assert "198 characters" in capsys.readouterr().out
    assert main(["inspect", str(kept), "--json", "--sql", "SELECT count(*) FROM message"]) == 0
    with sqlite3.connect(kept) as connection:
        count = connection.execute("SELECT count(*) FROM message").fetchone()[0]
    connection.close()
    assert json.loads(capsys.readouterr().out) == {"columns": ["count(*)"], "rows": [[count]], "more": False}
    assert main(["inspect", str(kept), "--sql", "DELETE FROM run"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and "not authorized" in told.err
