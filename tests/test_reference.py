"""The reference pages and what they are made of: documented names, links that lead somewhere, commands that parse."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any
from urllib.parse import unquote

import pytest

import secmoe.api
import secmoe.pytest_plugin
import secmoe.strategies
from secmoe.options import command_line
from sim.party import ProtocolDecl
from tests.test_citations import references, tags_of

ROOT = Path(__file__).parents[1]
PUBLIC = (secmoe.api, secmoe.strategies, secmoe.pytest_plugin)
NAMES = [(module, name) for module in PUBLIC for name in module.__all__]
README = (ROOT / "README.md").read_text(encoding="utf-8")


# -- public names --------------------------------------------------------------------------------------------------
def own(value: Any) -> Any:
    """What bears docstring and signature of a public name: of a protocol its text."""
    return value.run if isinstance(value, ProtocolDecl) else value


def documented(value: Any) -> bool:
    """Whether a name has a docstring of its own, with a sentence in it. A constant has none."""
    found = own(value)
    if isinstance(found, GenericAlias):
        return True
    if not (inspect.isroutine(found) or inspect.isclass(found) or isinstance(found, ModuleType)):
        return found.__doc__ != "" and not callable(found)
    text = vars(found).get("__doc__") if inspect.isclass(found) else found.__doc__
    return bool(text) and len(text) > 20 and not text.startswith(f"{getattr(found, '__name__', '')}(")


def unannotated(value: Any) -> list[str]:
    """Parameters and results without an annotation, of a function or of a class's public methods."""
    found = own(value)
    if inspect.isclass(found):
        methods = [(n, m) for n, m in vars(found).items() if inspect.isfunction(m) and not n.startswith("_")]
        return [f"{name}: {missing}" for name, method in methods for missing in unannotated(method)]
    if not inspect.isroutine(found):
        return []
    signature = inspect.signature(inspect.unwrap(found))
    missing = [
        p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")
    ]
    return missing + (["return"] if signature.return_annotation is signature.empty else [])


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{m.__name__}.{n}" for m, n in NAMES])
def test_every_public_name_is_documented_and_annotated(module: ModuleType, name: str) -> None:
    value = getattr(module, name)
    assert documented(value), f"{name} has no docstring"
    assert not unannotated(value), f"{name}: {unannotated(value)}"
    unknown = set(tags_of(inspect.getdoc(own(value)) or "", cited=False)) - set(references(README))
    assert not unknown, f"{name} cites {unknown}"


def test_public_names_are_sorted_and_there() -> None:
    for module in PUBLIC:
        assert len(set(module.__all__)) == len(module.__all__)
        imported = {name for name, value in vars(module).items() if not name.startswith("_") and not _foreign(value)}
        assert set(module.__all__) <= imported


def _foreign(value: Any) -> bool:
    return isinstance(value, ModuleType) or type(value).__module__ == "__future__"


def test_protocols_say_what_they_realise_and_cost() -> None:
    declared = [v for _, name in NAMES if isinstance(v := getattr(secmoe.api, name, None), ProtocolDecl)]
    assert len(declared) > 10
    for protocol in declared:
        assert protocol.realises is not None, protocol.name


class Nothing:
    def method(self, x, y: int):  # type: ignore[no-untyped-def]  # what the check must see
        pass


def test_a_bare_name_is_seen() -> None:
    assert not documented(Nothing) and not documented(Nothing.method)
    assert unannotated(Nothing) == ["method: x", "method: return"]


# -- documents -----------------------------------------------------------------------------------------------------
DOCUMENTS = [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
KEPT_INSIDE = {"training", "broken", "limits"}  # an extra; packages with an `__all__` of their own
COMMAND = re.compile(r"`(secmoe [^`\n]+)`|^\$ (secmoe .+)$", re.MULTILINE)
PLACEHOLDER: Mapping[str, str] = {
    "N": "1",
    "L": "64",
    "I": "0",
    "R": "1",
    "P": "7433",
    "S": "r1",
    "ADDRESS": "tcp://x:1",
}


def anchors(text: str) -> set[str]:
    """The anchors of a Markdown document's headings."""
    words = (
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    )
    return set(words)


def broken_links(path: Path) -> Iterator[str]:
    """Links of a document that lead to no file, or to no heading of one."""
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"(?<!`)\[[^\]\n]+\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if target.startswith("https://"):
            continue
        there = path.parent / file if file else path
        if not there.exists() or (anchor and anchor not in anchors(there.read_text(encoding="utf-8"))):
            yield target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_documents_lead_somewhere(path: Path) -> None:
    assert not list(broken_links(path))


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One two\n[a](#one-two) [b](#none) [c](none.md) [d](a.md#none) [e](https://x)\n")
    assert list(broken_links(tmp_path / "a.md")) == ["#none", "none.md", "a.md#none"]


def told_commands(text: str) -> list[list[str]]:
    """The words of every command of a document that is written out: one with `[...]` in it is a synopsis."""
    found = (inline or block for inline, block in COMMAND.findall(text))
    return [shlex.split(line) for line in found if not re.search(r"\[|\.\.\.|\\$", line)]


def parses(words: list[str]) -> bool:
    """Whether the real parser takes a command line, placeholders being replaced by values of their kind."""
    try:
        command_line().parse_args([PLACEHOLDER.get(word, word) for word in words[1:]])
    except SystemExit as end:
        return end.code == 0
    return True


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_documents_parse(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name of a command alone (`secmoe audit`) is a way to speak of it."""
    commands = [words for words in told_commands(path.read_text(encoding="utf-8")) if len(words) > 2]
    assert [words for words in commands if not parses(words)] == []


def test_commands_are_seen_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    text = "`secmoe run TEXT [--pad N]` `secmoe prove mux --map`\n$ secmoe inspect a.secmoe --none\n"
    assert [parses(words) for words in told_commands(text)] == [True, False]
    assert len(told_commands(README)) > 20


# -- pages ---------------------------------------------------------------------------------------------------------
class Page(HTMLParser):
    """The places that a page links to, the anchors it has, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value or "")
            elif name == "href" and tag == "a":
                self.links.append(value or "")
            elif name in ("href", "src"):
                self.loads.append(value or "")


def dead_links(site: Path) -> list[str]:
    """Links and resources of all pages of a folder that lead to no file or anchor in it, or need the network."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    dead = []
    for path, page in pages.items():
        for target in (*page.links, *page.loads):
            outside = re.match(r"[a-z]+:|//", target)
            file, _, anchor = target.partition("#")
            there = (path.parent / unquote(file)).resolve() if file else path
            known = there in pages and (not anchor or unquote(anchor) in pages[there].anchors)
            own = target.startswith("https://") if target in page.links else target.startswith("data:image/svg+xml,")
            fine = own if outside else known or _is_script(there, anchor)
            if not fine:
                dead.append(f"{path.relative_to(site)}: {target}")
    return dead


def _is_script(path: Path, anchor: str) -> bool:
    return path.suffix == ".js" and path.is_file() and not anchor


def built(folder: Path, *modules: str) -> Path:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "build.py")
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    maker.build(folder, modules or maker.MODULES)
    return folder.resolve()


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<p id="x"><a href="#x">1</a><a href="#y">2</a><a href="b.html">3</a><a href="a.html#x">'
    )
    (tmp_path / "c.html").write_text(
        '<script src="https://x/y.js"></script><a href="https://x">4</a><a href="javascript:x">'
    )
    dead = ["a.html: #y", "a.html: b.html", "c.html: javascript:x", "c.html: https://x/y.js"]
    assert dead_links(tmp_path.resolve()) == dead


@pytest.mark.slow
def test_pages_of_the_public_names(tmp_path: Path) -> None:
    """Every public name has its place on the page, every tutorial its text; nothing needs the network."""
    pytest.importorskip("pdoc", reason="the pages need pdoc")
    site = built(tmp_path, "secmoe.api", str(ROOT / "docs" / "guide"))
    page = Page((site / "secmoe" / "api.html").read_text(encoding="utf-8"))
    assert set(secmoe.api.__all__) <= page.anchors
    assert dead_links(site) == []
    tutorials = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
    titles = [path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for path in tutorials]
    pages = "".join(path.read_text(encoding="utf-8") for path in (site / "guide").glob("*.html"))
    assert titles and all(f">{title}</h1>" in pages for title in titles)


@pytest.mark.nightly
def test_all_pages(tmp_path: Path) -> None:
    """The pages that `make docs` writes: a page for every module, and no link that leads nowhere."""
    pytest.importorskip("pdoc", reason="the pages need pdoc")
    site = built(tmp_path)
    assert dead_links(site) == []
    for package in ("sim", "protocols", "proofs", "transcripts"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).with_suffix("")
            page = site / (name.parent if name.name == "__init__" else name).with_suffix(".html")
            assert page.is_file() or KEPT_INSIDE & set(name.parts), page
