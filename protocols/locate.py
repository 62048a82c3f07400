"""Where a shared word lies among public thresholds that are close together in a wide ring."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from protocols import functionalities as F
from protocols.boolean import blank_group, conjoin
from protocols.compare import DIGIT, less_than
from protocols.sharing import invert
from sim.cost import FREE, Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, concat, stack
from sim.role import CLIENT


class ThresholdError(ValueError):
    """Thresholds that do not rise, or reach too far for their ring."""


def window_bits(thresholds: Sequence[int]) -> int:
    """m of the window: 2^m words behind the first threshold hold all the others; m >= 1."""
    return max(1, (thresholds[-1] - thresholds[0] - 1).bit_length())


def comparable(ring: Ring, thresholds: Sequence[int]) -> tuple[int, int]:
    """The least and the largest word over `ring` that `locate` places rightly among thresholds."""
    half, first = 1 << (ring.l - 1), thresholds[0]
    return max(-half, first + 1 + (1 << window_bits(thresholds)) - half), min(half - 1, first + half)


def _within(thresholds: Sequence[int]) -> list[int]:
    """The distances of later thresholds from the first one, those inside the window."""
    return [t - thresholds[0] for t in thresholds[1:] if t - thresholds[0] < 1 << window_bits(thresholds)]


def _locate_cost(x: RingArray, *, thresholds: Sequence[int], w: int = DIGIT) -> Cost:
    m, inner = window_bits(thresholds), len(_within(thresholds))
    low = less_than.declared(None, None, shape=x.shape, bits=m, fold=1 + inner, w=w)
    high = less_than.declared(None, None, shape=x.shape, bits=x.ring.l - m - 1, fold=2, w=w, need_equal=True)
    cost = (low | high) + conjoin.declared(*blank_group(x.shape, 2))
    return cost + (conjoin.declared(*blank_group(x.shape, inner)) if inner else FREE)


@protocol(realises=F.GREATER_THAN, cites="[SecMoE, CrypTFlow2]", cost=_locate_cost)
async def locate(p: Party, x: RingArray, *, thresholds: Sequence[int], w: int = DIGIT) -> RingArray:
    """Boolean shares of [x > b] for rising public thresholds b; shape (len(thresholds), *x.shape). As `greater_than`.

    x: over Z_{2^l}, signed, in the range `comparable`: with m = window_bits, x - b - 1 does not wrap for b = b_1, the
    first one, and b = b_1 + 2^m, beyond the last. The high l - m bits of z = x - b_1 - 1 say whether x lies below, in
    or above the window; only m bits of it meet the other thresholds, whose bits count where x lies in the window. The
    carry of the low bits is one of their comparisons. Exact. Raises ThresholdError where the thresholds do not rise, or
    l - m < 2.
    """
    l, m, first = x.ring.l, window_bits(thresholds), thresholds[0]
    if any(b <= a for a, b in pairwise(thresholds)) or l - m < 2:
        raise ThresholdError(f"thresholds in {x.ring}: expected rising ones within 2^{l - 2}, got {list(thresholds)}")
    distances = _within(thresholds)
    client, low_ring, top_ring = p.role is CLIENT, Ring(m), Ring(l - m - 1)
    z = x if client else x - (first + 1)
    lows = concat(*(_row(z if client else z - t) for t in (0, *distances)))
    highs = concat(*(_row((z >> m) - (0 if client else i)) for i in (0, 1)))
    low, high = await p.gather(
        less_than(p, *_sides(z, lows, low_ring, client), shape=x.shape, bits=m, fold=1 + len(distances), w=w),
        less_than(p, *_sides(z >> m, highs, top_ring, client), shape=x.shape, bits=top_ring.l, fold=2, w=w,
                  need_equal=True),
    )  # fmt: skip
    (passed,) = await conjoin(p, low[0], stack(high[1][0], high[1][1], axis=-1))
    beyond = invert(p, highs.bit(top_ring.l) ^ high[0] ^ stack(passed[..., 0], passed[..., 1]))
    above, over = beyond[0], beyond[1]
    found = [above]
    if distances:
        reached = invert(p, lows.bit(m) ^ low)
        (inside,) = await conjoin(p, above ^ over, stack(*(reached[1 + i] for i in range(len(distances))), axis=-1))
        found += [over ^ inside[..., i] for i in range(len(distances))]
    return stack(*found, *[over] * (len(thresholds) - len(found)))


def _row(x: RingArray) -> RingArray:
    return x.reshape(1, *x.shape)


def _sides(x: RingArray, shifted: RingArray, ring: Ring, client: bool) -> tuple[RingArray | None, RingArray | None]:
    """The two sides of a comparison that gives the carries of x_C + shifted_S out of `ring`."""
    if client:
        return x.cast(ring), None
    return None, shifted.const(-1, shifted.shape).cast(ring) - shifted.cast(ring)
