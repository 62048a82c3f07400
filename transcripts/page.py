"""Offline pages: one HTML file each, with a policy that lets it load nothing and run only its own script.

A page is a template in `transcripts/pages` that extends `base.html` (blocks: title, heading, verdict, content). Style
and script are inline, `base.css` and `base.js` followed by the template's own `NAME.css` and `NAME.js` where there are
such, and named in the policy by their hashes. Values in templates are escaped; a payload is JSON in which no character
can end the script element, so that labels and parameters of a stranger's file stay text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from transcripts.place import new_place

SUFFIX = ".html"
PAGES = files("transcripts") / "pages"
# In JSON these can stand inside strings only, where an escape says the same.
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class PageError(ValueError):
    """The place for a page cannot be used."""


def render(template: str, values: Mapping[str, Any], payload: Any = None) -> str:
    """The page of `transcripts/pages/TEMPLATE.html`.

    values: the template's variables, escaped where they are printed. payload: a JSON value for the page's script, in
    the element `#data`. Infinities and NaN are no JSON: ValueError.
    """
    style, script = _inline(template, ".css"), _inline(template, ".js")
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    text = json.dumps(payload, separators=(",", ":"), allow_nan=False)
    for character, escape in ESCAPES.items():
        text = text.replace(character, escape)
    page = _environment().get_template(f"{template}.html")
    inline = {"policy": policy, "style": Markup(style), "script": Markup(script), "payload": Markup(text)}
    return page.render(**values, **inline)


def checked_page(path: str | Path) -> Path:
    """A place for a new page. Raises PageError."""
    return new_place(path, (SUFFIX,), "report", "page", PageError)


def write_page(path: str | Path, page: str) -> int:
    """Write a page, whole or not at all; returns its bytes. Raises PageError."""
    path = checked_page(path)
    data = page.encode("utf-8", "xmlcharrefreplace")
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise PageError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
        raise
    return len(data)


def _inline(template: str, suffix: str) -> str:
    """The base's style or script and the template's own."""
    own = PAGES / f"{template}{suffix}"
    return (PAGES / f"base{suffix}").read_text("utf-8") + (own.read_text("utf-8") if own.is_file() else "")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(lambda name: (PAGES / name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
