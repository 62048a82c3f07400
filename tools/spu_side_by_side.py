"""The same operations on SecretFlow SPU (protocol CHEETAH) and on this testbed, in one run: CPU, wall, bytes, depth.

    make run                                    # once: this repository's environment
    .venv/bin/python tools/spu_side_by_side.py  # makes .venv/spu (a wheel of 75 MB), measures, prints the table

Two workers, one process each, take the cases in turns (see side_by_side/), so that both meet the same load. Each holds
both parties of its framework, on one core. Same inputs: their digests must agree. Same ring (64 bits), same fraction
(18 bits), same piecewise GeLU. Our results must be those of the fixed-point functionality, bit for bit; SPU's, which
rounds by chance and approximates exponentials otherwise, must be near those of float64.

Times are the least of several runs after a first one, which is not counted; what a session is set up with stands apart.
Both pools of OTs are refilled now and then. SPU runs as often as 20 s of CPU time admit, at most 40 times; its bytes
are the mean from behind the first refill to the last one, or those of the least run where there are not two. Ours pay
for every OT its share of an iteration of Ferret, in bytes and in time. The least bytes are those of a run without a
refill. Only for SPU's dense-cat with 128 experts at 768/3072 (--all; 15 minutes of CPU) weights come in slices.

Rows go into a figure (see secmoe.figures): a list of {operation, form, shape, framework, cpu_s, wall_s, bytes,
least_bytes, runs, refills, depth, error}, ours with digits; wall_s is of both parties on one core, depth the longest
chain of messages, error the largest difference from float64, digits the width in bits of those that comparisons take.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from side_by_side.cases import CASES

from secmoe.calibration import machine
from secmoe.figures.kept import FOLDER, Figure, read_figure
from secmoe.figures.side_by_side import OWN, PEER, Row, table

ROOT = Path(__file__).resolve().parent.parent
NAME = "side-by-side"
RESULTS = ROOT / "docs" / FOLDER / f"{NAME}.json"
SPU = "spu==0.9.5"
SET_UP = "session set-up"


def environment(folder: Path) -> Path:
    """SPU's interpreter, in an environment that is made where there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder} with {SPU}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        subprocess.run([*install, SPU, "numpy<2"], check=True)
    return python


class Worker:
    """One framework's process."""

    def __init__(self, framework: str, python: Path, module: str, *options: str) -> None:
        self.framework = framework
        path = os.pathsep.join([str(ROOT / "tools"), str(ROOT)])
        self.process = subprocess.Popen(
            [python, "-m", f"side_by_side.{module}", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"},
            preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        )

    def ask(self, case: int) -> Row:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{case}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.framework}: the worker ended with status {self.process.wait()}; see its message above")
        found: Row = json.loads(line)
        return found

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(python: Path, numbers: list[int], out: Path, rows: list[Row], digits: list[str]) -> list[Row]:
    """All rows; digits: their width, as our worker is told, or nothing.

    The file is written after every case, so that an interrupted run keeps what it has.
    """
    set_up = {name: list[Row]() for name in (PEER, OWN)}
    workers = [
        Worker(PEER, python, "spu_worker"),
        Worker(OWN, ROOT / ".venv" / "bin" / "python", "own_worker", *digits),
    ]
    for number in numbers:
        case, digests = CASES[number], set[str]()
        old = (case.operation, case.shape), (SET_UP, "")
        rows = [row for row in rows if (row["operation"], row["shape"]) not in old]
        for worker in workers:
            answer = worker.ask(number)
            digests.add(answer["digest"])
            for found in answer["rows"]:
                set_up[worker.framework].append(found.pop("set_up"))
                of = {"operation": case.operation, "shape": case.shape, "framework": worker.framework}
                rows.append({**of, **found})
                print(json.dumps(rows[-1]), file=sys.stderr)
        if len(digests) != 1:
            sys.exit(f"{case.operation} {case.shape}: the workers had different inputs")
        write(out, rows + session_rows(set_up))
    for worker in workers:
        worker.end()
    return rows + session_rows(set_up)


def session_rows(set_up: dict[str, list[Row]]) -> list[Row]:
    """Set-up of a session: SPU's, by what first runs took beyond later ones; ours, the dearest session of all cases."""
    found = []
    for framework, each in set_up.items():
        if each:
            join = sum if framework == PEER else max
            figures = {name: join(one[name] for one in each) for name in ("cpu_s", "wall_s", "bytes", "depth")}
            of = {"operation": SET_UP, "shape": "", "framework": framework, "form": ""}
            refills = {"least_bytes": figures["bytes"], "runs": 0, "refills": 0}
            found.append({**of, **figures, **refills, "error": 0.0})
    return found


def write(out: Path, rows: list[Row]) -> None:
    made, command = f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "tools/spu_side_by_side.py"
    if any(row["shape"] == case.shape for row in rows for case in CASES if case.slices > 1):
        command += " --all"
    figure = Figure(out.stem, (command,), machine(), made, os.getloadavg()[0], (rows,))
    figure.write(out.parent)


def kept_rows(out: Path) -> list[Row]:
    return list(read_figure(out).results[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="128 experts at 768/3072 too (several GB, minutes)")
    parser.add_argument("--cases", help="only these, counted from 0, with commas between; other rows of the file stay")
    parser.add_argument("--env", type=Path, default=ROOT / ".venv" / "spu", help="SPU's environment, .venv/spu else")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"JSON file, {RESULTS.relative_to(ROOT)} else")
    told = "width of our digits in bits (default: that at which a comparison of 2^16 words sends fewest bytes)"
    parser.add_argument("--digits", type=int, help=told)
    parser.add_argument("--table", action="store_true", help="measure nothing: the table of the JSON file")
    options = parser.parse_args()
    if options.table:
        print(table(kept_rows(options.out)))
        return
    numbers, kept = [n for n, case in enumerate(CASES) if options.all or case.slices == 1], list[Row]()
    if options.cases is not None:
        numbers = [int(n) for n in options.cases.split(",")]
        kept = kept_rows(options.out) if options.out.exists() else kept
    digits = [] if options.digits is None else [str(options.digits)]
    print(table(measure(environment(options.env), numbers, options.out, kept, digits)))


if __name__ == "__main__":
    main()
