"""Audits of the rivals and of SecMoE's own layer: which are run for the reproduction page, and their tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secmoe.figures.apart import Apart, aparts
from secmoe.figures.kept import Figure
from secmoe.figures.markdown import markdown_table

NAME = "audits"
FIELDS = (
    *("verdict", "protocol", "case", "corrupted", "secret", "model", "runs", "words", "detectable_sd", "power"),
    *("null_alarm", "leak", "advice"),
)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Campaign:
    """Both audits of a catalog row. hybrid, real: how many runs for each corrupted party and case, so many that the
    hybrid audit shows its planted faults and the real one takes some minutes."""

    protocol: str
    hybrid: int
    real: int

    @property
    def commands(self) -> tuple[str, ...]:
        """The power is that of hybrid runs in either model, so that it is measured once."""
        return (
            f"secmoe audit {self.protocol} --model hybrid --runs {self.hybrid}",
            f"secmoe audit {self.protocol} --model real --runs {self.real} --no-power",
        )


CAMPAIGNS = (
    Campaign("plaintext_routing", 2000, 200),  # a leak is confirmed on as many fresh runs
    Campaign("look_up", 8000, 520),
    Campaign("feed_forward", 8000, 520),
    Campaign("evaluate_all", 2000, 400),
    Campaign("evaluate_concatenated", 8000, 400),
    Campaign("cryptomoe", 8000, 400),
    Campaign("scatter", 2000, 400),
    Campaign("select_then_compute", 2000, 520),
    Campaign("moe_layer", 2000, 400),
)
COMMANDS = tuple(command for campaign in CAMPAIGNS for command in campaign.commands)


def read_audit(text: str) -> Any:
    """Of what `secmoe audit --json` prints: its family, its verdicts, and what it says of whole real sessions."""
    found = json.loads(text)
    return {
        "family": found["family"],
        "level": found["level"],
        "null": found["null"],
        "verdicts": [{name: verdict[name] for name in FIELDS} for verdict in found["verdicts"]],
        "sessions": {target: session["line"] for target, session in found["sessions"].items()},
    }


def audits_section(figure: Figure | None) -> Iterator[str]:
    """Paragraphs of Markdown: verdicts in the words of the tool, what real sessions showed, and the commands."""
    if figure is None:
        yield f"Not measured yet: `python -m secmoe.figures {NAME}`."
        return
    audits = aparts(figure)
    yield INTRODUCTION
    yield _verdicts(audits)
    sessions = [[target, line] for audit in audits for target, line in audit.found["sessions"].items()]
    if sessions:
        yield "Beside real runs, one whole session of every case, with all analysers of noise, reuse and parameters:"
        yield markdown_table(["protocol: case", "what they said"], sessions)
    yield "\n".join(f"- {_told(audit)}" for audit in audits)


INTRODUCTION = """\
Views of a corrupted party in runs for two values of its peer's secret, compared by `secmoe audit`: words, and bytes of
ciphertexts. n is the number of runs, the effect the smallest difference of a mean that would have been found with
probability .95, in standard deviations. Planted faults are weakened protocols that the same audit is to catch, in the
hybrid model (ideal OT and HE); an audit that catches fewer than 19 of 20 is INCONCLUSIVE. A pass shows that these tests
found nothing with these runs; it is no proof (`secmoe prove` proves). What is not in the table was not run."""


def _verdicts(audits: Sequence[Apart]) -> str:
    head = ["protocol: case", "corrupted", "secret", "model", "n", "verdict", "words looked at", "smallest effect, sd"]
    head += ["planted faults caught", "a class against itself", "remark"]
    return markdown_table(head, [_cells(row) for audit in audits for row in audit.found["verdicts"]])


def _cells(row: Row) -> list[str]:
    words, power = row["words"], row["power"]
    every = words["looked_at"] == words["of"]
    return [
        f"{row['protocol']}: {row['case']}",
        row["corrupted"],
        row["secret"],
        row["model"],
        f"{row['runs']:,}",
        row["verdict"],
        "every word" if every else f"{words['looked_at']:,} of {words['of']:,}",
        f"{row['detectable_sd']:.2g}",
        "not measured" if power is None else f"{power['found']} of {power['planted']}",
        "ALARM" if row["null_alarm"] else "quiet",
        _remark(row),
    ]


def _remark(row: Row) -> str:
    leak = row["leak"]
    return row["advice"] if leak is None else f"{leak['label']}, {leak['feature']}: effect {leak['effect']:.3g}"


def _told(audit: Apart) -> str:
    found, null = audit.found, audit.found["null"]
    return (
        f"{audit.told} One family of {found['family']:,} tests at level {found['level']:g}; {null['alarms']} of "
        f"{null['audits']} audits of a class against itself raised an alarm."
    )
