"""What a notebook shows of an execution and of an audit: complete, escaped, offline, small; and no secret."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.concrete import to_words
from sim.message import Message
from sim.role import CLIENT, SERVER
from sim.wire import BlobSpec
from sim.world import Execution
from tests.small_runs import run_small
from transcripts.display import COLOURS, ROWS, NothingToShow, Shown, show
from transcripts.sampling import HYBRID, Sampler
from transcripts.targets import Target
from transcripts.verdicts import LEAK, NO_LEAK, Audited, Examined, Suspect, Verdict

TAGS = {"div", "p", "strong", "table", "caption", "thead", "tbody", "tr", "th", "td"}


class Reader(HTMLParser):
    """Elements in balance, their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        self.open.append(tag)
        self.attributes += attrs
        self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.cells[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError("a declaration")


def read(shown: Shown) -> Reader:
    reader = Reader(shown._repr_html_())
    assert {name for name, _ in reader.attributes} <= {"style", "scope"}  # nothing is loaded, nothing runs
    styles = {f"color:{colour};margin:0" for colour in COLOURS.values()} | {"text-align:left", "text-align:right"}
    assert {value for name, value in reader.attributes if name == "style"} <= styles
    assert "".join(reader.cells).isprintable() and all(line.isprintable() for line in repr(shown).split("\n"))
    return reader


@pytest.fixture(scope="module")
def execution() -> Execution:
    return run_small({CLIENT: np.arange(5), SERVER: np.arange(5) * 700})[1][1]


def verdict(kind: str = NO_LEAK, secret: str = "1 shared value", label: str = "r1/mul/eps") -> Verdict:
    sampler = Sampler(Target("mul", "64"), CLIENT, HYBRID, "1")
    suspect = Suspect("fixed against fixed", "words", 3, label, "mean", 0.5, 1e-9)
    examined = Examined(sampler, 400, (suspect,), 12, 12, 0.4, (2, 2))
    return Verdict(kind, examined, secret, 12, 1e-3, 0.3, suspect if kind == LEAK else None, 1e-8, 0, (4, 5))


def test_an_execution_is_told_in_figures(execution: Execution) -> None:
    cells = read(show(execution)).cells
    cost = execution.cost
    assert f"execution {execution.prefix}" in cells and f"digest {execution.digest}" in cells
    assert any(f"{cost.messages} messages, {cost.rounds} rounds" in cell for cell in cells)
    assert [message.label for message in execution.messages] == [
        cell for cell in cells if cell.startswith("r1/twice/")
    ][-len(execution.messages) :]
    total = sum(message.nbytes for message in execution.messages if message.sender is CLIENT)
    assert f"{total:,}" in cells and f"{total:,}" in repr(show(execution))


def test_no_value_of_an_output_or_a_message_is_shown(execution: Execution) -> None:
    page = show(execution)._repr_html_() + repr(show(execution))
    for output in execution.outputs.values():
        assert not any(f" {word:,}" in page or f"{word:#x}" in page for word in to_words(output).tolist() if word > 99)
    long = [m.payload for m in execution.messages if m.payload is not None and len(m.payload) >= 8]
    assert long and not any(payload.hex() in page for payload in long)  # a byte or two stand in a page by chance


def test_long_runs_are_cut_with_a_word(execution: Execution) -> None:
    many = tuple(
        Message(CLIENT, f"r1/scope{i}/word", f"r1/scope{i}", 1, BlobSpec("key", 8), bytes(8)) for i in range(3000)
    )
    shown = show(replace(execution, messages=many, cpu_by_scope={}))
    cells = read(shown).cells
    assert cells.count(f"... {3000 - ROWS:,} more") == 1 and f"... {3001 - ROWS:,} more" in cells
    assert len(shown._repr_html_()) < 40_000


def test_an_audit_is_told_with_its_verdicts() -> None:
    shown = show(Audited((verdict(), verdict(LEAK)), 24, 1e-3))
    cells = read(shown).cells
    assert [text for tone, text in shown.lines if tone == "bad"] == [str(verdict(LEAK))]
    assert {str(verdict()), str(verdict(LEAK)), "mul: 64", "4 of 5", "400", NO_LEAK, LEAK} <= set(cells)
    assert "it is no proof" in "".join(cells)
    assert read(show(verdict())).cells[3] == str(verdict())


def test_other_things_have_no_display() -> None:
    with pytest.raises(NothingToShow, match="expected an Execution, an Audited or a Verdict, got int"):
        show(3)


hostile = st.text() | st.sampled_from(
    [
        "<script>alert(1)</script>",
        "</td></table><img src=x onerror=alert(1)>",
        '" style="x',
        "\ud800",
        "\0",
        "\u202e",
        "&lt;",
    ]
)


@given(hostile)
def test_hostile_texts_stay_text(text: str) -> None:
    told = text.encode("utf-8", "replace").decode()  # what a label can be: it is digested
    message = Message(SERVER, f"r1/{told}/word", f"r1/{told}", 1, BlobSpec(told, 8), None)
    run = Execution({}, (message,), {(CLIENT, f"r1/{told}"): 0.5}, {}, {}, text)
    shown = Shown(text, [("bad", text)], show(run).grids)
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    assert read(shown).cells[2:4] == [plain, plain]
    read(show(Audited((verdict(LEAK, text, text),), 12, 1e-3)))
