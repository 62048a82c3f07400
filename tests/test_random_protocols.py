"""Random programs: nothing that leaks is proved, nothing private is refuted, and most of what is private is proved."""

from __future__ import annotations

import pytest

from proofs.enumerate import Joint
from proofs.random_protocols import MAX_BITS, Tally, program, tally
from sim.role import Role

PROVED_SHARE = 0.92
COUNT, NIGHTLY, PART = 1000, 30_000, 250


def _checked(found: Tally) -> None:
    assert not found.unsound
    assert found.rate >= PROVED_SHARE, f"{found.rate:.3f} of {found.private} private views proved"
    assert 0.15 < found.leaking / (found.private + found.leaking) < 0.6


def test_a_seed_is_a_program() -> None:
    (first, case), (second, _) = program(5), program(5)
    assert [Joint(first, case).distance(role) for role in Role] == [Joint(second, case).distance(role) for role in Role]
    assert all(Joint(*program(seed)).bits <= MAX_BITS for seed in range(20))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(COUNT // PART))
def test_a_thousand_programs(part: int) -> None:
    _checked(tally(range(part * PART, (part + 1) * PART)))


@pytest.mark.nightly
def test_thirty_thousand_programs(capsys: pytest.CaptureFixture[str]) -> None:
    found = tally(range(NIGHTLY))
    _checked(found)
    assert found.bound < 0.001
    with capsys.disabled():
        print(f"\n{found.private} private views, {found.proved} proved ({found.rate:.3f}); {found.leaking} leaking, "
              f"none proved: fewer than {found.bound:.5f} of such views are, with 95 % confidence")  # fmt: skip
