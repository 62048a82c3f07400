"""Protocol 2: a piecewise polynomial by selecting its coefficients, for any table of segments and degrees.

Two forms of one functionality. `mux` is the published one: a one-hot segment from the comparison bits, the selected
row by multiplexing public constants, then products with the powers of x. `cheapest` multiplexes values: every row is
local in the powers of x, so a quadratic costs one square and one multiplexer per inner row, and no other product. Where
the outer rows are a constant and x itself (GELU, SiLU) or two constants, all else happens between the outer breakpoints
and is small: square, multiplexers and floors are in a narrow ring. Other tables telescope in x's own,
y = p_0(x) + sum_j [x > b_j] (p_j - p_{j-1})(x).
"""

from __future__ import annotations

from itertools import pairwise

from protocols import functionalities as F
from protocols.compare import DIGIT, greater_than
from protocols.convert import mux, mux_public
from protocols.inner_rows import InnerRows, inner_rows
from protocols.locate import locate
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


def narrow_rows(table: Table, s: int, form: str, ring: Ring) -> InnerRows | None:
    """What a form computes in a narrow ring, for x over `ring`; None where all is computed in x's own."""
    rows = inner_rows(table, s) if form == CHEAPEST else None
    return rows if rows is not None and rows.fits(ring) else None


def _narrow_cost(x: RingArray, rows: InnerRows, table: Table, s: int, mode: str, w: int, ring: Ring) -> Cost:
    product, value = (blank(Spec(Ring(bits or 1), x.shape)) for bits in (rows.powers, rows.sums))
    powers = FREE
    for exponent in range(2, table.degree + 1):
        powers += square.declared(product) if exponent == 2 else mul.declared(product, product)
        powers += truncate.declared(product, f=s, mode=mode, w=w, into=value.ring)
    wide = blank(Spec(value.ring, (len(rows.rows), *x.shape)))
    picked = mux.declared(wide, wide)
    floors = truncate_known_sign.declared(value, f=s, mode=mode, w=w, into=ring)
    if rows.linear:
        picked = picked | mux.declared(x, x)
        floors = floors | (truncate_known_sign.declared(x, f=0, into=ring) if ring.l > x.ring.l else FREE)
    return (locate.declared(x, thresholds=table.words(s)[0], w=w) | powers) + picked + floors


def _piecewise_cost(
    x: RingArray,
    *,
    table: Table,
    s: int,
    form: str = CHEAPEST,
    mode: str = FAITHFUL,
    w: int = DIGIT,
    into: Ring | None = None,
) -> Cost:
    narrow = narrow_rows(table, s, form, x.ring)
    if narrow is not None:
        return _narrow_cost(x, narrow, table, s, mode, w, into or x.ring)
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
    p: Party,
    x: RingArray,
    *,
    table: Table,
    s: int,
    form: str = CHEAPEST,
    mode: str = FAITHFUL,
    w: int = DIGIT,
    into: Ring | None = None,
) -> RingArray:
    """The table's polynomial at a shared x, s fractional bits, over Z_{2^l}; degree at least 1.

    Range: the selected row's value before its floor, at 2 s fractional bits, is below 2^(l-1) (for a row of slope 1:
    |x| < 2^(l-1-s) as a ring element). With narrow_rows x is one that `locate` places rightly among the breakpoints;
    without, |x - b| < 2^(l-1) for each of them, and x^2 < 2^(l-1) wherever the selected row has degree 2 or more
    (beyond, the square is undefined but cancels). Faithful: bit for bit F.PIECEWISE (powers floored one by one, then
    one floor). into: with narrow_rows, the Z_{2^l} of the result, where x is over a narrower ring, as that of a floor
    by s bits. Raises PolynomialForm.
    """
    if form not in FORMS:
        raise PolynomialForm(f"form of Protocol 2: expected one of {', '.join(FORMS)}, got {form!r}")
    narrow, ring = narrow_rows(table, s, form, x.ring), into or x.ring
    if narrow is not None:
        return await _within(p, x, narrow, table, s, mode, w, ring)
    if ring != x.ring:
        raise PolynomialForm(f"Protocol 2 over {x.ring} into {ring}: expected a table with narrow rows that fit there")
    breakpoints, rows = table.words(s)
    above, powers = await p.gather(
        greater_than(p, x, thresholds=breakpoints, w=w), _powers(p.child("powers"), x, table.degree, s, mode, w)
    )
    if form == CHEAPEST:
        y = await _telescope(p, above, powers, rows, s)
    else:
        y = await _select_row(p, above, powers, rows, s)
    return await truncate(p, y, f=s, mode=mode, w=w)


async def _within(
    p: Party, x: RingArray, rows: InnerRows, table: Table, s: int, mode: str, w: int, ring: Ring
) -> RingArray:
    """The inner rows in their narrow ring, beside the outer ones in x's."""
    above, powers = await p.gather(
        locate(p, x, thresholds=table.words(s)[0], w=w), _narrow_powers(p.child("powers"), x, rows, s, mode, w)
    )
    last = len(table.breakpoints) - 1
    segments = [above[j] ^ above[j + 1] for j in range(last)] + [above[last]] * (len(rows.rows) - last)
    values = [_evaluate(p, row, powers, s) for row in rows.rows]
    picked = [mux(p, stack(*segments), stack(*values))]
    if rows.linear:
        picked.append(mux(p, above[last], x))
    small, *outer = await p.gather(*picked)
    floors = [truncate_known_sign(p, plus(p, small.sum(0), rows.lift), f=s, mode=mode, w=w, into=ring)]
    if rows.linear and ring.l > x.ring.l:
        floors.append(truncate_known_sign(p, outer[0], f=0, into=ring))
        outer = []
    parts = [*await p.gather(*floors), *outer]
    return plus(p, sum(parts[1:], parts[0]), rows.base - (rows.lift >> s))


async def _narrow_powers(
    p: Party, x: RingArray, rows: InnerRows, s: int, mode: str, w: int
) -> list[RingArray]:
    """x, x^2, .. over the ring of the sums: right between the outer breakpoints, and some words beyond."""
    ring, powers = Ring(rows.sums), [x.cast(Ring(rows.sums))]
    for exponent, centre in enumerate(rows.centres, start=2):
        factor = x.cast(Ring(rows.powers))
        product = await (square(p, factor) if exponent == 2 else mul(p, powers[-1].cast(factor.ring), factor))
        floor = await truncate(p, plus(p, product, centre), f=s, mode=mode, w=w, into=ring)
        powers.append(plus(p, floor, -(centre >> s)))
    return powers


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
