"""Exact analysers of reuse: quiet on real sessions, and each one beside the leak that it must see."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.broken import FAULTS
from protocols.broken.correlations import PRODUCTS, SIGNS, two_products
from protocols.broken.responses import MANY, PAIR
from protocols.catalog import CATALOG
from protocols.compare import drelu
from protocols.entry import DECLARED, Case, Entry
from protocols.linear import linear
from protocols.select import select_product
from sim.concrete import from_words
from sim.message import Message
from sim.ring import Ring
from sim.role import CLIENT, SERVER, Role
from sim.tape import Tape, derive_key
from sim.wire import BlobSpec, encode
from transcripts.finding import Finding
from transcripts.reuse import fixed_differences, repeated_blocks, same_in_two_sessions, same_secrets, shown_draws
from transcripts.sessions import PARAMETERS, REUSE, examine, examine_target, honest, leaks, observe
from transcripts.targets import Target
from transcripts.tweaks import correlations, hashed, tweaks

RNG = np.random.default_rng(20)


def _blob(label: str, data: bytes, sender: Role = SERVER) -> Message:
    return Message(sender, label, label.rpartition("/")[0], 1, BlobSpec("test", len(data)), data)


def _words(label: str, words: Any, l: int = 64) -> Message:
    array = from_words(Ring(l), words)
    return Message(SERVER, label, label, 1, array.spec, encode(array))


def _fresh(n: int) -> bytes:
    return RNG.bytes(n)


HONEST = [
    pytest.param(linear, MANY, id="linear"),
    pytest.param(select_product, PAIR, id="select_product"),
    pytest.param(two_products, PRODUCTS[0], id="two_products"),
    pytest.param(drelu, SIGNS[0], id="drelu"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("proto", "case"), HONEST)
def test_nothing_is_found_in_real_sessions(proto: Any, case: Case) -> None:
    found = examine(Entry(proto, (case,)), case, 2, "honest", honest)
    assert not [str(f) for _, f in leaks(found)]
    assert any(f.n > 100 for f in found[REUSE])
    assert bool(found[PARAMETERS]) == bool(case.plans)


# Those with messages of their own kind, one that calls most of them, and what opens: others are made of these.
BY_DAY = (
    *("choose", "correlate", "correlate_wide", "correlate_ragged", "bit_triples", "linear", "select_product", "embed"),
    *("crossing", "cross", "relu", "mux", "reveal", "reveal_to", "next_token"),
)


def _marked(entry: Entry) -> Any:
    marks = pytest.mark.slow if entry.name in BY_DAY else pytest.mark.nightly
    return pytest.param(entry, id=f"{entry.name}: {entry.cases[0].name}", marks=marks)


@pytest.mark.parametrize("entry", [_marked(entry) for entry in CATALOG if entry.cases])
def test_nothing_is_found_in_the_catalog_but_what_it_declares(entry: Entry) -> None:
    """An opening of the inputs' own shares shows them again in every run; an answer, and an opened route, have fresh
    shares."""
    found = leaks(examine(entry, entry.cases[0], 2, "catalog", honest))
    opens_inputs = entry.name in ("reveal", "reveal_to")
    assert bool(found) == opens_inputs <= (entry.status == DECLARED), [str(f) for _, f in found]


@pytest.mark.slow
def test_targets_are_examined_with_the_services_that_they_name() -> None:
    found = {
        name: examine_target(Target(name, case), 1, "target")
        for name, case in (("linear", "8 to 5"), ("broken.secret_binary", MANY.name), ("broken.mask_reused", "large"))
    }
    leaking = {name: [f.claim for _, f in leaks(findings)] for name, findings in found.items()}
    assert leaking == {
        "linear": [],
        "broken.secret_binary": ["the secret is not uniform ternary"],
        "broken.mask_reused": [],
    }


# fault -> the claim of the finding that must see it
CAUGHT = {
    "seed_reused": "a block of a message comes twice",
    "upload_repeated": "a block of a message comes twice",
    "key_seed_shared": "a block of a message comes twice",
    "upload_default_seed": "the client sends the same block in two sessions",
    "secret_default_seed": "a private value is the same in two independent sessions",
    "secret_sent": "a private draw is on the wire",
    "slice_twice": "a correlated OT is used twice",
    "stream_rewound": "a correlated OT is used twice",
    "iteration_repeated": "a correlated OT is used twice",
    "tweak_restarted": "a tweak comes twice under one correlation",
    "raw_keys": "keys of correlated OTs serve as pads without a hash",
    "raw_keys_of_choices": "keys of correlated OTs serve as pads without a hash",
    "choices_shown": "the difference of two messages depends on the inputs alone",
    "delta_default_seed": "a private value is the same in two independent sessions",
    "base_scalars_default_seed": "the server sends the same block in two sessions",
    "zero_default_seed": "two servers' responses carry one encryption of zero",
    "flood_default_seed": "two servers' responses have related noise",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUGHT)
def test_each_fault_is_seen_by_the_analyser_made_for_it(name: str) -> None:
    fault = next(f for f in FAULTS if f.name == name)
    assert fault.services is not None
    found = examine(fault.entry, fault.entry.cases[0], 2, name, fault.services)[REUSE]
    seen = [f for f in found if f.leak]
    assert CAUGHT[name] in [f.claim for f in seen], [str(f) for f in seen]


# -- the smallest things that repeat -----------------------------------------------------------------------------------
def test_blocks_repeat_within_and_between_messages_and_at_the_end() -> None:
    block = _fresh(16)
    fresh = [_blob("r1/a", _fresh(160)), _blob("r1/b", _fresh(160)), _blob("r1/c", _fresh(9))]
    assert not repeated_blocks(fresh).leak and repeated_blocks(fresh).n == 21
    within = _blob("r1/d", block + _fresh(16) + block)
    assert repeated_blocks([within]).where == "twice in r1/d"
    between = [_blob("r1/d", block + _fresh(3)), *fresh, _blob("r1/e", _fresh(32) + block)]
    assert repeated_blocks(between).where == "r1/d and r1/e"
    short = _fresh(9)
    assert repeated_blocks([_blob("r1/x", short), _blob("r1/y", short)]).where == "r1/x and r1/y"
    assert not repeated_blocks([_blob("r1/x", b"bit"), _blob("r1/y", b"bit")]).leak


def test_differences_that_repeat_are_found_at_any_place() -> None:
    secret = np.array([5, 1 << 40], np.uint64)

    def run(reuse: bool) -> list[Message]:
        mask, other = (RNG.integers(0, 1 << 63, 2, np.uint64) for _ in range(2))
        third = np.concatenate([other[:1], mask if reuse else RNG.integers(0, 1 << 63, 2, np.uint64)])
        return [_words("r/x", secret ^ mask), _words("r/y", third)]

    def found(reuse: bool) -> Finding:
        return fixed_differences([run(reuse), run(reuse)])

    assert found(True).where == "r/x and r/y" and not found(False).leak and found(False).n > 64
    assert fixed_differences([run(True)]).n == 0
    constant = [_words("r/z", secret)]
    assert fixed_differences([constant, constant]).where == "r/z in two runs"


@settings(max_examples=150)
@given(st.data())
def test_fixed_differences_are_those_of_every_window(data: st.DataObject) -> None:
    """Against the definition: at some place of the longer message, the xor with the shorter one is the same twice."""
    sizes = data.draw(st.lists(st.integers(8, 12), min_size=1, max_size=4))
    few = st.sampled_from([bytes(12), bytes(range(12)), b"\x01" * 12, bytes(range(11, -1, -1)), b"\x80" + bytes(11)])
    runs = [[_blob(f"r/{i}", data.draw(few)[:size]) for i, size in enumerate(sizes)] for _ in range(2)]

    def bits(message: Message) -> Any:
        return np.unpackbits(np.frombuffer(message.payload or b"", np.uint8), bitorder="little")

    def windows(long: Message, size: int) -> Any:
        return np.lib.stride_tricks.sliding_window_view(bits(long), size)

    hits = [f"r/{i} in two runs" for i in range(len(sizes)) if runs[0][i].payload == runs[1][i].payload]
    for i, j in combinations(range(len(sizes)), 2):
        short, long = sorted((i, j), key=lambda k: sizes[k])
        gaps = [windows(run[long], 8 * sizes[short]) ^ bits(run[short]) for run in runs]
        if (gaps[0] == gaps[1]).all(axis=1).any():
            hits.append(f"r/{i} and r/{j}")
    found = fixed_differences(runs)
    assert found.statistic == len(hits) and (not hits or found.where in hits)


def test_private_draws_are_found_where_their_owner_sends_them() -> None:
    tape = Tape(derive_key(b"seed", "client"), "client")
    private, public = tape.bytes("r1/secret", 32), tape.bytes("r1/he/a_public", 32)
    tapes = {CLIENT: tape}
    assert not shown_draws([_blob("r1/m", _fresh(7) + public, CLIENT)], tapes).leak
    assert shown_draws([_blob("r1/m", _fresh(7) + private, CLIENT)], tapes).where == "r1/secret in r1/m"
    assert not shown_draws([_blob("r1/m", private, SERVER)], tapes).leak
    assert shown_draws([], tapes).n == 1


def test_sessions_that_share_a_block_or_a_secret_are_found() -> None:
    block = _fresh(16)
    one, two = [_blob("r1/m", block + _fresh(16))], [_blob("r1/m", _fresh(16) + block)]
    assert same_in_two_sessions(one, two, SERVER).leak and not same_in_two_sessions(one, two, CLIENT).leak
    assert not same_in_two_sessions(one, [_blob("r1/m", _fresh(32))], SERVER).leak
    assert same_secrets({"s": b"x", "t": b"y"}, {"s": b"x", "t": b"z"}).where == "s"
    assert not same_secrets({"s": b"x"}, {}).leak


def test_a_watched_session_gives_the_same_words() -> None:
    case = PRODUCTS[0]
    watched = observe(Entry(two_products, (case,)), case, honest, 1, "watched")
    again = observe(Entry(two_products, (case,)), case, honest, 1, "watched")
    assert watched.executions[0].digest == again.executions[0].digest
    assert len(watched.ledgers) == 4
    assert not any(f.leak for f in (tweaks(watched.ledgers), correlations(watched.ledgers)))
    made = list(watched.executions)
    assert not hashed(watched.ledgers, made).leak and hashed(watched.ledgers, [*made, *made]).leak
