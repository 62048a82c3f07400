"""Tutorials. Every block of them is executed by the test suite.

1. `guide.secure_maximum`: a protocol from nothing, leaked once on purpose, and who catches it.
2. `guide.from_a_paper`: a published protocol, ported from its paper's figure.
3. `guide.expert_selection`: another idea of selecting experts, beside SecMoE's.

The names they import are in `secmoe.api`.
"""

from __future__ import annotations

import re
from pathlib import Path

TUTORIALS = Path(__file__).parents[1] / "tutorials"
_BLOCK = re.compile(r"^```(\w+)[^\n]*$", re.MULTILINE)


def text_of(name: str) -> str:
    """The Markdown of a tutorial; what its blocks tell the test suite is left out."""
    return _BLOCK.sub(r"```\1", (TUTORIALS / name).read_text(encoding="utf-8"))
