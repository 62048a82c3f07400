"""Pages are whole in one file, run only their own script, and keep every stranger's string text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secmoe.cli import main
from sim.message import Message
from sim.role import CLIENT, SERVER, Role
from sim.wire import BlobSpec
from sim.world import Execution
from tests.small_runs import keep_small
from transcripts.facts import Selection
from transcripts.page import PageError, checked_page, render, write_page
from transcripts.record import Recorder
from transcripts.run_page import run_page
from transcripts.store import Transcript

HOSTILE = (
    "</script><script>document.title='broken'</script>",
    "<img src=x onerror=\"document.title='broken'\">",
    "--></style><b>bold</b>",
    "{{ 7 * 7 }}{% raw %}",
    "'\"&<>`\u2028\u202e\ud800",
)


class Elements(HTMLParser):
    """Start tags with their attributes, and the text of inline scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag in self.inline:
            self.inline[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.inline:
            self.inline[self._open][-1] += data
        else:
            self.text += data


def hostile_run(path: Path) -> Path:
    """A sealed run whose public values, labels and kinds are hostile (and printable, which the store insists on)."""
    printable = [word for word in (word.encode("ascii", "ignore").decode() for word in HOSTILE) if word.isprintable()]
    messages = [
        Message(CLIENT, f"r1/{label}/x{i}", f"r1/{label}", 1 + i, BlobSpec(label, 20), label.encode()[:20].ljust(20))
        for i, label in enumerate(printable)
    ]
    with Recorder(path, {f"key {word}": [word] for word in HOSTILE}, seeded=True) as recorder:
        recorder.add(Execution({}, tuple(messages), {}, {}, {}, "r1"))
        recorder.seal()
    assert len(messages) >= 4
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_run(tmp_path_factory.mktemp("kept") / "<b>x.secmoe")


def page_of(path: Path, view: Role | None = None) -> str:
    with Transcript(path) as transcript:
        return run_page(Selection(transcript, view=view), None, [("warn", "NOT CHECKED")])


def policy_of(elements: Elements) -> dict[str, list[str]]:
    (content,) = (a["content"] for t, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    return {name: sources for name, *sources in (part.split() for part in str(content).split(";"))}


def test_the_policy_admits_the_pages_own_script_and_style_alone(hostile: Path) -> None:
    elements = Elements(page_of(hostile))
    policy = policy_of(elements)
    assert policy["default-src"] == ["'none'"]
    assert set(policy) == {"default-src", "script-src", "style-src", "base-uri", "form-action"}
    for kind, text in (("script-src", elements.inline["script"][1]), ("style-src", elements.inline["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[kind] == [f"'sha256-{digest}'"]
    assert len(elements.inline["style"]) == 1 and len(elements.inline["script"]) == 2
    place = [tag for tag, attributes in elements.tags].index("meta")
    assert all("http-equiv" not in a for t, a in elements.tags[:place])


@pytest.mark.parametrize("view", [None, *Role])
def test_nothing_is_loaded_and_nothing_is_inline(hostile: Path, view: Role | None) -> None:
    elements = Elements(page_of(hostile, view))
    for _, attributes in elements.tags:
        assert not attributes.keys() & {"src", "href", "style", "action", "srcset", "data"}
        assert not [name for name in attributes if name.startswith("on")]
    assert not {t for t, _ in elements.tags} & {"img", "link", "iframe", "object", "embed", "base", "b", "video"}
    own = "".join(elements.inline["style"] + elements.inline["script"][1:])
    assert "url(" not in own and "@import" not in own and "innerHTML" not in own and "eval(" not in own
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", own)


def test_hostile_strings_stay_text(hostile: Path) -> None:
    elements = Elements(page_of(hostile))
    payload = json.loads(elements.inline["script"][0])
    with Transcript(hostile) as transcript:
        assert [m["label"] for m in payload["messages"]] == [h.label for h in transcript.headers]
        for name, value in transcript.public.items():
            assert json.dumps(value) in elements.text and (name.isascii() is False or name in elements.text)


PLAIN = {
    "name": "x",
    "facts": {"created": "now", "view_digest": "00"},
    "view": "client",
    "most": {},
    **{name: [] for name in ("public", "verdicts", "phases", "costs", "networks")},
    **dict.fromkeys(("caveat", "scope"), ""),
}


LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(HOSTILE)


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3)))
@example([*HOSTILE])
def test_a_payload_is_what_was_given(payload: Any) -> None:
    (found, _) = Elements(render("run", PLAIN, payload)).inline["script"]
    assert json.loads(found) == payload and not set(found) & set("<>&")


@given(st.text() | st.sampled_from(HOSTILE))
def test_a_value_stays_text(value: str) -> None:
    elements, plain = (Elements(render("run", PLAIN | {"caveat": v, "scope": v})) for v in (value, ""))
    assert [t for t, _ in elements.tags if t != "code"] == [t for t, _ in plain.tags if t != "code"]


def test_the_page_shows_what_the_run_is(tmp_path: Path) -> None:
    path = tmp_path / "x.secmoe"
    keep_small(path, private=False)
    text = Elements(page_of(path)).text
    with Transcript(path) as transcript:
        digests = (transcript.seal.hex(), transcript.chain.hex())
        for wanted in ("INTACT", "NOT CHECKED", "SEEDED", "setup", "twice", *digests):
            assert wanted in text
    assert text.index("INTACT") < text.index("Cost") < text.index("Messages") < text.index("Public parameters")
    assert str(tmp_path) not in page_of(path)


@pytest.mark.parametrize("view", Role)
def test_a_view_holds_no_message_of_its_own_party(tmp_path: Path, view: Role) -> None:
    path = tmp_path / "x.secmoe"
    keep_small(path, private=False)
    page = page_of(path, view)
    payload = json.loads(Elements(page).inline["script"][0])
    assert {m["sender"] for m in payload["messages"]} == {view.peer.value}
    with Transcript(path) as transcript:
        own = [h for h in transcript.headers if h.sender is view]
        assert not [h.digest.hex() for h in own if h.digest.hex() in page]
        assert transcript.chain.hex() not in page and transcript.seal.hex() not in page


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    path = tmp_path / "x.secmoe"
    with Recorder(path, {}, seeded=False) as recorder:
        recorder.seal()
    assert "all 0 messages" in page_of(path)


@pytest.mark.parametrize("name", ["x", "x.htm", "x.secmoe", "missing/x.html", "taken.html"])
def test_unusable_places(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken.html").write_text("mine")
    with pytest.raises(PageError, match=r"expected a file name|no folder|never overwritten"):
        write_page(tmp_path / name, "page")
    assert (tmp_path / "taken.html").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    assert write_page(tmp_path / "x.html", "a\ud800b") == len((tmp_path / "x.html").read_bytes())
    monkeypatch.setattr("transcripts.page.os.fsync", full)
    with pytest.raises(PageError, match="No space left"):
        write_page(tmp_path / "y.html", "page")
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]
    assert checked_page(tmp_path / "y.html").name == "y.html"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, page = tmp_path / "x.secmoe", tmp_path / "x.html"
    keep_small(path, private=False)
    assert main(["inspect", str(path), "--html", str(page), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"html": str(page), "bytes": page.stat().st_size, "messages": 12}
    assert main(["inspect", str(path), "--html", str(page)]) == 2
    assert "never overwritten" in capsys.readouterr().err
    page.unlink()
    assert main(["inspect", str(path), "--view", "server", "--html", str(page)]) == 0
    assert "messages" in capsys.readouterr().out and SERVER.value in page.read_text()


def test_templates_are_package_data() -> None:
    shipped = {entry.name for entry in (files("transcripts") / "pages").iterdir()}
    assert {"base.html", "base.css", "base.js", "parts.html", "run.html", "run.css", "run.js"} <= shipped
