"""Parameter sets: security caps, primes, and the byte counts that plans promise."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.he.packing import LinearPlan, Plan, SelectPlan, ShapeDoesNotFit, key_set, upload_form
from protocols.he.params import (
    INSECURE_TEST,
    PARAM_SETS,
    InsecureParameters,
    ParameterRange,
    ParamSet,
    UnknownParameters,
    ntt_primes,
    param_set,
)
from protocols.he.reading import ReadPlan
from protocols.he.selection import selection, spread
from protocols.he.work import answer

ALL = [*PARAM_SETS.values(), INSECURE_TEST]


def test_the_public_table() -> None:
    rows = {
        p.name: (p.n, p.ring_bits, p.frac_bits, p.q_bits, p.q1_bits, p.special_bits, p.response_bits, p.kappa)
        for p in PARAM_SETS.values()
    }
    assert rows == {
        "P64s": (16384, 64, 18, (40,) * 6, 160, (45, 45), (38, 38), 48),
        "P64": (16384, 64, 18, (50, 50, 50, 45, 45), 150, (50, 50), (38, 38), 40),
        "P64tiny": (8192, 64, 18, (43,) * 5, 215, (), (38, 38), 40),
        "P64packed": (8192, 64, 18, (42,) * 4, 168, (50,), (39, 39), 48),
        "P64unpacked": (8192, 64, 18, (50, 50, 50), 150, (), (38, 38), 48),
        "P32": (8192, 32, 12, (40, 40, 40, 50), 120, (48,), (22, 22), 40),
        "P32tiny": (8192, 32, 12, (37,) * 4, 148, (), (22, 22), 40),
    }


def test_the_insecure_set_cannot_be_reached_by_name() -> None:
    assert INSECURE_TEST.name not in PARAM_SETS
    assert not any(p.insecure_test for p in PARAM_SETS.values())
    with pytest.raises(UnknownParameters, match=f"expected one of {', '.join(PARAM_SETS)}, came 'INSEC"):
        param_set("INSECURE_TEST")
    assert param_set("P64s") is PARAM_SETS["P64s"]


@pytest.mark.parametrize("params", ALL, ids=lambda p: p.name)
def test_primes_are_distinct_ntt_primes_of_the_stated_length(params: ParamSet) -> None:
    lengths = (*params.q_bits, *params.special_bits, *params.response_bits, *params.auxiliary_bits)
    assert len(set(params.primes)) == len(lengths)
    for p, bits in zip(params.primes, lengths, strict=True):
        assert p.bit_length() == bits <= 50 and p % (2 * params.n) == 1
        assert all(pow(base, p - 1, p) == 1 for base in (2, 3, 5, 7, 11))
    assert params.primes == ntt_primes(params.n, lengths)


def test_parameters_below_128_bit_security_are_refused() -> None:
    for name, cap in (("P64s", 438), ("P64tiny", 218), ("P32", 218)):
        params = PARAM_SETS[name]
        assert sum(params.q_bits + params.special_bits) <= cap
        wider = (*params.q_bits, *(50,) * 4)
        with pytest.raises(InsecureParameters, match=f"at most {cap} modulus bits"):
            dataclasses.replace(params, q_bits=wider)
    with pytest.raises(InsecureParameters, match="at most 109"):
        dataclasses.replace(PARAM_SETS["P32tiny"], n=4096)
    with pytest.raises(InsecureParameters, match="expected N of 1024"):
        dataclasses.replace(INSECURE_TEST, insecure_test=False)
    with pytest.raises(InsecureParameters, match="special primes included"):
        dataclasses.replace(PARAM_SETS["P64tiny"], special_bits=(43,))
    with pytest.raises(ParameterRange, match="20 to 50 bits"):
        dataclasses.replace(PARAM_SETS["P64s"], special_bits=(50, 51))


@pytest.mark.parametrize("order", ["R", "L"])
def test_bytes_of_a_product_do_not_depend_on_the_number_of_experts(order: str) -> None:
    for experts in (*range(2, 129), 256):
        for d, f, down in ((768, 3072, 184_832), (3072, 768, 162_944)):
            plan = SelectPlan(PARAM_SETS["P64s"], order, experts, d, f)
            assert plan.operand("t").nbytes == {"R": 32 + 1024 * 240 // 8, "L": 491_552}[order]
            assert plan.operand("x").nbytes == 491_552
            assert plan.response_nbytes == down


def test_key_bytes_are_the_published_ones() -> None:
    p64s = PARAM_SETS["P64s"]
    wide, narrow = 3 * (32 + 16384 * 330 // 8), 2 * (32 + 16384 * 250 // 8)
    for experts, levels, merges in ((2, 5, 8), (8, 7, 8), (32, 9, 8), (128, 11, 9)):
        first, second = (SelectPlan(p64s, "R", experts, d, f) for d, f in ((768, 3072), (3072, 768)))
        zero = 32 + 16384 * 160 // 8
        assert key_set(p64s, [first]).nbytes == zero + (1 + levels) * wide + merges * narrow
        assert key_set(p64s, [first, second]).nbytes == zero + (1 + levels) * wide + (merges + 2) * narrow
    assert 20.6e6 < key_set(p64s, [SelectPlan(p64s, "R", 2, 768, 3072)]).nbytes < 20.8e6
    assert 33.8e6 < key_set(p64s, [SelectPlan(p64s, "R", 128, 768, 3072)]).nbytes < 33.9e6
    assert key_set(p64s, [LinearPlan(p64s, 4, 768, 8)]).nbytes == zero


def test_one_upload_of_t_serves_both_layers() -> None:
    p64s = PARAM_SETS["P64s"]
    for order in ("R", "L"):
        first, second = SelectPlan(p64s, order, 8, 768, 3072), SelectPlan(p64s, order, 8, 3072, 768)
        assert first.b == second.b == 8 and first.operand("t") == second.operand("t")
        assert first.operand("x") != second.operand("x")
    shallow, deep = SelectPlan(p64s, "R", 8, 768, 40), SelectPlan(p64s, "R", 8, 768, 3072)
    assert shallow.b < deep.b and shallow.operand("t") == deep.operand("t")


def test_selectors_of_several_tokens_share_an_upload_and_compact_ones_are_short() -> None:
    p64s = PARAM_SETS["P64s"]
    for experts, n, uploads, levels in ((8, 8, 1, 10), (128, 8, 1, 14), (128, 9, 2, 14), (128, 1, 1, 11), (5, 3, 1, 9)):
        plan = selection(p64s, "R", experts, 768, 3072, n)
        layout = plan.operand("t")
        assert (layout.count, layout.levels, layout.results) == (uploads, levels, n)
        assert layout.nbytes == uploads * 30_752 and plan.operand("x").count == n
        compact = selection(p64s, "R", experts, 768, 3072, n, compact=True)
        pairs = experts == 128 and n > 1  # chunks with a gap between them cost the same there
        assert compact.operand("x").count == (-(-n // 2) if pairs else n)
        short = compact.operand("t")
        assert (short.count, short.levels, short.results) == (uploads, 14, n)
        assert short.nbytes == uploads * (32 + 2 ** (levels - 4) * 240 // 8)
        assert set(short.expansion_elements) == {16384 // 2**k + 1 for k in range(14)}
    assert selection(PARAM_SETS["P32"], "R", 8, 768, 3072, 8).operand("t").count == 8  # its key switches are not quiet
    forms = {upload_form(p64s, [plan], k * plan.operand("t").each_nbytes) for k in (1, 3) for plan in [
        selection(p64s, "R", 8, 768, 3072, 1, compact=compact) for compact in (False, True)]}
    assert forms == {(False, 1024), (False, 8)}
    wide = selection(p64s, "R", 2048, 768, 3072, 3).operand("t")  # more experts than fit: fewer gaps
    assert (wide.count, wide.levels, wide.nbytes) == (3, 14, 3 * (32 + 2048 * 240 // 8))
    assert upload_form(p64s, [], 2 * 491_552) == (False, 16384) and upload_form(p64s, [], 327_712) == (True, 16384)
    for params, order in ((PARAM_SETS["P64tiny"], "R"), (PARAM_SETS["P32"], "R"), (p64s, "L")):
        with pytest.raises(ShapeDoesNotFit, match="compact uploads: expected the re-associated order"):
            SelectPlan(params, order, 2, 4, 4, compact=True)


def test_a_plan_that_reads_an_upload_sends_its_responses_alone() -> None:
    p64s = PARAM_SETS["P64s"]
    for experts, n, together, b, lift in ((8, 1, 1, 0, 3), (128, 1, 1, 4, 6), (128, 8, 8, 7, 6)):
        source = selection(p64s, "R", experts, 768, 3072, n)
        plan = ReadPlan.of(source, experts)
        assert plan.operand("x") == source.operand("x")
        assert (plan.together, plan.b, plan.lift, plan.responses) == (together, b, lift, 1)
        assert plan.nbytes == plan.response_nbytes == (16384 + n * experts) * 76 // 8
        assert key_set(p64s, [plan]).nbytes == key_set(p64s, [plan, LinearPlan(p64s, n, 768, 8)]).nbytes
    with pytest.raises(ShapeDoesNotFit, match="expected a vector of its own for every token, came 2"):
        ReadPlan.of(selection(p64s, "R", 128, 768, 3072, 8, compact=True), 128)
    with pytest.raises(ShapeDoesNotFit, match="came n=1, d=767, f=8"):
        ReadPlan(p64s, 1, 767, 8, source=SelectPlan(p64s, "R", 8, 768, 3072))


def test_outputs_of_several_tokens_share_a_response() -> None:
    up, down = (selection(PARAM_SETS["P64s"], "R", 128, *sizes, 8) for sizes in ((768, 3072), (3072, 768)))
    assert (up.together, up.b, up.h, up.responses) == (4, 11, 1, 2)
    both = selection(PARAM_SETS["P64s"], "R", 128, 768, 3072, 8, stacked=2)  # two matrices, half as many tokens
    assert (both.f, both.together, both.b, both.responses) == (6144, 2, 10, 4)
    assert both.operand("t") == up.operand("t") and both.spacing < up.spacing  # more blocks: fewer merges count more
    with pytest.raises(ShapeDoesNotFit, match="in each of 2 stacked matrices, came f=7: give a multiple"):
        SelectPlan(PARAM_SETS["P64s"], "R", 8, 768, 7, stacked=2)
    assert (down.together, down.b, down.h, down.responses) == (8, 12, 2, 1)
    assert up.response_nbytes == 2 * (16384 + 4 * 3072) * 76 // 8
    assert down.response_nbytes == (16384 + 8 * 768) * 76 // 8


shapes = st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 300))


@given(st.sampled_from(ALL), st.sampled_from("RL"), shapes)
def test_layouts_of_a_select_plan_do_not_collide(params: ParamSet, order: str, shape: tuple[int, int, int]) -> None:
    _check_layouts(SelectPlan(params, order, *shape), ("t", "x"))


def test_the_numbers_of_a_ciphertexts_tokens_hold_no_progression() -> None:
    chosen = spread(64)
    assert chosen[:8] == (0, 1, 3, 4, 9, 10, 12, 13)
    sums = [(a + b, a == b) for a in chosen for b in chosen]
    assert not {total for total, own in sums if own} & {total for total, own in sums if not own}


@given(st.sampled_from(ALL), st.sampled_from("RL"), shapes, st.integers(1, 40))
def test_tokens_side_by_side_have_windows_of_their_own(
    params: ParamSet, order: str, shape: tuple[int, int, int], n: int
) -> None:
    """Every exponent that a product of another pair of tokens can reach is outside the windows that are answered."""
    experts, d, f = shape
    try:
        up, down = (selection(params, order, experts, *sizes, n) for sizes in ((d, f), (f, d)))
    except ShapeDoesNotFit:
        return
    assert up.operand("t") == down.operand("t") and up.tokens == down.tokens
    for plan in (up, down):
        assert plan.n == n
        _check_layouts(plan, ("t", "x"))
        if plan.tokens > 1:
            assert plan.params.galois or plan.responses == plan.operand("x").count
            _check_windows(plan)


def _check_windows(plan: SelectPlan) -> None:
    window, tokens = plan.window, range(plan.tokens)
    assert plan.spacing * plan.n_out <= window and 2 * plan.offsets[-1] + window <= plan.params.n
    own = {plan.offsets[i] + plan.offsets[i] for i in tokens}
    others = {plan.offsets[i] + plan.offsets[j] for i in tokens for j in tokens if i != j}
    assert own == set(plan.places) and not own & others and all(place % window == 0 for place in own | others)
    last = plan.experts - 1 + (plan.d - 1) * plan.stride  # the farthest product of a selector and a vector
    assert last < plan.spacing


@given(st.sampled_from(ALL), st.integers(1, 9), st.integers(1, 200), st.integers(1, 300))
def test_layouts_of_a_linear_plan_do_not_collide(params: ParamSet, n: int, d: int, f: int) -> None:
    _check_layouts(LinearPlan(params, n, d, f), ("x",))


@given(st.sampled_from(ALL), st.integers(1, 40), st.integers(1, 200), st.integers(1, 300), st.data())
def test_layouts_with_more_tokens_do_not_collide(params: ParamSet, n: int, d: int, f: int, data: st.DataObject) -> None:
    most = min(n, params.n // (1 << (d - 1).bit_length()))
    plan = LinearPlan(params, n, d, f, data.draw(st.integers(0, most)))
    _check_layouts(plan, ("x",))
    shortest = LinearPlan.fewest_bytes(params, n, d, f)
    assert shortest.operand("x").nbytes + shortest.response_nbytes <= plan.operand("x").nbytes + plan.response_nbytes


@given(
    st.sampled_from(ALL), st.integers(1, 12), st.integers(1, 400), st.integers(1, 100), st.booleans(), st.data()
)  # fmt: skip
def test_layouts_of_split_columns_do_not_collide(
    params: ParamSet, n: int, d: int, f: int, packed: bool, data: st.DataObject
) -> None:
    split = data.draw(st.integers(1, min(d, params.n)))
    most = min(n, params.n // (1 << (split - 1).bit_length()))
    plan = LinearPlan(params, n, d, f, data.draw(st.integers(0, most)), split=split, packed=packed)
    _check_layouts(plan, ("x",))
    assert plan.response_nbytes == sum(params.response_nbytes(places.size) for places in plan.response_positions)
    assert plan.responses == len(plan.response_positions) and (packed or plan.b == 0)
    uploads, answers = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    each = data.draw(st.sampled_from([0, 2048, 1 << 20]))
    counts = answer(plan, 1).counts
    alone = sum(counts.get(f"{params.name} {kernel}", 0) for kernel in ("pair", "merge")) - plan.merges
    assert 0 <= alone <= plan.b * plan.units * -(-plan.blocks // plan.group)  # of a block with none

    def price(of: LinearPlan) -> int:
        return uploads * of.operand("x").nbytes + answers * (of.response_nbytes + each * of.merges)

    best = LinearPlan.cheapest(params, n, d, f, packed=packed, uploads=uploads, answers=answers, merge_nbytes=each)
    _check_layouts(best, ("x",))
    whole = 1 << (split - 1).bit_length()  # a split that is no power of two wastes room
    rounded = replace(plan, split=whole if whole < d else 0, tokens=plan.per_ciphertext)
    assert best.packed is packed and price(best) <= price(rounded)


def test_balanced_plans_have_a_quarter_of_the_merges_for_two_more_uploads() -> None:
    """The first matrix of a dense layer of Switch-Base, 8 tokens."""
    shortest, chosen = (plan(PARAM_SETS["P64s"], 8, 768, 3072) for plan in (LinearPlan.cheapest, LinearPlan.balanced))
    assert 4 * chosen.merges < shortest.merges and chosen.operand("x").count == shortest.operand("x").count + 2
    assert chosen.response_nbytes == shortest.response_nbytes


def _check_layouts(plan: Plan, operands: tuple[str, ...]) -> None:
    for word in operands:
        layout = plan.operand(word)
        entries = 0
        for k in range(layout.count):
            places = layout.positions(k).reshape(-1)
            entries += places.size
            assert np.unique(places).size == places.size and places.min() >= 0 and places.max() < plan.params.n
        assert entries == np.prod(layout.shape)
    assert sum(places.size for places in plan.response_positions) == np.prod(plan.outputs)
    assert sorted(np.concatenate(plan.response_outputs)) == list(range(int(np.prod(plan.outputs))))
    for places in plan.response_positions:
        assert np.unique(places).size == places.size and places.min() >= 0 and places.max() < plan.params.n
    assert sum(len(range(plan.d)[c.columns]) * len(range(plan.experts)[c.experts]) for c in plan.chunks()) == (
        plan.experts * plan.d
    )
    for element in (*plan.expansion_elements, *plan.packing_elements):
        assert element % 2 == 1 and 1 < element < 2 * plan.params.n
    assert plan.params.galois or not (*plan.expansion_elements, *plan.packing_elements)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SelectPlan(PARAM_SETS["P64tiny"], "R", 8, 2048, 8), "set with Galois keys"),
        (lambda: SelectPlan(PARAM_SETS["P64s"], "R", 8, 16385, 8), "a larger parameter set"),
        (lambda: LinearPlan(PARAM_SETS["P64s"], 1, 16385, 8), "split the columns"),
        (lambda: SelectPlan(PARAM_SETS["P64s"], "X", 8, 8, 8), "expected order R or L"),
        (lambda: SelectPlan(PARAM_SETS["P64s"], "R", 0, 8, 8), "positive sizes"),
        (lambda: LinearPlan(PARAM_SETS["P64s"], 0, 8, 8), "positive sizes"),
        (lambda: LinearPlan(PARAM_SETS["P64s"], 1, 8, 8, split=9), "expected 0 to 8 columns"),
        (lambda: LinearPlan(PARAM_SETS["P64s"], 1, 8, 8, digits=2, split=4), "no digits beside"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ShapeDoesNotFit, match=words):
        make()
