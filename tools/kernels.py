"""Figures of kernels in one run: the transform beside SEAL's, and bits of a sign.

    make run                             # once: this repository's environment
    .venv/bin/python tools/kernels.py    # makes .venv/seal (1 MB), measures, writes docs/figures/kernels.json

Each figure is one of `make bench`, as its test in tests/benchmarks explains; without .venv/seal the first one is
skipped there. CPU seconds on one core; what is compared takes turns, so that both meet the same load.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from secmoe.calibration import machine
from secmoe.figures.kept import Figure

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "figures"
FOLDER = ROOT / ".venv" / "seal"
SEAL = "seal-python==4.4.0"
COMMAND = "tools/kernels.py"


def environment() -> None:
    """An environment for SEAL, where there is none."""
    if not (FOLDER / "bin" / "python").exists():
        print(f"making {FOLDER} with {SEAL}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
        install = [FOLDER / "bin" / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        subprocess.run([*install, SEAL, "numpy"], check=True)


def main() -> None:
    environment()
    made, load = f"{datetime.now(UTC):%Y-%m-%d %H:%M}", os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "benchmarks.json"
        tests = ROOT / "tests" / "benchmarks" / "test_kernels.py"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "bench", f"--benchmark-json={found}", tests]
        subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
        report = json.loads(found.read_text())
    rows = [{"kernel": one["name"].removeprefix("test_"), **one["extra_info"]} for one in report["benchmarks"]]
    print(Figure("kernels", (COMMAND,), machine(), made, load, ({"rows": rows},)).write(RESULTS))


if __name__ == "__main__":
    main()
