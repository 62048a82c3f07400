"""Protocol 2: a piecewise polynomial by selecting its coefficients, for any table of segments and degrees.

Two forms of one functionality. `mux` is the published one: a one-hot segment from the comparison bits, the selected
row by multiplexing public constants, then products with the powers of x. `cheapest` telescopes,
y = p_0(x) + sum_j [x > b_j] (p_j - p_{j-1})(x): every p_j is local in the powers of x, so a quadratic costs one square
and one multiplexer per breakpoint, and no other product.
"""

from __future__ import annotations

from itertools import pairwise

from protocols import functionalities as F
from protocols.compare import DIGIT, greater_than
from protocols.convert import mux, mux_public
from protocols.model.tables import Table
from protocols.products import mul, square
from protocols.sharing import invert, plus
from protocols.truncate import FAITHFUL, truncate, truncate_known_sign
from sim.cost import FREE, Cost, together
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, stack
from sim.shapes import blank

CHEAPEST = "cheapest"
MUX = "mux"
FORMS = (CHEAPEST, MUX)


class PolynomialForm(ValueError):
    """An unknown form of Protocol 2."""


def _powers_cost(x: RingArray, degree: int, s: int, mode: str, w: int) -> Cost:
    cost = FREE
    for exponent in range(2, degree + 1):
        if exponent == 2:
            cost += square.declared(x) + truncate_known_sign.declared(x, f=s, mode=mode, w=w)
        else:
            cost += mul.declared(x, x) + truncate.declared(x, f=s, mode=mode, w=w)
    return cost


def _constants(row: tuple[int, ...]) -> list[tuple[int, int]]:
    """The (degree, coefficient) pairs of a row that are not zero."""
    return [(degree, c) for degree, c in enumerate(row) if c]


def _piecewise_cost(
    x: RingArray, *, table: Table, s: int, form: str = CHEAPEST, mode: str = FAITHFUL, w: int = DIGIT
) -> Cost:
    breakpoints, rows = table.words(s)
    bits = blank(Spec(Ring(1), (len(breakpoints), *x.shape)))
    wide = blank(Spec(x.ring, (len(breakpoints), *x.shape)))
    cost = greater_than.declared(x, thresholds=breakpoints, w=w) | _powers_cost(x, table.degree, s, mode, w)
    if form == CHEAPEST:
        cost += mux.declared(bits, wide)
    else:
        bit = blank(Spec(Ring(1), x.shape))
        cost += together(
            *(mux_public.declared(bit, constants=[c for _, c in _constants(r)], ring=x.ring) for r in rows if any(r))
        )
        deep = blank(Spec(x.ring, (table.degree, *x.shape)))
        cost += mul.declared(deep, deep)
    return cost + truncate.declared(x, f=s, mode=mode, w=w)


@protocol(realises=F.PIECEWISE, cites="[SecMoE] Protocol 2", cost=_piecewise_cost)
async def piecewise(
    p: Party, x: RingArray, *, table: Table, s: int, form: str = CHEAPEST, mode: str = FAITHFUL, w: int = DIGIT
) -> RingArray:
    """The table's polynomial at a shared x, s fractional bits, over Z_{2^l}; degree at least 1.

    Range: the selected row's value before its floor, at 2 s fractional bits, is below 2^(l-1) (for a row of slope 1:
    |x| < 2^(l-1-s) as a ring element), and x^2 < 2^(l-1) wherever the selected row has degree 2 or more; beyond, the
    square is undefined but cancels. Faithful: bit for bit F.PIECEWISE (powers floored one by one, then one floor).
    """
    if form not in FORMS:
        raise PolynomialForm(f"form of Protocol 2: expected one of {', '.join(FORMS)}, got {form!r}")
    breakpoints, rows = table.words(s)
    above, powers = await p.gather(
        greater_than(p, x, thresholds=breakpoints, w=w), _powers(p.child("powers"), x, table.degree, s, mode, w)
    )
    if form == CHEAPEST:
        y = await _telescope(p, above, powers, rows, s)
    else:
        y = await _select_row(p, above, powers, rows, s)
    return await truncate(p, y, f=s, mode=mode, w=w)


async def _powers(p: Party, x: RingArray, degree: int, s: int, mode: str, w: int) -> list[RingArray]:
    """x, x^2, .. x^degree, each floored to s fractional bits."""
    powers = [x]
    for exponent in range(2, degree + 1):
        if exponent == 2:
            product = await square(p, x)
            powers.append(await truncate_known_sign(p, product, f=s, mode=mode, w=w))
        else:
            powers.append(await truncate(p, await mul(p, powers[-1], x), f=s, mode=mode, w=w))
    return powers


def _evaluate(p: Party, row: tuple[int, ...], powers: list[RingArray], s: int) -> RingArray:
    """A public polynomial at 2 s fractional bits; local."""
    y = powers[0] * row[1]
    for c, power in zip(row[2:], powers[1:], strict=True):
        y = y + power * c
    return plus(p, y, row[0] << s)


async def _telescope(
    p: Party, above: RingArray, powers: list[RingArray], rows: tuple[tuple[int, ...], ...], s: int
) -> RingArray:
    values = [_evaluate(p, row, powers, s) for row in rows]
    steps = stack(*(after - before for before, after in pairwise(values)))
    return values[0] + (await mux(p, above, steps)).sum(0)


async def _select_row(
    p: Party, above: RingArray, powers: list[RingArray], rows: tuple[tuple[int, ...], ...], s: int
) -> RingArray:
    last = above.shape[0] - 1
    segments = [invert(p, above[0])]
    segments += [above[j] ^ above[j + 1] for j in range(last)] + [above[last]]
    ring = powers[0].ring
    chosen = [(segment, _constants(row)) for segment, row in zip(segments, rows, strict=True) if any(row)]
    shares = await p.gather(
        *(mux_public(p, segment, constants=[c for _, c in terms], ring=ring) for segment, terms in chosen)
    )
    coefficients = [powers[0] - powers[0] for _ in rows[0]]
    for (_, terms), parts in zip(chosen, shares, strict=True):
        for (degree, _), share in zip(terms, parts, strict=True):
            coefficients[degree] = coefficients[degree] + share
    products = await mul(p, stack(*coefficients[1:]), stack(*powers))
    return (coefficients[0] << s) + products.sum(0)
