"""The leakage report in a real Chromium: silent, offline, and a stranger's strings stay text. Run by `make pages`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from secmoe.checked import Store
from secmoe.leakage import run_report
from secmoe.shaped import row_of
from sim.role import Role
from tests.report_runs import TINY, keep
from tests.test_page import HOSTILE
from tests.test_pages import Visit, browser, pytestmark
from tests.test_report import verdict
from transcripts.page import write_page
from transcripts.report import report_page
from transcripts.store import Transcript

__all__ = ["browser", "pytestmark"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_silent_offline_and_keeps_strings_text(browser: Any, tmp_path: Path, scheme: str) -> None:
    store, (entry, case) = Store(tmp_path / "checked"), row_of(TINY)
    for i, word in enumerate(HOSTILE):
        line = verdict(Role.CLIENT, line=word, secret=word, faults={"found": [word], "missed": [word]})
        store.keep_audit(entry.name, case.name, line, f"{word} {i}")
    with Transcript(keep(tmp_path / "<b>x.secmoe", **{f"key {word}": word for word in HOSTILE})) as transcript:
        write_page(tmp_path / "x.html", report_page(run_report(transcript, store)))
    visit = Visit(browser, tmp_path / "x.html", scheme)
    page = visit.go()
    assert page.title() == "<b>x.secmoe: leakage report"
    assert "NOT CHECKED" in page.inner_text("#verdict")
    assert page.locator("main img, main b, main script").count() == 0
    visit.silent()
