"""Comparison of private and shared words: the millionaires' protocol of CrypTFlow2 with correlated AND trees.

The receiver's digits choose in one 1-of-2^w OT per digit; the sender's table carries (less, equal) for each possible
digit; a logarithmic tree joins digits, less = less_hi xor (equal_hi and less_lo), equal = equal_hi and equal_lo.
The digit width w is a public parameter: 3 sends least but for 2, which takes more rounds; 4 saves one round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols import functionalities as F
from protocols.boolean import blank_group, conjoin
from protocols.ot.chosen import choose
from protocols.sharing import invert
from sim.cost import FREE, Cost, together
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Shape, concat, stack
from sim.role import CLIENT, Role

DIGIT = 3


@dataclass(frozen=True)
class Digits:
    """How a word of so many bits splits: a top digit, full middle digits, and the lowest digit (bits, high to low)."""

    widths: tuple[int, ...]

    @classmethod
    def of(cls, bits: int, w: int) -> Digits:
        if not 1 <= w <= 8 or bits < 1:
            raise ValueError(f"digits: expected 1 <= w <= 8 and bits >= 1, got w = {w}, bits = {bits}")
        top = bits % w
        return cls(((top,) if top else ()) + (w,) * (bits // w))

    def groups(self, need_equal: bool) -> list[tuple[int, int, int, bool]]:
        """Runs of digits served by one OT call: (first bit position, width, count, carries equal)."""
        lows, position = [], sum(self.widths)
        for width in self.widths:
            position -= width
            lows.append((position, width))
        if need_equal:
            kinds = [(low, width, True) for low, width in lows]
        else:
            kinds = [(low, width, True) for low, width in lows[:-1]] + [(*lows[-1], False)]
        runs: list[tuple[int, int, int, bool]] = []
        for low, width, equal in kinds:
            if runs and runs[-1][1] == width and runs[-1][3] == equal:
                first, _, count, _ = runs[-1]
                runs[-1] = (first - width, width, count + 1, equal)
            else:
                runs.append((low, width, 1, equal))
        return runs


def _table(y: RingArray, width: int, equal: bool) -> RingArray:
    """Rows i = 0 .. 2^width - 1 of ([y < i], [y = i]) for each digit y; shape (*y.shape, 2^width, 1 or 2)."""
    hits = [y.equals(i) for i in range(1 << width)]
    below = hits[0] ^ hits[0]
    rows = []
    for hit in hits:
        rows.append(stack(below, hit, axis=-1) if equal else below.reshape(*below.shape, 1))
        below = below ^ hit
    return stack(*rows, axis=-2)


def _less_than_cost(
    x: RingArray | None,
    y: RingArray | None,
    *,
    shape: Shape,
    bits: int,
    fold: int = 1,
    w: int = DIGIT,
    receiver: Role = CLIENT,
    need_equal: bool = False,
) -> Cost:
    digits = Digits.of(bits, w)
    ots = [
        choose.declared(receiver, None, None, shape=(count, *shape), n_choices=1 << width, width=fold * (1 + equal))
        for _, width, count, equal in digits.groups(need_equal)
    ]
    return together(*ots) + tree_cost(len(digits.widths), (fold, *shape), need_equal)


def tree_cost(leaves: int, shape: Shape, need_equal: bool) -> Cost:
    """The AND tree over `leaves` digits; the lowest node of each level is single unless equality is needed too."""
    cost = FREE
    while leaves > 1:
        pairs = leaves // 2
        full = pairs if need_equal else pairs - 1
        blanks: list[RingArray] = []
        if full:
            blanks += blank_group((full, *shape), 2)
        if not need_equal:
            blanks += blank_group(shape, 1)
        cost, leaves = cost + conjoin.declared(*blanks), leaves - pairs
    return cost


@protocol(realises=F.LESS_THAN, cites="[CrypTFlow2] Algorithm 1", cost=_less_than_cost)
async def less_than(
    p: Party,
    x: RingArray | None,
    y: RingArray | None,
    *,
    shape: Shape,
    bits: int,
    fold: int = 1,
    w: int = DIGIT,
    receiver: Role = CLIENT,
    need_equal: bool = False,
) -> RingArray:
    """Boolean shares of [y < x], x known to the receiver, y to the sender.

    x: over Z_{2^bits}, shape `shape`, at the receiver (None at its peer). y: shape (fold, *shape) at the sender: `fold`
    values are compared with the same x by one choice. Returns Z_2 of shape (fold, *shape); with need_equal a stack
    (2, fold, *shape) of [y < x] and [y = x]. Exact. 2 + ceil(log2 digits) flights.
    """
    mine = p.role is receiver
    digits = Digits.of(bits, w)
    groups = digits.groups(need_equal)
    calls = []
    for low, width, count, equal in groups:
        positions = [low + width * (count - 1 - i) for i in range(count)]
        index = stack(*(x.field(at, width) for at in positions)) if mine and x is not None else None
        table = None
        if not mine and y is not None:
            parts = stack(*(y.field(at, width) for at in positions))  # (count, fold, *shape)
            rows = _table(parts, width, equal)  # (count, fold, *shape, N, 1 + equal)
            nd = len(shape)
            axes = (0, *range(2, 2 + nd), 2 + nd, 1, 3 + nd)
            table = rows.transpose(*axes).reshape(count, *shape, 1 << width, fold * (1 + equal))
        calls.append(
            choose(p, receiver, index, table, shape=(count, *shape), n_choices=1 << width, width=fold * (1 + equal))
        )
    outputs = await p.gather(*calls)
    pieces_lt, pieces_eq = [], []
    for (_, _, count, equal), out in zip(groups, outputs, strict=True):
        nd = len(shape)
        split = out.reshape(count, *shape, fold, 1 + equal).transpose(nd + 2, 0, nd + 1, *range(1, nd + 1))
        pieces_lt.append(split[0])
        if equal:
            pieces_eq.append(split[1])
    lt = concat(*pieces_lt)  # (digits, fold, *shape), high to low
    eq = concat(*pieces_eq) if pieces_eq else None
    return await join_digits(p, lt, eq, need_equal=need_equal)


async def join_digits(p: Party, lt: RingArray, eq: RingArray | None, *, need_equal: bool) -> RingArray:
    """The AND tree. lt: (D, *S) from high to low; eq: (D, *S), or (D - 1, *S) when the lowest digit has none."""
    while lt.shape[0] > 1 and eq is not None:
        odd = lt.shape[0] % 2
        pairs = lt.shape[0] // 2
        hi_lt, lo_lt = lt[odd::2], lt[odd + 1 :: 2]
        hi_eq, lo_eq = eq[odd::2], eq[odd + 1 :: 2]
        full = pairs if need_equal else pairs - 1
        groups = []
        if full:
            groups += [hi_eq[:full], stack(lo_lt[:full], lo_eq[:full], axis=-1)]
        if not need_equal:
            last = lo_lt[full]
            groups += [hi_eq[full], last.reshape(*last.shape, 1)]
        joined = await conjoin(p, *groups)
        carry = [joined[0][..., 0]] if full else []
        if not need_equal:
            single = joined[-1][..., 0]
            carry.append(single.reshape(1, *single.shape))
        lt = concat(*([lt[:1]] if odd else []), hi_lt ^ concat(*carry))
        eqs = ([eq[:1]] if odd else []) + ([joined[0][..., 1]] if full else [])
        eq = concat(*eqs) if eqs else None
    if need_equal and eq is not None:
        return stack(lt[0], eq[0])
    return lt[0]


def _non_negative_cost(x: RingArray, *, w: int = DIGIT) -> Cost:
    return less_than.declared(None, None, shape=x.shape, bits=x.ring.l - 1, w=w)


@protocol(realises=F.NON_NEGATIVE, cites="[CrypTFlow2] Algorithm 2", cost=_non_negative_cost)
async def drelu(p: Party, x: RingArray, *, w: int = DIGIT) -> RingArray:
    """Boolean shares of [x >= 0] for x over Z_{2^l}, l >= 2, read as signed. Exact for every x."""
    thresholds = await _non_negative(p, x, x.reshape(1, *x.shape), w)
    return thresholds[0]


async def _non_negative(p: Party, x: RingArray, shifted: RingArray, w: int) -> RingArray:
    """[z_j >= 0] where the client's share of every z_j is x, and the server's are shifted (fold, *shape)."""
    low = Ring(x.ring.l - 1)
    client = p.role is CLIENT
    carry = await less_than(
        p,
        x.cast(low) if client else None,
        None if client else shifted.const(-1, shifted.shape).cast(low) - shifted.cast(low),
        shape=x.shape,
        bits=low.l,
        fold=shifted.shape[0],
        w=w,
    )
    top = x.bit(low.l).reshape(1, *x.shape).broadcast(*shifted.shape) if client else shifted.bit(low.l)
    return invert(p, top ^ carry)


def _greater_cost(x: RingArray, *, thresholds: Sequence[int], w: int = DIGIT) -> Cost:
    return less_than.declared(None, None, shape=x.shape, bits=x.ring.l - 1, fold=len(thresholds), w=w)


@protocol(realises=F.GREATER_THAN, cites="[SecMoE] Protocol 2", cost=_greater_cost)
async def greater_than(p: Party, x: RingArray, *, thresholds: Sequence[int], w: int = DIGIT) -> RingArray:
    """Boolean shares of [x > b] for several public thresholds b at once; shape (len(thresholds), *x.shape).

    x: over Z_{2^l}, signed; |x - b| < 2^(l-1) for every b. The client's digits choose once for all thresholds. Exact.
    """
    each = x.reshape(1, *x.shape)
    shifted = concat(*(each - (b + 1) for b in thresholds)) if p.role is not CLIENT else None
    if shifted is None:
        shifted = concat(*(each for _ in thresholds))
    return await _non_negative(p, x, shifted, w)
