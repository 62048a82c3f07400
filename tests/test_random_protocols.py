"""Random programs: nothing that leaks is proved, nothing private is refuted, and most of what is private is proved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from proofs.counterexample import symbolic
from proofs.enumerate import Joint
from proofs.private import prove_private
from proofs.random_protocols import MAX_BITS, Tally, program, tally
from sim.role import Role

PROVED_SHARE = 0.92
COUNT, NIGHTLY = 1000, 30_000


def _checked(found: Tally) -> None:
    assert not found.unsound
    assert found.rate >= PROVED_SHARE, f"{found.rate:.3f} of {found.private} private views proved"
    assert 0.15 < found.leaking / (found.private + found.leaking) < 0.6


def test_a_seed_is_a_program() -> None:
    (first, case), (second, _) = program(5), program(5)
    assert [Joint(first, case).distance(role) for role in Role] == [Joint(second, case).distance(role) for role in Role]
    assert all(Joint(*program(seed)).bits <= MAX_BITS for seed in range(20))


@pytest.mark.slow
def test_a_thousand_programs(record_property: Callable[[str, object], None]) -> None:
    found = tally(range(COUNT))
    for name in ("private", "proved", "leaking", "rate", "bound"):
        record_property(name, getattr(found, name))
    _checked(found)
    assert found.bound < 0.01


def test_the_programs_need_every_rule() -> None:
    """Steps of all rules but the statistical one are found on some of the first programs."""
    rules: Counter[str] = Counter()
    for seed in range(150):
        run = symbolic(*program(seed))
        rules.update(step.rule for role in Role for step in prove_private(run.dag, run.view(role), role).steps)
    assert set(rules) >= {"add", "sub", "neg", "odd", "concat", "cast", "index", "split", "linear", "injective"}, rules


@pytest.mark.nightly
def test_thirty_thousand_programs(capsys: pytest.CaptureFixture[str]) -> None:
    found = tally(range(NIGHTLY))
    _checked(found)
    assert found.bound < 0.001
    with capsys.disabled():
        print(f"\n{found.private} private views, {found.proved} proved ({found.rate:.3f}); {found.leaking} leaking, "
              f"none proved: fewer than {found.bound:.5f} of such views are, with 95 % confidence")  # fmt: skip
