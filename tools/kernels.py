"""Figures of kernels in one run: the transform beside SEAL's, correlated OTs, bits of a sign, 63 times the experts.

    make run                             # once: this repository's environment
    .venv/bin/python tools/kernels.py    # makes .venv/seal (a wheel of 1 MB), measures, writes docs/kernels.json

Each figure is one of `make bench`, as its test in tests/benchmarks explains; without .venv/seal the first one is
skipped there. CPU seconds on one core; what is compared takes turns, so that both meet the same load.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "kernels.json"
FOLDER = ROOT / ".venv" / "seal"
SEAL = "seal-python==4.4.0"
TESTS = ("test_kernels.py", "test_extension.py", "test_experts.py::test_sixty_three_times_the_experts")


def environment() -> None:
    """An environment for SEAL, where there is none."""
    if not (FOLDER / "bin" / "python").exists():
        print(f"making {FOLDER} with {SEAL}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
        install = [FOLDER / "bin" / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        subprocess.run([*install, SEAL, "numpy"], check=True)


def main() -> None:
    environment()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "benchmarks.json"
        tests = [ROOT / "tests" / "benchmarks" / name for name in TESTS]
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "bench", f"--benchmark-json={found}", *tests]
        subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
        report = json.loads(found.read_text())
    rows = [{"kernel": one["name"].removeprefix("test_"), **one["extra_info"]} for one in report["benchmarks"]]
    machine = report["machine_info"]["cpu"].get("brand_raw", report["machine_info"]["machine"])
    RESULTS.write_text(json.dumps({"machine": machine, "figures": rows}, indent=1) + "\n")
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
