"""Counterexamples are proofs: bits called untouched never move, sums called free of randomness never move, and no
private view is refuted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.counterexample import judge, refute, symbolic, term
from proofs.distinguish import annihilators, coefficients, reached, unseen
from proofs.enumerate import Joint
from proofs.random_protocols import program
from proofs.symbolic import Node, evaluate
from protocols.entry import Case, Secret
from protocols.products import mul
from protocols.sharing import reveal
from sim.party import Party, protocol
from sim.ring import Ring, RingArray
from sim.role import CLIENT, SERVER, Role


def _leaves(role: Role, fixed: int, moving: int) -> Any:
    """Leaf words: unseen draws from one generator, all else from another."""

    def leaf(node: Node) -> np.ndarray:
        key = [moving if unseen(node, role) else fixed, *node.owner.encode(), *node.label.encode()]
        return np.random.default_rng(key).integers(0, node.ring.mask, node.shape, np.uint64, endpoint=True)

    return leaf


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), role=st.sampled_from(list(Role)))
def test_untouched_bits_do_not_follow_unseen_randomness(seed: int, role: Role) -> None:
    run = symbolic(*program(seed))
    roots = [seen.node for seen in run.view(role)]
    touched = reached(run.dag, roots, role)
    values = [evaluate(run.dag, roots, _leaves(role, seed, moving)) for moving in range(6)]
    for n in roots:
        assert all(not ((v[n] ^ values[0][n]).astype(np.uint64) & ~touched[n]).any() for v in values)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), role=st.sampled_from(list(Role)))
def test_annihilated_sums_do_not_follow_unseen_randomness(seed: int, role: Role) -> None:
    run = symbolic(*program(seed))
    roots = [seen.node for seen in run.view(role) if run.dag.nodes[seen.node].ring.l == 2]
    affine, _ = coefficients(run.dag, roots, role, _leaves(role, seed, 0))
    chosen = [(n, i) for n in roots if affine[n] is not None for i in range(run.dag.nodes[n].shape[0])]
    if not chosen:
        return
    values = [evaluate(run.dag, roots, _leaves(role, seed, moving)) for moving in range(6)]
    rows = np.array([np.asarray(affine[n])[i] for n, i in chosen])
    for c in annihilators(rows, 2):
        sums = {int(sum(int(k) * int(v[n][i]) for k, (n, i) in zip(c, chosen, strict=True))) % 4 for v in values}
        assert len(sums) == 1


@settings(max_examples=100, deadline=None)
@given(l=st.sampled_from([1, 2, 3, 8, 64]), m=st.integers(1, 6), n=st.integers(0, 5), seed=st.integers(0, 2**32))
def test_annihilators_vanish_and_are_complete(l: int, m: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = Ring(l).mask
    rows = rng.integers(0, min(mask, 5), (m, n), np.uint64, endpoint=True)
    found = annihilators(rows, l)
    for c in found:
        assert not ((c[:, None] * rows).sum(0, dtype=np.uint64) & np.uint64(mask)).any()
    if l <= 2 and m <= 4:  # what they span is all that vanishes
        every = np.stack(np.meshgrid(*[np.arange(1 << l, dtype=np.uint64)] * m, indexing="ij"), -1).reshape(-1, m)
        vanishing = {tuple(c) for c in every.tolist() if not ((np.array(c, np.uint64) @ rows) & np.uint64(mask)).any()}
        spanned = {(0,) * m}
        for c in found:
            spanned = {
                tuple((int(a) * k + b) & mask for a, b in zip(c, s, strict=True))
                for s in spanned
                for k in range(mask + 1)
            }
        assert spanned == vanishing


@pytest.mark.slow
def test_no_private_view_is_refuted_and_most_leaks_are() -> None:
    leaking = refuted = 0
    for seed in range(300):
        proto, case = program(seed)
        run, joint = symbolic(proto, case), Joint(proto, case)
        for role in Role:
            found = refute(run, role)
            if joint.distance(role) == 0:
                assert found is None, f"seed {seed}: {found}"
            else:
                leaking, refuted = leaking + 1, refuted + (found is not None)
    assert refuted > 0.5 * leaking


def test_an_opened_value_is_refuted_at_full_width() -> None:
    case = Case("64", (Secret(Ring(64), (3,)),))
    judged = judge(reveal, case, CLIENT)
    assert judged.kind == "LEAK" and judged.leak is not None
    assert judged.leak.messages == ("reveal/share",) and judged.leak.term.endswith("server:x0")
    assert "corrupted client: reveal/share" in str(judged.leak)


def test_a_proved_view_has_no_counterexample() -> None:
    case = Case("16", (Secret(Ring(16), (2,)), Secret(Ring(16), (2,))))
    for role in Role:
        assert judge(mul, case, role).kind == "PROVED"
        assert refute(symbolic(mul, case), role) is None


def test_other_type_errors_are_not_taken_for_schedules() -> None:
    @protocol(realises=reveal.realises)
    async def mistaken(p: Party, x: RingArray) -> RingArray:
        return x + "1"  # type: ignore[operator]

    with pytest.raises(TypeError, match="public integer"):
        judge(mistaken, Case("64", (Secret(Ring(64), (1,)),)), SERVER)


def test_terms_are_cut_off() -> None:
    run = symbolic(mul, Case("8", (Secret(Ring(8), (1,)), Secret(Ring(8), (1,)))))
    last = run.outputs[CLIENT][0]
    assert term(run.dag, last, 0) == "..." and term(run.dag, last, 1).count("...") == 2
    assert term(run.dag, last).startswith("(")
