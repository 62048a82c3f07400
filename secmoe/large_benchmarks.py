"""Layers and blocks of published widths, for the tables of the README: run for real, exact, timed.

Every row is of a session of its own, online, what makes its correlated OTs included.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from protocols.layer_plan import LITERAL
from secmoe.benchmarks import Block, Item, Layer
from secmoe.mapped_benchmark import Mapped
from sim.network import LAN, WAN
from sim.role import SERVER, Role

Json = dict[str, Any]
EXTENSION = "extension"  # a table of its own: see extension_benchmark
MOST_REPEATED = 20.0  # CPU seconds of a first run, above which it is the only one
REPEATS = 3
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

TABLES: Mapping[str, Sequence[Item]] = MappingProxyType(
    {
        "layers": (
            Layer(64, 128, 8, 1),
            Layer(64, 128, 16, 8),
            Layer(768, 3072, 8, 1),
            Layer(768, 3072, 8, 1, order=LITERAL),
        ),
        "blocks": (
            Block(64, 128, 8, 4, 4, groups=2),
            Block(768, 3072, 8, 12, 8),
            Block(768, 3072, 128, 12, 1),
        ),
        "experts": (
            Layer(256, 512, 2, 2, relu=True),
            Layer(256, 512, 126, 2, relu=True),
            Mapped(768, 3072, 128, 1),
            Mapped(768, 3072, 256, 1),
        ),
    }
)


def measured(item: Item) -> Json:
    """One row: the run of median CPU time of three, or of one where a run is long; memory: peaks of this process in
    bytes since the weights were drawn, all of it and what no file backs."""
    with suppress(OSError):  # where the system has none or forbids it, peaks are those of the whole process
        CLEAR.write_text("5")
    subject = item.subject()
    runs = [subject.run(subject.session())]
    if _cpu(runs[0]) < MOST_REPEATED:
        runs += [subject.run(subject.session()) for _ in range(REPEATS - 1)]
    cpu = statistics.median_low(_cpu(run) for run in runs)
    run = next(run for run in runs if _cpu(run) == cpu)
    pool = sum(message.nbytes for message in run.scope(f"{run.prefix}/pool"))
    return {
        "name": item.name,
        "bytes": run.cost.nbytes,
        "of_it_ot": pool,
        "rounds": run.cost.rounds,
        "cpu_s": cpu,
        "of_it_server_s": run.cpu(SERVER),
        "lan_s": run.time(LAN),
        "wan_s": run.time(WAN),
        "peak_bytes": _memory("VmHWM"),
        "anonymous_bytes": _memory("RssAnon"),
    }


def _cpu(run: Any) -> float:
    return float(sum(run.cpu(role) for role in Role))


def _memory(field: str) -> int | None:
    """Bytes that the system tells of this process, None where it does not."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE) if STATUS.is_file() else None
    return None if found is None else 1024 * int(found[1])
