"""Proofs at full model size and of the whole catalog. Verdicts are asserted, times are only reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from proofs.certificate import certificate, check_folder, encode, trace_case
from proofs.correct import forget_proved_callees, prove_correct
from proofs.ledger import entries
from protocols.layer_plan import LITERAL, REASSOCIATED
from sim.role import Role
from tests.test_real_shapes import judged, layer

pytestmark = pytest.mark.bench


@pytest.mark.parametrize("order", [REASSOCIATED, LITERAL])
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("E", [8, 128])
def test_privacy_of_the_layer(benchmark: BenchmarkFixture, E: int, k: int, order: str) -> None:
    """Symbolic run and both parties' proofs, d = 768, f = 3072."""

    def prove() -> int:
        run = layer(E, k, order)
        assert not any(judged(run, role).findings for role in Role)
        return len(run.dag.nodes)

    benchmark.extra_info["nodes"] = benchmark.pedantic(prove, rounds=3, iterations=1)


def test_correctness_of_the_catalog(benchmark: BenchmarkFixture) -> None:
    """Every case above the OT and HE interfaces, at its own width, with nothing known before."""

    def prove() -> None:
        forget_proved_callees()
        for entry in entries(None):
            for case in entry.cases:
                assert prove_correct(entry, case).status == "PROVED"

    benchmark.pedantic(prove, rounds=1, iterations=1)


def test_certificates_of_the_catalog(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """All certificates re-checked against the source."""
    for i, (entry, case) in enumerate((e, c) for e in entries(None) for c in e.cases if not e.opened):
        run = trace_case(entry, case)
        for role in Role:
            (tmp_path / f"{i:02d}.{role.value}.json").write_text(encode(certificate(entry, case, role, run)))
    checked = benchmark.pedantic(lambda: list(check_folder(tmp_path)), rounds=1, iterations=1)
    assert all(problem is None for _, _, problem in checked) and len(checked) == len(list(tmp_path.iterdir()))
