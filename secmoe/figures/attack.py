"""The tables of what a leaked route is worth, and of the accuracy of private models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from secmoe.figures.kept import Figure
from secmoe.figures.markdown import markdown_table

QUESTIONS = ("label", "token")
NAMES = {
    "plaintext-routing": "plaintext routing",
    "secmoe": "SecMoE",
    "planted": "SecMoE, route planted",
}
CONTROLS = {"public_only": "control: length, and place for tokens", "constant": "control: constant guess"}
Found = Mapping[str, Any]


def attack_table(figure: Figure) -> str:
    """Accuracy over hybrid runs with its interval of 95 %, a column for each model, seed and question."""
    attacks: Sequence[Found] = figure.results
    head = ["", *(f"{found['model']}, seed {found['seed']}: {what}" for found in attacks for what in QUESTIONS)]
    rows = [[NAMES.get(name, name), *_cells(attacks, name)] for name in _protocols(attacks)]
    for control, told in CONTROLS.items():
        scores = [found["controls"][what][control] for found in attacks for what in QUESTIONS]
        rows.append([told, *(_three(score["accuracy"]) for score in scores)])
    return markdown_table(head, rows)


def _protocols(attacks: Sequence[Found]) -> list[str]:
    return list(dict.fromkeys(row["protocol"] for row in attacks[0]["rows"]))


def _cells(attacks: Sequence[Found], protocol: str) -> list[str]:
    wanted = ("protocol", "question", "model")
    cells = []
    for found in attacks:
        scores = {tuple(row[name] for name in wanted): row for row in found["rows"]}
        for what in QUESTIONS:
            score = scores[protocol, what, "hybrid"]
            low, high = _three(score["low"]), _three(score["high"])
            cells.append(f"{_three(score['accuracy'])} ({low} to {high})")
    return cells


def _three(share: float) -> str:
    return f"{share:.3f}".removeprefix("0")


def evaluation_table(figure: Figure) -> str:
    """Private accuracy beside the exact fixed-point and the float model."""
    head = ["model", "items", "private class is the exact fixed-point one's", "private accuracy", "float accuracy"]
    head.append("same class as float")
    rows = []
    for found in figure.results:
        rows.append(
            [
                found["model"],
                str(found["items"]),
                "of all" if found["exact_match"] else "NOT of all",
                *(f"{found['accuracy'][kind]:.1%}" for kind in ("private", "plain")),
                str(found["same_class_as_float"]),
            ]
        )
    return markdown_table(head, rows)
