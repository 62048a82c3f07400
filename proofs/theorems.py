"""What is proved: for each protocol a contract, that is, its functionality over the closed operation set, with demands.

The functionalities of `protocols.functionalities` are numpy on integers; these are the same functions on ring arrays of
any interpretation. The two are held together by random lanes (a rung of every proof) and by the tests. A comparison is
written as the sign of a difference: where the difference could wrap, a demand excludes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

from proofs.elements import Elements
from proofs.hybrid import Contract, Demand
from proofs.smt import Answer, prove_equal
from proofs.symbolic import Dag
from protocols import functionalities as F
from protocols.model.tables import Table
from protocols.routing import spread_of
from protocols.select import ExpertWeights
from protocols.truncate import FAITHFUL
from sim.ring import Z2, Ring, RingArray, Spec, concat, stack


# -- words ------------------------------------------------------------------------------------------------------------
def non_negative(x: RingArray) -> RingArray:
    """[x >= 0], signed."""
    return ~x.bit(x.ring.l - 1)


def below(y: RingArray, x: RingArray) -> RingArray:
    """[y < x], unsigned."""
    l = x.ring.l
    if l < 64:
        wide = Ring(l + 1)
        return (y.cast(wide) - x.cast(wide)).bit(l)
    high, low = ((y.field(at, 32), x.field(at, 32)) for at in (32, 0))
    return below(*high) ^ (same(*high) & below(*low))


def same(y: RingArray, x: RingArray) -> RingArray:
    return (y - x).equals(0)


def floor_shift(x: RingArray, f: int) -> RingArray:
    """floor(x / 2^f), signed."""
    l = x.ring.l
    return x if f == 0 else ((x + (1 << (l - 1))) >> f) - (1 << (l - 1 - f))


def times(bit: RingArray, x: RingArray) -> RingArray:
    return bit.cast(x.ring) * x


def _spread(x: RingArray, shape: tuple[int, ...]) -> RingArray:
    return x.reshape(1, *x.shape).broadcast(*shape)


def _less_than(x: RingArray, y: RingArray, *, need_equal: bool = False, **_: Any) -> RingArray:
    wide = _spread(x, y.shape)
    return stack(below(y, wide), same(y, wide)) if need_equal else below(y, wide)


def _greater_than(x: RingArray, *, thresholds: Sequence[int], **_: Any) -> RingArray:
    return stack(*(non_negative(x - (t + 1)) for t in thresholds))


def _comparable(x: RingArray, *, thresholds: Sequence[int], **_: Any) -> list[Demand]:
    half = 1 << (x.ring.l - 1)
    low, high = max(-half, max(thresholds) + 1 - half), min(half - 1, min(thresholds) + half)
    return [Demand("differences to the thresholds do not wrap", x, low, high)]


def _conjoin(*groups: RingArray) -> list[RingArray]:
    pairs = zip(groups[0::2], groups[1::2], strict=True)
    return [left.reshape(*left.shape, 1).broadcast(*right.shape) & right for left, right in pairs]


def _truncate(x: RingArray, *, f: int, mode: str = FAITHFUL, **_: Any) -> RingArray:
    if mode != FAITHFUL:
        raise ValueError("one-ulp truncation is specified on shares: it is no contract")
    return floor_shift(x, f)


def _one_ulp(client: RingArray, server: RingArray, *, f: int, **_: Any) -> RingArray:
    """Floor less the carry of the shares' low bits; the client's share is offset by 2^(l-1), a multiple of 2^f."""
    wide = Ring(f + 1)
    carry = (client.field(0, f).cast(wide) + server.field(0, f).cast(wide)).bit(f)
    return floor_shift(client + server, f) - carry.cast(client.ring)


def _sign_known(x: RingArray, *, negative: bool = False, **_: Any) -> list[Demand]:
    half = 1 << (x.ring.l - 1)
    return [Demand("the sign is the declared one", x, *((-half, -1) if negative else (0, half - 1)))]


# -- functions --------------------------------------------------------------------------------------------------------
def _exp(x: RingArray, *, s: int, l: int, **_: Any) -> RingArray:
    scale, floor = F.guard_bits(s, l), F.EXP_FLOOR << s
    inside = non_negative(x - (floor + 1))
    above = times(inside, x - floor)
    shift = F.EXP_SQUARINGS - (scale - s)
    u = (above << -shift) + (floor << -shift) if shift <= 0 else floor_shift(above, shift) + (floor >> shift)
    v = u + floor_shift(u * u, scale + 1) + (1 << scale)
    for _round in range(F.EXP_SQUARINGS):
        v = floor_shift(v * v, scale)
    return times(inside, v)


def _exp_range(x: RingArray, *, l: int, **_: Any) -> list[Demand]:
    return [Demand("not positive, above -2^(l-2)", x, 1 - (1 << (l - 2)), 0)]


def _above(x: RingArray, scale: int, spread: int) -> RingArray:
    return _greater_than(x, thresholds=[(1 << (scale + i)) - 1 for i in range(1, spread + 1)])


def _descend(v: RingArray, above: RingArray, spread: int) -> RingArray:
    parts = stack(*(v << (spread - i) for i in range(1, spread + 1)))
    return (v << spread) - times(above, parts).sum(0)


def _reciprocal(x: RingArray, *, scale: int, spread: int, **_: Any) -> RingArray:
    above, one = _above(x, scale, spread), 1 << scale
    c = floor_shift(_descend(x, above, spread), spread + 1)
    w = -(c << 1) + F.reciprocal_start(scale)
    e = -floor_shift(c * w, scale) + one
    w = floor_shift(w * (e + one), scale)
    e = floor_shift(e * e, scale)
    w = floor_shift(w * (e + one), scale)
    return floor_shift(_descend(w, above, spread), spread + 1)


def normalised(x: RingArray, *, scale: int, spread: int, **_: Any) -> list[Demand]:
    """A lemma of the reciprocal: x, scaled by its leading bit, lies in [1/2, 1)."""
    above = _above(x, scale, spread)
    whole = _descend(x, above, spread)
    c = floor_shift(whole, spread + 1)
    top = 1 << (scale + spread)
    return [
        Demand("scaled by its leading bit", whole, top, 2 * top - 1),
        Demand("in [1/2, 1)", c, 1 << (scale - 1), (1 << scale) - 1),
    ]


def _reciprocal_range(x: RingArray, *, scale: int, spread: int, **_: Any) -> list[Demand]:
    return [Demand("between 1 and 2^spread", x, 1 << scale, 1 << (scale + spread))]


def _piecewise(x: RingArray, *, table: Table, s: int, **_: Any) -> RingArray:
    """The selected row, telescoped: row 0, and at each breakpoint below x the step to the next row."""
    breakpoints, rows = table.words(s)
    powers = [x]
    while len(powers) < table.degree:
        powers.append(floor_shift(powers[-1] * x, s))
    values = []
    for row in rows:
        y = x.const(row[0] << s, x.shape)
        for c, power in zip(row[1:], powers, strict=True):
            y = y + power * c
        values.append(y)
    above = _greater_than(x, thresholds=breakpoints)
    total = values[0]
    for j, (before, after) in enumerate(pairwise(values)):
        total = total + times(above[j], after - before)
    return floor_shift(total, s)


def _piecewise_range(x: RingArray, **_: Any) -> list[Demand]:
    bound = (1 << ((x.ring.l - 2) // 2)) - 1
    return [Demand("the square does not wrap", x, -bound, bound)]


# -- routing ----------------------------------------------------------------------------------------------------------
Run = tuple[RingArray, list[RingArray]]  # the maximum of a run of neighbours, and which of them it is


def merge(left: Run, right: Run) -> Run:
    """The maximum of two neighbouring runs; a tie keeps the left one."""
    difference = left[0] - right[0]
    keep = non_negative(difference)
    rows = [keep & hot for hot in left[1]] + [~keep & hot for hot in right[1]]
    return right[0] + times(keep, difference), rows


def _tournament(values: RingArray) -> Run:
    one = values.const(0, values.shape).cast(Z2) ^ 1
    runs: list[Run] = [(values[:, i], [one[:, i]]) for i in range(values.shape[1])]
    while len(runs) > 1:
        odd = [runs[-1]] if len(runs) % 2 else []
        runs = [merge(runs[i], runs[i + 1]) for i in range(0, len(runs) - 1, 2)] + odd
    return runs[0]


def _top_k(values: RingArray, *, k: int, l: int, **_: Any) -> tuple[RingArray, RingArray]:
    rest, winners, hots = values, [], []
    for _selection in range(k):
        winner, rows = _tournament(rest)
        hot = stack(*rows, axis=1)
        winners.append(winner)
        hots.append(hot)
        rest = rest + times(hot, -rest - (1 << (l - 2)))
    return stack(*winners, axis=1), stack(*hots, axis=1)


def _rankable(values: RingArray, *, l: int, **_: Any) -> list[Demand]:
    return [Demand("differences do not wrap", values, -(1 << (l - 2)), (1 << (l - 2)) - 1)]


def _one_hot(index: RingArray, *, E: int) -> RingArray:
    bits = index.shape[1]
    rows = []
    for e in range(E):
        digits = [index[:, j] if e >> j & 1 else ~index[:, j] for j in range(bits)]
        rows.append(reduce(lambda a, b: a & b, digits))
    return stack(*rows, axis=1)


def _probabilities(logits: RingArray, winners: RingArray, *, s: int, l: int, renormalise: bool, **_: Any) -> RingArray:
    batch, k = winners.shape
    if k == 1 and renormalise:
        return logits.const(1 << s, (batch, 1))
    scale, top = F.guard_bits(s, l), winners[:, :1]
    chosen = _exp(winners - top.broadcast(*winners.shape), s=s, l=l)
    counted = chosen if renormalise else _exp(logits - top.broadcast(*logits.shape), s=s, l=l)
    inverse = _reciprocal(counted.sum(1), scale=scale, spread=spread_of(counted.shape[1])).reshape(batch, 1)
    if k == 1:
        return floor_shift(inverse, scale - s)
    return floor_shift(chosen * inverse.broadcast(batch, k), 2 * scale - s)


def _ranked(logits: RingArray, winners: RingArray, *, l: int, **_: Any) -> list[Demand]:
    """The first winner is a largest logit, the others are not above it; differences fit the exponential."""
    both = concat(logits, winners, axis=1)
    top = winners[:, :1]
    apart = top.broadcast(*both.shape) - both
    hits = same(logits, top.broadcast(*logits.shape))
    misses = [~hits[:, i] for i in range(hits.shape[1])]
    return [
        Demand("the first winner is the largest", apart, 0, (1 << (l - 2)) - 1),
        Demand("the first winner is one of the logits", ~reduce(lambda a, b: a & b, misses), 1, 1),
    ]


# -- linear -----------------------------------------------------------------------------------------------------------
def _linear(x: RingArray, weights: RingArray, **_: Any) -> RingArray:
    return x @ weights.transpose()


def _selected(t: RingArray, x: RingArray, weights: RingArray) -> RingArray:
    """Row by row the sum over experts of t_e (W_e x)."""
    E, f, d = weights.shape
    rows = []
    for i in range(t.shape[0]):
        each = (weights.reshape(E * f, d) @ x[i].reshape(d, 1)).reshape(E, f)
        rows.append((t[i].reshape(1, E) @ each).reshape(f))
    return stack(*rows)


def _select_product(t: RingArray, x: RingArray, weights: RingArray, **_: Any) -> RingArray:
    return _selected(t, x, weights)


def _matrices(weights: Sequence[Any]) -> list[RingArray]:
    if isinstance(weights[0], ExpertWeights):
        return [w for w in (weights[0].w1, weights[0].v, weights[0].w2) if w is not None]
    return list(weights)


def _select_then_compute(t: RingArray, x: RingArray, *weights: Any, **public: Any) -> RingArray:
    """weights: W1, W2, or W1, V, W2; or the protocol's record of them."""
    w1, *gate, w2 = _matrices(weights)
    a, activation = public["arithmetic"], public["activation"]
    n, k, E = t.shape
    rows = t.reshape(n * k, E)
    states = stack(*(x[i // k] for i in range(n * k)))
    h = floor_shift(_selected(rows, states, w1), a.s)
    g = times(non_negative(h), h) if activation == "relu" else _piecewise(h, table=activation, s=a.s)
    for v in gate:
        g = floor_shift(g * floor_shift(_selected(rows, states, v), a.s), a.s)
    return floor_shift(_selected(rows, g, w2), a.s).reshape(n, k, -1)


def _hidden_range(t: RingArray, x: RingArray, *weights: Any, **public: Any) -> list[Demand]:
    if public["activation"] == "relu":
        return []
    w1 = _matrices(weights)[0]
    n, k, E = t.shape
    states = stack(*(x[i // k] for i in range(n * k)))
    h = floor_shift(_selected(t.reshape(n * k, E), states, w1), public["arithmetic"].s)
    return _piecewise_range(h)


def _moe(x: RingArray, residual: RingArray, router: RingArray, *experts: RingArray, plan: Any) -> RingArray:
    a, shape, l = plan.arithmetic, plan.shape, plan.params.ring_bits
    logits = floor_shift(_linear(x, router), a.s)
    winners, hot = _top_k(logits, k=shape.k, l=l)
    p = _probabilities(logits, winners, s=a.s, l=l, renormalise=shape.renormalise)
    y = _select_then_compute(hot.cast(x.ring), x, *experts, arithmetic=a, activation=plan.activation)
    mixed = (p.reshape(*p.shape, 1).broadcast(*y.shape) * y).sum(1)
    return residual + floor_shift(mixed, a.s)


# -- oblivious transfer -----------------------------------------------------------------------------------------------
def _choose(index: RingArray, table: RingArray, *, n_choices: int, **_: Any) -> RingArray:
    rows = []
    for i in range(n_choices):
        row = table[..., i, :]
        rows.append(index.equals(i).reshape(*index.shape, 1).broadcast(*row.shape) & row)
    return reduce(lambda a, b: a ^ b, rows)


CONTRACTS: dict[str, Contract] = {
    "reveal": Contract(lambda x: x),
    "conjoin": Contract(_conjoin),
    "b2a": Contract(lambda b, *, ring, **_: b.cast(ring)),
    "mux": Contract(times),
    "mux_public": Contract(lambda b, *, constants, ring: [b.cast(ring) * c for c in constants]),
    "less_than": Contract(_less_than),
    "drelu": Contract(lambda x, **_: non_negative(x)),
    "greater_than": Contract(_greater_than, _comparable),
    "truncate": Contract(_truncate),
    "truncate_known_sign": Contract(_truncate, _sign_known),
    "cross": Contract(lambda x, y, **_: x * y),
    "mul": Contract(lambda x, y: x * y),
    "square": Contract(lambda x: x * x),
    "relu": Contract(lambda x, **_: times(non_negative(x), x)),
    "exp": Contract(_exp, _exp_range),
    "reciprocal": Contract(_reciprocal, _reciprocal_range),
    "piecewise": Contract(_piecewise, _piecewise_range),
    "top_k": Contract(_top_k, _rankable),
    "one_hot": Contract(_one_hot),
    "probabilities": Contract(_probabilities, _ranked),
    "choose": Contract(_choose),
    "correlate": Contract(lambda bit, delta, **_: times(bit, delta)),
    "correlate_wide": Contract(lambda bit, *deltas, **_: [times(bit, d) for d in deltas]),
    "correlate_ragged": Contract(lambda bits, *deltas, **_: [times(bits[i], d) for i, d in enumerate(deltas)]),
    "linear": Contract(_linear),
    "select_product": Contract(_select_product),
    "select_then_compute": Contract(_select_then_compute, _hidden_range),
    "moe_layer": Contract(_moe),
    "plaintext_routing": Contract(_moe),
}
ONE_ULP_CONTRACT = Contract(_one_ulp)


def _triples(outputs: list[RingArray]) -> tuple[list[RingArray], list[RingArray]]:
    a, b, c = outputs
    return [c], [a.reshape(*a.shape, 1).broadcast(*b.shape) & b]


# Where outputs are random: what they are, and what they should be.
RELATIONS: dict[str, Callable[[list[RingArray]], tuple[list[RingArray], list[RingArray]]]] = {"bit_triples": _triples}


# -- cases of inputs --------------------------------------------------------------------------------------------------
Variant = Callable[[list[RingArray]], tuple[list[RingArray], list[Demand]]]


def cases_of(name: str, specs: Sequence[Spec], public: Mapping[str, Any]) -> list[Variant]:
    """Ways to write the secrets in leaves that together cover all secrets which satisfy the demands.

    Probabilities: one case for each expert that may hold the maximum; the leaves are the winner and differences to it.
    """
    if name != "probabilities":
        return [lambda leaves: (leaves, [])]

    def holding(j: int) -> Variant:
        def build(leaves: list[RingArray]) -> tuple[list[RingArray], list[Demand]]:
            apart, winners = leaves
            top, E, low = winners[:, :1], apart.shape[1], 1 - (1 << (public["l"] - 2))
            columns = [top if i == j else top + apart[:, i : i + 1] for i in range(E)]
            rest = [top + apart[:, (j + i) % E : (j + i) % E + 1] for i in range(1, winners.shape[1])]
            return [concat(*columns, axis=1), concat(top, *rest, axis=1)], [
                Demand("not above the winner", apart, low, 0)
            ]

        return build

    return [holding(j) for j in range(specs[0].shape[1])]


def merge_lemma(l: int, seconds: float) -> Answer:
    """The step of every tournament: merge keeps (max, its first place) of two neighbouring runs.

    For a, b in [-2^(l-2), 2^(l-2)): the merged pair is a's if a >= b as integers, else b's. All members of the left run
    stand before those of the right one, so the first maximum of both runs is the left one's exactly if a >= b; by
    induction over merges, any tournament in the original order gives the maximum and the lowest index that has it.
    """
    dag = Dag()
    a, b = (dag.leaf("secret", name, Spec(Ring(l), ())) for name in "ab")
    hot_a, hot_b = (dag.leaf("secret", name, Spec(Z2, ())) for name in ("hot_a", "hot_b"))
    half = 1 << (l - 1)
    left = ~below(a + half, b + half)
    value, rows = merge((a, [hot_a]), (b, [hot_b]))
    pairs = [(value, b + times(left, a - b)), (rows[0], left & hot_a), (rows[1], ~left & hot_b)]
    elements = Elements(dag)
    number = {id(x): int(elements.array(x.value).flat[0]) for pair in (*pairs, (a, b)) for x in pair}
    quarter = 1 << (l - 2)
    given = [(number[id(x)], -quarter, quarter - 1) for x in (a, b)]
    answers = [prove_equal(elements, number[id(x)], number[id(y)], given, (), seconds) for x, y in pairs]
    return next((answer for answer in answers if not answer.holds), answers[0])
