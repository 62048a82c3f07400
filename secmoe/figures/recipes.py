"""Which commands make which figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from secmoe.exit import FAILED, SUCCESS
from secmoe.figures.audits import COMMANDS, read_audit

TEXT = "Free entry in a weekly competition, text WIN now"
TRANSCRIPT = ("--out", "RUN.secmoe")
# What a command tells of every single item, or of the place where a run was kept.
LEFT_OUT = ("numbers", "layers_cost", "operators_cost", "transcript", "transcript_digest", "seal", "checked_by")


def _json(text: str) -> Any:
    found = json.loads(text)
    return {name: value for name, value in found.items() if name not in LEFT_OUT}


def _lines(text: str) -> Any:
    return {"lines": text.splitlines()}


@dataclass(frozen=True)
class Recipe:
    """commands: as one types them, without what only tells them to print JSON: `quiet`. long: takes more than some
    minutes. read: what is kept of what a command prints. apart: every command is measured, dated and kept alone, and
    keeps what it has finished in a file, so that an interrupted one goes on. ends: exit statuses of one that has run.
    """

    commands: tuple[str, ...]
    quiet: tuple[str, ...] = ("--json",)
    long: bool = False
    read: Callable[[str], Any] = _json
    apart: bool = False
    ends: tuple[int, ...] = (SUCCESS,)


def _models() -> tuple[str, ...]:
    text = f'secmoe run "{TEXT}"'
    sms = (text, f"{text} --pad 18", f"{text} --pad 39", f"{text} --pad 18 --params P64tiny")
    return *sms, "secmoe run --model digits --input 0"


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "run": Recipe((f'secmoe run "{TEXT}"',), TRANSCRIPT, read=_lines),
        "bench": Recipe(("secmoe bench",)),
        "layers": Recipe(("secmoe bench --table layers",)),
        "blocks": Recipe(("secmoe bench --table blocks",)),
        "experts": Recipe(("secmoe bench --table experts",)),
        "extension": Recipe(("secmoe bench --table extension",)),
        "models": Recipe(_models()),
        "capacity": Recipe(
            tuple(f"python -m protocols.model.evaluate {model} --capacity" for model in ("sms", "digits")), (), True
        ),
        "evaluate": Recipe(tuple(f"secmoe evaluate --model {model} --n 200" for model in ("sms", "digits")), long=True),
        "attack": Recipe(
            (
                "secmoe attack --model digits",
                "secmoe attack --model digits --seed 2",
                "secmoe attack --model sms",
            ),
            long=True,
        ),
        # A verdict that is not NO LEAK FOUND is a figure, too.
        "audits": Recipe(
            COMMANDS,
            ("--json", "--workers", "1"),
            long=True,
            read=read_audit,
            apart=True,
            ends=(SUCCESS, FAILED),
        ),
    }
)
