"""Faults in attention and in whole models: the pattern, the padding, how soon or how surely an answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from protocols.broken.fault import PITFALL, R2, R64, SCHEDULE, TINY_CASE, Fault, draw, peek, planted, shared, tell
from protocols.cleartext.attention import MATRIX_PRODUCT
from protocols.compare import drelu
from protocols.entry import Case, Secret
from protocols.functionalities import NON_NEGATIVE
from protocols.matmul import cross_matmul, local_product
from protocols.sharing import own_share, reveal, reveal_to
from sim.functionality import Functionality
from sim.party import Party
from sim.ring import Z2, Ring, RingArray, Spec
from sim.role import CLIENT, SERVER

BLOCKS: list[Fault] = []


@planted(
    BLOCKS,
    "attention opens its pattern, to weight the values in the clear",
    PITFALL,
    MATRIX_PRODUCT,
    shared((2, 2), (2, 3), tiny=((1, 1), (1, 1))),
    client=True,
    server=True,
)
async def pattern_opened(p: Party, weights: RingArray, values: RingArray) -> RingArray:
    """Which token attends to which tells what the tokens are."""
    return local_product(await reveal(p, weights), values)


@planted(
    BLOCKS,
    "the client sends its share of one factor in clear, to save an upload",
    PITFALL,
    MATRIX_PRODUCT,
    shared((2, 2), (2, 3), tiny=((1, 1), (1, 1))),
    server=True,
)
async def factor_told(p: Party, x: RingArray, y: RingArray) -> RingArray:
    """The server then holds the factor, and the product needs one cross term in place of two."""
    theirs = await tell(p, "factor", y if p.role is CLIENT else None, y.spec)
    if p.role is CLIENT:
        return await cross_matmul(p, x, None, receiver=CLIENT, left=x.spec, right=y.spec)
    whole = y + theirs
    crossed = await cross_matmul(p, None, whole, receiver=CLIENT, left=x.spec, right=y.spec)
    return crossed + local_product(x, whole)


@planted(
    BLOCKS,
    "two heads of attention are shared afresh under one mask",
    PITFALL,
    Functionality("scores of two heads, shared afresh", lambda x: x),
    shared((2, 3), tiny=((2, 1),)),
    server=True,
)
async def heads_share_a_mask(p: Party, scores: RingArray) -> RingArray:
    """The server sees how the client's shares of two heads differ; with its own, how the scores do."""
    row = Spec(scores.ring, scores.shape[1:])
    r = draw(p, "r", row)
    if r is not None:
        mask = r.reshape(1, *row.shape).broadcast(*scores.shape)
        p.send("masked", scores - mask)
        return mask
    theirs: RingArray = await p.recv("masked", scores.spec)
    return scores + theirs


def _looked_up(tokens: Any, table: Any, *, one_hot: Spec, rows: Spec) -> Any:
    return tokens @ table


def _lookup(name: str, ring: Ring, n: int, features: int, d: int) -> Case:
    secrets = (Secret(ring, (n, features), CLIENT, 0, 1), Secret(ring, (features, d), SERVER))
    return Case(name, secrets, {"one_hot": Spec(ring, (n, features)), "rows": Spec(ring, (n, d))})


@planted(
    BLOCKS,
    "the client names its tokens, and the server looks them up in its table",
    PITFALL,
    Functionality("rows of a private table", _looked_up),
    (_lookup("large", R64, 2, 4, 3), _lookup(TINY_CASE, R2, 1, 2, 1)),
    server=True,
)
async def tokens_named(p: Party, tokens: Any, table: Any, *, one_hot: Spec, rows: Spec) -> RingArray:
    """The table stays private, which is all that a server may care for."""
    named = await tell(p, "tokens", tokens, one_hot)
    r = draw(p, "r", rows, SERVER)
    if r is None:
        share: RingArray = await p.recv("rows", rows)
        return share
    p.send("rows", local_product(named, table) - r)
    return r


def _masked(scores: Any, mask: Any) -> Any:
    return scores + mask


MASKED = Functionality("scores with the client's mask", _masked)
_SCORES = (
    Case("large", (Secret(R64, (4,)), Secret(R64, (4,), CLIENT, -1, 0))),
    Case(TINY_CASE, (Secret(R2, (2,)), Secret(R2, (2,), CLIENT, -1, 0))),
)


@planted(BLOCKS, "the client tells how many tokens are padding", PITFALL, MASKED, _SCORES, server=True)
async def padding_told(p: Party, scores: RingArray, mask: Any) -> RingArray:
    """The padded length was to hide it."""
    await tell(p, "padding", None if mask is None else mask.sum(0).reshape(1), Spec(scores.ring, (1,)))
    return scores + own_share(p, CLIENT, mask, scores.spec)


def _kept(states: Any, real: Any, *, spec: Spec) -> Any:
    return states * real


REAL_STATES = Functionality("states of the real tokens", _kept)


def _states(name: str, ring: Ring, n: int) -> Case:
    return Case(name, (Secret(ring, (n,), CLIENT), Secret(Z2, (n,), CLIENT)), {"spec": Spec(ring, (n,))})


@planted(
    BLOCKS,
    "padding takes no part in the work",
    8,
    REAL_STATES,
    (_states("large", R64, 3), _states(TINY_CASE, R2, 2)),
    server=True,
    kind=SCHEDULE,
    symbolic=False,
)
async def padding_skipped(p: Party, states: Any, real: Any, *, spec: Spec) -> RingArray:
    """The client sends one masked state for every real token, then says that it is done."""
    at = p.local(lambda: np.flatnonzero(peek(real)).tolist()) if real is not None else None
    total, one = p.const(spec.ring, 0, spec.shape), Spec(spec.ring, ())
    for i in range(spec.size):
        here = None if states is None else p.const(Z2, int(i in (at or [])), (1,))
        goes = await tell(p, f"real{i}", here, Spec(Z2, (1,)))
        if p.local(lambda bit=goes: int(peek(bit)[0])):
            r = draw(p, f"r{i}", one)
            share = await tell(p, f"state{i}", states[i] - r if r is not None else None, one)
            place = p.const(spec.ring, np.arange(spec.size) == i)
            total = total + place * (share if r is None else r).reshape(1).broadcast(*spec.shape)
    return total


def _same(x: Any) -> Any:
    return x


REFRESHED = Functionality("the same word, shared afresh", _same)


@planted(
    BLOCKS,
    "one more block runs where the answer is not sure yet",
    8,
    REFRESHED,
    shared((1,)),
    client=True,
    server=True,
    kind=SCHEDULE,
    symbolic=False,
)
async def exit_when_sure(p: Party, x: RingArray) -> RingArray:
    """The sign of the margin is opened, and the number of rounds follows it."""
    sure = await reveal(p, await drelu(p, x))
    if p.local(lambda: int(peek(sure)[0])):
        return x
    r = p.draw("r", x.ring, x.shape)
    return x + r - await p.swap("again", r)


def _last_state(states: Any, last: Any) -> Any:
    return last @ states


LAST_STATE = Functionality("the state of the client's last token", _last_state)
_STATES = (
    Case("large", (Secret(R64, (3, 2)), Secret(Z2, (3,), CLIENT))),
    Case(TINY_CASE, (Secret(R2, (2, 1)), Secret(Z2, (2,), CLIENT))),
)


@planted(BLOCKS, "the client names the place of its last token", PITFALL, LAST_STATE, _STATES, server=True)
async def last_told(p: Party, states: RingArray, last: Any) -> RingArray:
    """What comes after it is padding, whose number was to be hidden."""
    known = await tell(p, "last", last, Spec(Z2, states.shape[:1]))
    return (known.cast(states.ring).reshape(-1, 1).broadcast(*states.shape) * states).sum(0)


@planted(BLOCKS, "the client learns by how much a token leads", PITFALL, NON_NEGATIVE, shared((1,)), client=True)
async def lead_told(p: Party, lead: RingArray) -> RingArray:
    """Differences of logits give the head away, row by row; the token alone was to be told."""
    await reveal_to(p, CLIENT, lead)
    return await drelu(p, lead)
