"""Pages in a real Chromium: silent, offline, quick, usable by keyboard; a stranger's strings stay text.

Needs Debian's `chromium` and the extra `pages`; run by `make pages`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.concrete import from_words
from sim.message import Message
from sim.ring import Ring, Spec
from sim.role import CLIENT, Role
from sim.wire import encode
from sim.world import Execution
from tests.small_runs import keep_small
from tests.test_page import hostile_run
from transcripts.facts import Selection
from transcripts.page import write_page
from transcripts.record import Recorder
from transcripts.run_page import HEAD_BYTES, run_page
from transcripts.show import content_lines, hexdump
from transcripts.store import Transcript

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `pages`: make pages installs it")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.pages,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: apt-get install chromium"),
]

MANY = 10_000
LOAD_SECONDS = 2.0
ROOM = 5  # a busy machine may take that much longer; the limit itself is measured by hand


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root has no other way
        yield started
        started.close()


class Visit:
    """A page under observation: everything it says on the console and every request it makes."""

    def __init__(self, browser: Any, path: Path, scheme: str = "light") -> None:
        self.path, self.said, self.asked = path, list[str](), list[str]()
        self.page = browser.new_context(color_scheme=scheme, viewport={"width": 1200, "height": 900}).new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url.split("#")[0]))

    def go(self, hash: str = "") -> Any:
        self.page.goto(self.path.as_uri() + hash)
        return self.page

    def silent(self) -> None:
        """No console message, and no request but the page itself."""
        assert self.said == [] and set(self.asked) == {self.path.as_uri()}


def written(run: Path, view: Role | None = None) -> Path:
    page = run.with_suffix(".html")
    with Transcript(run) as transcript:
        write_page(page, run_page(Selection(transcript, view=view)))
    return page


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "x.secmoe"
    keep_small(path, runs=3, private=False)
    return written(path)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 10^4 messages of 512 bytes."""
    path = tmp_path_factory.mktemp("large") / "x.secmoe"
    words = np.random.default_rng(1).integers(0, 1 << 63, (MANY, 64), dtype=np.uint64)
    spec, messages = Spec(Ring(64), (64,)), []
    for i, (role, row) in enumerate(zip([*Role] * (MANY // 2), words, strict=True)):
        scope = f"r1/p/step{i // 20}"
        messages.append(Message(role, f"{scope}/word{i}", scope, 1 + i // 2, spec, row.tobytes()))
    with Recorder(path, {}, seeded=False) as recorder:
        recorder.add(Execution({}, tuple(sorted(messages, key=lambda m: m.order)), {}, {}, {}, "r1"))
        recorder.seal()
    return written(path)


def chosen(page: Any) -> str:
    """The heading of the detail."""
    heading: str = page.text_content("#detail h3") or ""
    return heading.split(":")[0]


def follow(page: Any, seq: int) -> None:
    """A deep link within the page."""
    page.evaluate(f"location.hash = '#m{seq}'")
    told(page, seq)


def told(page: Any, seq: int) -> None:
    """Wait for the detail of a message."""
    page.wait_for_function(f"document.querySelector('#detail h3').textContent.startsWith('message {seq}:')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_silent_and_offline_in_both_schemes(browser: Any, small: Path, scheme: str) -> None:
    visit = Visit(browser, small, scheme)
    page = visit.go()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(",")))
    assert (lightness > 600) == (scheme == "light") and (lightness < 150) == (scheme == "dark")
    assert page.locator("#verdict p").first.text_content().startswith("INTACT")
    assert page.locator("#list .row").count() > 10
    visit.silent()


def test_the_policy_is_in_force(browser: Any, small: Path) -> None:
    """The console is silent because nothing is tried: what is tried is refused."""
    visit = Visit(browser, small)
    page = visit.go()
    script = "Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'})"
    page.evaluate(f"document.body.append({script})")
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://localhost:9/x.png'}))")
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    assert len([text for text in visit.said if "Content Security Policy" in text]) == 2
    with pytest.raises(AssertionError):
        visit.silent()


def test_deep_links(browser: Any, small: Path) -> None:
    visit = Visit(browser, small)
    page = visit.go("#m17")
    assert chosen(page) == "message 17"
    assert page.locator("#row-17[aria-selected=true]").is_visible()
    page.click("#detail nav a:has-text('next')")
    told(page, 18)
    page.go_back()
    told(page, 17)
    for wrong in ("#m999999", "#m-1", "#mx", "#detail"):
        page.evaluate(f"location.hash = '{wrong}'")
    page.evaluate("location.hash = '#m999999'")
    page.wait_for_function("document.querySelector('#detail').textContent.includes('999999 is not in this page')")
    visit.silent()


def test_filter(browser: Any, small: Path) -> None:
    with Transcript(small.with_suffix(".secmoe")) as transcript:
        labels = [h.label for h in transcript.headers]
        clients = [h for h in transcript.headers if h.sender is CLIENT]
    visit = Visit(browser, small)
    page = visit.go("#m0")
    assert page.text_content("#count") == f"{len(labels)} of {len(labels)} messages"
    page.fill("#words", "R2/ masked.2")
    wanted = [label for label in labels if "r2/" in label and "masked.2" in label]
    assert page.text_content("#count") == f"{len(wanted)} of {len(labels)} messages"
    assert sorted(page.locator("#list .row").evaluate_all("rows => rows.map(r => r.title)")) == sorted(wanted)
    page.fill("#words", "twice/masked/bits")  # repeated calls are found without their number
    assert page.text_content("#count").startswith(f"{sum('bits' in label for label in labels)} of")
    page.fill("#words", "")
    page.select_option("#sender", "client")
    assert page.text_content("#count").startswith(f"{len(clients)} of")
    page.select_option("#phase", "setup")
    assert page.text_content("#count").startswith("1 of")
    follow(page, 12)  # a link to a message that the filter hides clears it
    assert page.text_content("#count").startswith(f"{len(labels)} of") and page.locator("#row-12").is_visible()
    page.click("summary")
    page.click("button.scope[data-scope='r1/twice/masked/']")
    assert page.text_content("#count").startswith(f"{sum(label.startswith('r1/twice/masked') for label in labels)} of")
    visit.silent()


def test_keyboard(browser: Any, small: Path) -> None:
    visit = Visit(browser, small)
    page = visit.go()
    page.focus("#list")
    keys = [("ArrowDown", 0), ("ArrowDown", 1), ("ArrowUp", 0), ("ArrowUp", 0), ("End", -1), ("Home", 0)]
    with Transcript(small.with_suffix(".secmoe")) as transcript:
        last = len(transcript.headers) - 1
    for key, seq in keys:
        page.keyboard.press(key)
        assert chosen(page) == f"message {last if seq < 0 else seq}"
        assert page.evaluate("location.hash") == f"#m{last if seq < 0 else seq}"
    page.keyboard.press("PageDown")
    assert int(chosen(page).removeprefix("message ")) > 5
    active = page.get_attribute("#list", "aria-activedescendant")
    assert page.locator(f"#{active}").is_visible()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "detail"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "words"
    page.keyboard.type("hello/")
    assert page.text_content("#count").startswith("0 of")
    page.keyboard.press("Escape")
    assert page.input_value("#words") == "" and page.evaluate("document.activeElement.id") == "list"
    reached = set()
    for _ in range(12):  # Tab reaches every control
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"words", "sender", "phase", "list", "SUMMARY"} <= reached
    visit.silent()


def test_a_message_is_shown_with_its_values_and_bytes(browser: Any, tmp_path: Path) -> None:
    """Ring arrays of many widths and lengths: the script decodes what the terminal shows."""
    rng, messages = np.random.default_rng(2), []
    for i, (l, size) in enumerate([(1, 40), (2, 3), (7, 16), (12, 17), (19, 1), (32, 0), (63, 16), (64, 100)]):
        array = from_words(Ring(l), rng.integers(0, 1 << 63, size, dtype=np.uint64) * np.uint64(2) + np.uint64(1))
        messages.append(Message(CLIENT, f"r1/p/{i}", "r1/p", 1 + i, array.spec, encode(array)))
    run = tmp_path / "x.secmoe"
    with Recorder(run, {}, seeded=False) as recorder:
        recorder.add(Execution({}, tuple(messages), {}, {}, {}, "r1"))
        recorder.seal()
    visit = Visit(browser, written(run))
    page = visit.go()
    with Transcript(run) as transcript:
        for header in transcript.headers:
            follow(page, header.seq)
            content = transcript.message(header).payload or b""
            assert page.text_content("#detail p") == content_lines(header, content, None)[0]
            shown = page.text_content("#detail pre") if content else ""
            assert shown == "\n".join(hexdump(content[:HEAD_BYTES]))
            assert header.digest.hex() in page.text_content("#detail")
            assert ("more bytes" in page.text_content("#detail")) == (len(content) > HEAD_BYTES)
    visit.silent()


def test_hostile_strings_stay_text(browser: Any, tmp_path: Path) -> None:
    run = hostile_run(tmp_path / "<b>x.secmoe")
    visit = Visit(browser, written(run))
    page = visit.go()
    with Transcript(run) as transcript:
        for header in transcript.headers:
            follow(page, header.seq)
            assert page.locator("#detail dd").first.text_content() == header.label
    assert page.title() == "<b>x.secmoe"
    assert page.locator("img, b, iframe").count() == 0 and page.locator("script").count() == 2
    visit.silent()


def test_ten_thousand_messages(browser: Any, large: Path, record_property: Any) -> None:
    """Loads at once, holds few rows, and reaches the last message."""
    visit = Visit(browser, large)
    started = time.monotonic()
    page = visit.go()
    page.wait_for_function("document.querySelectorAll('#list .row').length > 10")
    seconds = time.monotonic() - started
    record_property("seconds", seconds)
    print(f"{MANY} messages, {large.stat().st_size:,} bytes: {seconds:.2f} s")
    assert seconds < ROOM * LOAD_SECONDS
    assert page.text_content("#count") == "10,000 of 10,000 messages"
    page.focus("#list")
    page.keyboard.press("End")
    assert chosen(page) == f"message {MANY - 1}" and page.locator(f"#row-{MANY - 1}").is_visible()
    assert page.locator("#list .row").count() < 100
    page.fill("#words", "step77/")
    assert page.text_content("#count") == "20 of 10,000 messages"
    visit.silent()
