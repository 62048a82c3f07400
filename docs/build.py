"""The reference pages: `python docs/build.py FOLDER` writes one HTML page per module, and the tutorials.

The pages are made by pdoc from docstrings and signatures; they need no network. What is covered: the four packages, and
of the command's package the public names.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = (
    "secmoe.api", "secmoe.strategies", "secmoe.pytest_plugin", "sim", "protocols", "!protocols.model.training",
    "proofs",
    "transcripts", str(ROOT / "docs" / "guide"),
)  # fmt: skip
FOOTER = "Made from docstrings; the README of the repository says how to run what is described here."


def build(folder: Path, modules: Sequence[str] = MODULES) -> None:
    """Write the pages of these modules, and a search page over them, into a folder."""
    import pdoc
    import pdoc.render

    pdoc.render.configure(docformat="markdown", show_source=False, footer_text=FOOTER)
    with warnings.catch_warnings():
        # Names that a module imports for its type checker only are shown as they are written.
        warnings.filterwarnings("ignore", "Error parsing type annotation")
        pdoc.pdoc(*modules, output_directory=folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
