"""Correctness proofs: what is right is proved, what is wrong is refuted, and what is not shown is not claimed."""

from __future__ import annotations

import pytest

from proofs.correct import NoTheorem, forget_proved_callees, prove_correct
from proofs.theorems import merge_lemma
from proofs.verdict import Verdict
from proofs.widths import WIDTHS, width_case
from protocols import functionalities as F
from protocols.boolean import conjoin
from protocols.catalog import CATALOG
from protocols.compare import drelu
from protocols.convert import b2a, bit_times, mux
from protocols.entry import Case, Entry, Secret
from protocols.products import cross
from protocols.truncate import truncate, truncate_known_sign
from sim.party import Party, ProtocolDecl, protocol
from sim.ring import Z2, Ring, RingArray, Spec
from sim.role import CLIENT
from tests.harness import NIGHTLY_CASES

R8 = Ring(8)
ROWS = {(entry.name, entry.share_level): entry for entry in CATALOG if entry.cases}
FAST = (
    *("reveal", "reveal_to", "b2a", "mux", "mux_public", "cross", "mul", "square", "relu", "less_than", "drelu"),
    *("truncate", "mux_rows"),
)
# Every protocol whose ring is a parameter, at every width that its theorem has.
AT_WIDTHS = [
    (entry, width)
    for entry in CATALOG
    for width in WIDTHS
    if entry.cases and width_case(entry.name, entry.share_level, width) is not None
]
OPEN = ("probabilities", 32)  # with few guard bits the bounds do not show that the sum of exponentials is in range


def cases(*names: str) -> list[object]:
    """Every case of these, nightly where another case has the same lines of text."""
    return [
        pytest.param(name, case, id=f"{name}: {case.name}", marks=pytest.mark.nightly if later else pytest.mark.slow)
        for name in names
        for case in row(name).cases
        for later in [(name, case.name) in NIGHTLY_CASES]
    ]


def row(name: str, share_level: bool = False) -> Entry:
    return ROWS[name, share_level]


def proved(verdict: Verdict) -> None:
    assert verdict.status == "PROVED", f"{verdict.method}: {verdict.detail}"
    assert verdict.kind == "correct" and verdict.detail == ""


@pytest.mark.parametrize("name", FAST)
def test_proved_at_8_bits(name: str) -> None:
    entry = row(name)
    proved(prove_correct(entry, entry.cases[0], 8))


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "width"), AT_WIDTHS, ids=[f"{e.name} {e.share_level} {w}" for e, w in AT_WIDTHS])
def test_proved_at_every_width(entry: Entry, width: int) -> None:
    verdict = prove_correct(entry, entry.cases[0], width)
    if (entry.name, width) == OPEN:
        assert verdict.status == "UNKNOWN" and "demand of reciprocal" in verdict.detail
    else:
        proved(verdict)


def test_every_width_of_every_protocol_is_there() -> None:
    """A protocol without a ring of its own (or below four widths for a reason of range) is named here."""
    widths = {entry.name: [w for e, w in AT_WIDTHS if e is entry] for entry in CATALOG if entry.cases}
    fewer = {name: found for name, found in widths.items() if found != list(WIDTHS)}
    assert fewer == {
        "conjoin": [], "choose": [], "correlate_wide": [], "correlate_ragged": [], "bit_triples": [], "one_hot": [],
        "linear": [], "locate": [], "select_product": [], "select_then_compute": [], "moe_layer": [],
        "plaintext_routing": [], "evaluate_all": [], "evaluate_concatenated": [], "feed_forward": [], "look_up": [],
        "scatter": [], "cryptomoe": [],
        "embed": [], "crossing": [], "row_squares": [], "attention": [], "encoder": [],
        "cross_attention": [], "block": [], "decoder_block": [], "next_token": [],
        "exp": [32, 64], "reciprocal": [32, 64], "probabilities": [32, 64], "piecewise": [64],
        "softmax": [32, 64], "layer_norm": [32, 64], "rms_norm": [32, 64], "rsqrt": [],
    }  # fmt: skip


SMALL_ROWS = (
    *("conjoin", "choose", "correlate_wide", "correlate_ragged", "bit_triples", "one_hot"),
    *("linear", "embed", "crossing", "row_squares"),
)


@pytest.mark.parametrize("name", [*SMALL_ROWS, "select_product"])
def test_small_rows_of_the_catalog(name: str) -> None:
    for case in row(name).cases:
        proved(prove_correct(row(name), case))


FUNCTIONS = "exp", "reciprocal", "locate", "piecewise", "rsqrt", "maximum", "argmax"
COMPOSED = (
    *("top_k", "probabilities", "softmax", "layer_norm", "rms_norm", "attention", "select_then_compute", "moe_layer"),
    "plaintext_routing",
)


@pytest.mark.parametrize(("name", "case"), cases(*FUNCTIONS, *COMPOSED))
def test_functions_and_compositions(name: str, case: Case) -> None:
    proved(prove_correct(row(name), case))


@pytest.mark.parametrize(
    "experts",
    [pytest.param(E, marks=pytest.mark.slow if E in (3, 7, 16) else pytest.mark.nightly) for E in range(2, 17)],
)
def test_tournaments_of_any_size(experts: int) -> None:
    secret = Secret(Ring(64), (1, experts), None, -(1 << 61), (1 << 61) - 1)
    proved(prove_correct(row("top_k"), Case(f"E = {experts}", (secret,), {"k": 1, "l": 64})))


@pytest.mark.parametrize("width", WIDTHS)
def test_step_of_the_tournament(width: int) -> None:
    assert merge_lemma(width, 10).holds


def test_a_verdict_names_what_it_rests_on() -> None:
    verdict = prove_correct(row("relu"), row("relu").cases[1])
    assert {"ideal OT and HE", "contract drelu (8 bits)", "contract mux (1/8 bits)"} <= set(verdict.assumptions)
    assert any(a.startswith("contract less_than") for a in verdict.assumptions)  # the callees' callees, too


# -- what is wrong ----------------------------------------------------------------------------------------------------
@protocol(realises=F.BOOLEAN_TO_ARITHMETIC, name="b2a")
async def b2a_without_factor(p: Party, b: RingArray, *, ring: Ring) -> RingArray:
    """b_C + b_S - b_C b_S."""
    mine = b.cast(ring)
    client = p.role is CLIENT
    both = await bit_times(p, CLIENT, b if client else None, None if client else mine, Spec(ring, b.shape))
    return mine - both


@protocol(realises=F.MULTIPLEXER, name="mux")
async def mux_of_shares(p: Party, b: RingArray, x: RingArray) -> RingArray:
    """Each party's own product only."""
    return b.cast(x.ring) * x


@protocol(realises=F.SQUARE, name="square")
async def square_with_a_rare_error(p: Party, x: RingArray) -> RingArray:
    """Off by one when the client's share is 77 and the server's 190."""
    wide = Spec(x.ring, x.shape)
    client = p.role is CLIENT
    both = await cross(p, x if client else None, None if client else x, receiver=CLIENT, spec=wide)
    hit = x.equals(77 if client else 190)
    last = hit.reshape(*hit.shape, 1)
    (rare,) = await conjoin(p, hit if client else ~(hit ^ ~hit), last)
    return x * x + (both << 1) + await b2a(p, rare[..., 0], ring=x.ring)


@protocol(realises=F.NON_NEGATIVE, name="drelu")
async def drelu_of_own_sign(p: Party, x: RingArray) -> RingArray:
    """The carry of the low bits is forgotten."""
    top = x.bit(x.ring.l - 1)
    return ~top if p.role is CLIENT else top


@protocol(realises=F.FLOOR_SHIFT, name="truncate")
async def local_truncation(p: Party, x: RingArray, *, f: int) -> RingArray:
    """Each party shifts its own share."""
    return x >> f


@protocol(realises=F.RELU, name="relu")
async def relu_of_positive(p: Party, x: RingArray) -> RingArray:
    """[x - 1 >= 0] x is max(x, 0) but for x = -2^(l-1), where the difference wraps."""
    return await mux(p, await drelu(p, x - 1 if p.role is CLIENT else x), x)


@protocol(realises=F.REVEAL, name="reveal")
async def reveal_to_one(p: Party, x: RingArray) -> RingArray:
    """The server gets the client's share in place of the value."""
    theirs = await p.swap("share", x)
    return x + theirs if p.role is CLIENT else theirs


WORD = Secret(R8, (2,))
WRONG: tuple[tuple[ProtocolDecl[RingArray], Case], ...] = (
    (b2a_without_factor, Case("8", (Secret(Z2, (2,)),), {"ring": R8})),
    (mux_of_shares, Case("8", (Secret(Z2, (2,)), WORD))),
    (square_with_a_rare_error, Case("8", (WORD,))),
    (drelu_of_own_sign, Case("8", (WORD,))),
    (local_truncation, Case("8", (WORD,), {"f": 3})),
    (relu_of_positive, Case("8", (WORD,))),
    (reveal_to_one, Case("8", (WORD,))),
)


@pytest.mark.parametrize(("wrong", "case"), WRONG, ids=[w.run.__name__ for w, _ in WRONG])
def test_wrong_protocols_are_refuted(wrong: ProtocolDecl[RingArray], case: Case) -> None:
    verdict = prove_correct(Entry(wrong, (case,), opened=wrong.name == "reveal"), case)
    assert verdict.status == "REFUTED"
    assert "at secret x0" in verdict.detail or "at client x0" in verdict.detail


@protocol(realises=F.FLOOR_SHIFT, name="truncate")
async def floor_by_unchecked_sign(p: Party, x: RingArray, *, f: int) -> RingArray:
    """Right for x >= 0 only, which nothing ensures."""
    return await truncate_known_sign(p, x, f=f)


def test_an_unmet_demand_is_no_proof() -> None:
    anything = Case("8", (WORD,), {"f": 3})
    verdict = prove_correct(Entry(floor_by_unchecked_sign, (anything,)), anything)
    assert verdict.status == "UNKNOWN" and "demand of truncate_known_sign" in verdict.detail
    declared = Case("8, not negative", (Secret(R8, (2,), None, 0),), {"f": 3})
    proved(prove_correct(Entry(floor_by_unchecked_sign, (declared,)), declared))


def test_a_callee_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller rests on its callees' theorems, at the parameters of the call."""

    async def wrong(p: Party, x: RingArray, *, f: int, **_: object) -> RingArray:
        return x >> f

    @protocol(realises=F.FLOOR_SHIFT, name="truncate_known_sign")
    async def caller(p: Party, x: RingArray, *, f: int) -> RingArray:
        return await truncate(p, x, f=f)

    monkeypatch.setattr(truncate, "run", wrong)
    forget_proved_callees()
    case = Case("8", (Secret(R8, (3,), None, 0),), {"f": 2})
    verdict = prove_correct(Entry(caller, (case,)), case)
    forget_proved_callees()
    assert verdict.status != "PROVED" and "truncate" in verdict.detail


def test_rows_and_widths_without_a_theorem() -> None:
    with pytest.raises(NoTheorem, match="above the OT and HE interfaces"):
        entry = next(e for e in CATALOG if e.name == "a2h")
        prove_correct(entry, Case("none", ()))
    with pytest.raises(NoTheorem, match="no theorem at 7 bits"):
        prove_correct(row("mul"), row("mul").cases[0], 7)
