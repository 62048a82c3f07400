"""Where the values of terms lie: arcs of Z_{2^l}, from demands on the inputs, by interval arithmetic with cases.

An arc (low, high) says that a value is congruent to an integer in [low, high] modulo 2^l. Arcs are kept by normal form:
what the specification shows of a value holds of every term of the protocol that computes the same value, masks or not.
A form in few bits is bounded pattern by pattern; in a pattern, a sign bit of (word + constant) narrows the word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from proofs.elements import LEAF, Elements
from proofs.normal_form import BIT, EXT, NAMED, SHR, Atom, Form, Monomial, Normaliser
from proofs.symbolic import CONST

Arc = tuple[int, int]
Number = int | Fraction
Poly = dict[Monomial, int]
Ends = tuple[Number, Number]
MANY_BITS = 8
MANY_TERMS = 400
FEW_TERMS = 40


def _full(l: int) -> Arc:
    return 0, (1 << l) - 1


def _at(arc: Arc, l: int, low: int) -> Arc | None:
    """The arc moved by a multiple of 2^l into [low, low + 2^l), if it fits there."""
    shift = (arc[0] - low) >> l << l
    moved = (arc[0] - shift, arc[1] - shift)
    return moved if moved[1] < low + (1 << l) else None


def signed(arc: Arc, l: int) -> Arc | None:
    """As signed integers (bits: 0 and 1), if it does not cross the end."""
    return _at(arc, l, 0 if l == 1 else -(1 << (l - 1)))


def _inside(arc: Arc, l: int, low: int, high: int) -> bool:
    whole = signed(arc, l)
    return whole is not None and low <= whole[0] and whole[1] <= high


def _narrow(low: int, high: int, l: int) -> Arc:
    return (low, high) if high - low < 1 << l else _full(l)


def _better(a: Arc, b: Arc, l: int) -> Arc:
    """The intersection of two arcs of one value where both have signed form, else the shorter one."""
    p, q = signed(a, l), signed(b, l)
    if p is not None and q is not None and max(p[0], q[0]) <= min(p[1], q[1]):
        return max(p[0], q[0]), min(p[1], q[1])
    return a if a[1] - a[0] <= b[1] - b[0] else b


def _times(a: Ends, b: Ends) -> Ends:
    ends = [x * y for x in a for y in b]
    return min(ends), max(ends)


class Bounds:
    """Arcs of terms and forms of one proof."""

    def __init__(self, elements: Elements, normal: Normaliser) -> None:
        self.elements, self.normal = elements, normal
        self.known: dict[Form, Arc] = {}
        self._terms: dict[int, Arc] = {}
        self._signs: dict[Form, list[tuple[int, int]]] = {}
        normal.forms.on_sign = self._order

    def assume(self, number: int, low: int, high: int) -> None:
        """Take as given that a term lies in [low, high]."""
        form = self.normal.form(number)
        if form.constant is None:
            self.known[form] = _better((low, high), self.known.get(form, _full(form.l)), form.l)

    def within(self, number: int, low: int, high: int) -> bool:
        """Whether a term is shown to lie in [low, high], signed."""
        return _inside(self.arc(number), self.elements.terms[number].l, low, high)

    def given(self, number: int, low: int, high: int) -> bool:
        """Whether that is known of its form already, by assumption or from terms looked at before."""
        known = self.known.get(self.normal.form(number))
        return known is not None and _inside(known, self.elements.terms[number].l, low, high)

    def arc(self, number: int) -> Arc:
        """Of a term: by its structure, by its form, and by what is known of that form."""
        for n in self.elements.missing(number, self._terms):
            l, form = self.elements.terms[n].l, self.normal.form(n)
            best = _better(self._structural(n), self.of_form(form), l)
            self._terms[n] = best
            if form.constant is None:
                self.known[form] = _better(best, self.known[form], l)
        return self._terms[number]

    def _structural(self, number: int) -> Arc:
        term = self.elements.terms[number]
        l, args = term.l, [self._terms[a] for a in term.args]
        if term.op == CONST:
            return term.params[0], term.params[0]
        if term.op in ("add", "sub"):
            (a, b), (c, d) = args
            return _narrow(a + c, b + d, l) if term.op == "add" else _narrow(a - d, b - c, l)
        if term.op == "neg":
            return -args[0][1], -args[0][0]
        if term.op == "mul":
            left, right = (signed(arc, l) or _full(l) for arc in args)
            low, high = _times(left, right)
            if term.args[0] == term.args[1]:
                low = max(low, 0)
            return _narrow(int(low), int(high), l)
        if term.op == "shl":
            arc = signed(args[0], l) or _full(l)
            return _narrow(arc[0] << term.params[0], arc[1] << term.params[0], l)
        if term.op in ("shr", "cast"):
            source = self.elements.terms[term.args[0]].l
            arc = _at(args[0], source, 0) or _full(source)
            if term.op == "shr":
                return arc[0] >> term.params[0], arc[1] >> term.params[0]
            return arc if l >= source or arc[1] >> l == 0 else _full(l)
        return _full(l)

    # -- forms -----------------------------------------------------------------------------------------------------
    def of_form(self, form: Form) -> Arc:
        if form.constant is not None:
            return form.constant, form.constant
        if form not in self.known:
            self.known[form] = _full(form.l)  # meanwhile
            self.known[form] = self._bounded(form) if len(form.terms) <= MANY_TERMS else _full(form.l)
        return self.known[form]

    def _atom(self, atom: int, l: int) -> Arc:
        """Of an atom where it stands in a form of width l; beyond its own width only its true integer value counts."""
        node = self.normal.forms.atoms[atom]
        if node.op == LEAF:
            arc = self.known.get(self.normal.forms.single(node.width, atom), _full(node.width))
        elif node.op == NAMED and node.width > 1:
            arc = self.of_form(node.args[0])
        elif node.op in (SHR, EXT):
            inner = node.args[0]
            whole = _at(self.of_form(inner), inner.l, 0) or _full(inner.l)
            shift = node.params[0] if node.op == SHR else 0
            arc = whole[0] >> shift, whole[1] >> shift
        else:
            arc = _full(node.width)
        return arc if l <= node.width else _at(arc, node.width, 0) or _full(node.width)

    def _bounded(self, form: Form) -> Arc:
        half = 1 << (form.l - 1)
        poly: Poly = {m: c - (c > half) * 2 * half for m, c in form.terms.items()}
        poly = self._gathered(poly, form.l)
        plain = self._by_cases(poly, form.l)
        relaxed, scale, below, above = self._relaxed(poly, form.l)
        low, high = math.ceil(plain[0]), math.floor(plain[1])
        if relaxed is not poly:
            other = self._by_cases(relaxed, form.l)
            low = max(low, math.ceil(Fraction(other[0]) / scale) + below)
            high = min(high, math.floor(Fraction(other[1]) / scale) + above)
        return _narrow(low, high, form.l)

    def _gathered(self, poly: Poly, l: int) -> Poly:
        """A sum whose sign bits (at offsets) occur, written as one named word where that shortens the polynomial."""
        forms = self.normal.forms
        for bit in sorted({a for mono in poly for a in mono if forms.atoms[a].op == BIT}):
            form = forms.atoms[bit].args[0]
            base = Form(form.l, {m: c for m, c in form.terms.items() if m})
            if form.l < l or len(base.terms) < 2 or 1 not in base.terms.values():
                continue
            half = 1 << (form.l - 1)
            first = next(m for m, c in base.terms.items() if c == 1)
            name = forms.atom(NAMED, (form.l,), (base,), form.l)
            out: Poly = {}
            for mono, c in poly.items():
                rest = list(mono)
                if tuple(a for a in mono if a in base.atoms) != first:
                    out[mono] = out.get(mono, 0) + c
                    continue
                for a in first:
                    rest.remove(a)
                parts = [((name,), 1), *((m, -k) for m, k in base.terms.items() if m != first)]
                for m, k in parts:
                    key = forms.joined(tuple(rest), m, l)
                    out[key] = out.get(key, 0) + c * (k + (2 * half if k < -half else 0))
            out = {m: c for m, c in out.items() if c}
            if len(out) < len(poly):
                poly = out
        return poly

    def _relaxed(self, poly: Poly, l: int) -> tuple[Poly, int, int, int]:
        """Shifts that stand alone replaced by the quotients they round down, all multiplied by the scale returned next;
        with the error to add to both ends."""
        atoms = self.normal.forms.atoms
        shifts = []
        for mono, c in poly.items():
            node = atoms[mono[0]] if len(mono) == 1 else None
            if node is None or node.op != SHR or node.args[0].l != l:
                continue
            inner = node.args[0]
            half = 1 << (inner.l - 1)
            integer: Poly = {m: v - (v > half) * 2 * half for m, v in inner.terms.items()}
            if len(integer) > FEW_TERMS:
                continue
            arc = self._by_cases(integer, inner.l)
            if arc[0] >= 0 and arc[1] < 2 * half:
                shifts.append((mono, c, integer, node.params[0]))
        if not shifts:
            return poly, 1, 0, 0
        most = max(k for *_, k in shifts)
        gone = {mono for mono, *_ in shifts}
        out = {mono: c << most for mono, c in poly.items() if mono not in gone}
        below = above = 0
        for _, c, integer, k in shifts:
            for m, v in integer.items():
                out[m] = out.get(m, 0) + (c * v << (most - k))
            below, above = below - max(c, 0), above - min(c, 0)
        return out, 1 << most, below, above

    def _by_cases(self, poly: Poly, l: int) -> Ends:
        """Bounds of an integer polynomial over all patterns of its bits."""
        forms = self.normal.forms
        atoms = {a for mono in poly for a in mono}
        bits = sorted(a for a in atoms if forms.is_bit(a))
        arcs = {a: self._atom(a, l) for a in atoms}
        if len(bits) > MANY_BITS:
            return _interval(poly, arcs)
        place = {a: 1 << i for i, a in enumerate(bits)}
        signs = [(place[a], *found) for a in bits if (found := self._sign(a, l)) is not None and found[0] in arcs]
        split = [
            (sum(place[a] for a in set(mono) if a in place), tuple(a for a in mono if a not in place), c)
            for mono, c in poly.items()
        ]
        ends = []
        for pattern in range(1 << len(bits)):
            refined = _refined(arcs, signs, pattern) if signs else arcs
            if refined is None:
                continue
            rest: Poly = {}
            for mask, words, c in split:
                if mask & pattern == mask:
                    rest[words] = rest.get(words, 0) + c
            ends.append(_interval(rest, refined))
        if not ends:
            return 0, 0
        return min(low for low, _ in ends), max(high for _, high in ends)

    def _sign(self, bit: int, l: int) -> tuple[int, int] | None:
        """(word, offset) if the bit is the sign of word + offset, computed modulo 2^l or more without wrapping, and the
        word is the same integer in both."""
        node = self.normal.forms.atoms[bit]
        if node.op != BIT or node.params[0] != node.args[0].l - 1:
            return None
        form = node.args[0]
        words = [m for m in form.terms if m]
        if form.l < l or not words:
            return None
        if len(words) > 1:
            base = Form(form.l, {m: form.terms[m] for m in words})
            named = self.normal.forms.table.get(Atom(NAMED, (form.l,), (base,), form.l))
            if named is None:
                return None
            word = named
        elif len(words[0]) == 1 and form.terms[words[0]] == 1:
            word = words[0][0]
        else:
            return None
        offset = signed((form.terms.get((), 0),) * 2, form.l)
        arc, half = self._atom(word, form.l), 1 << (form.l - 1)
        if offset is None or arc[0] + offset[0] < -half or arc[1] + offset[0] >= half or arc != self._atom(word, l):
            return None
        return word, offset[0]

    def _order(self, bit: int) -> None:
        """Sign bits of P and of P + c, neither wrapping: the greater one's negative sign implies the smaller one's."""
        form = self.normal.forms.atoms[bit].args[0]
        found = signed((form.terms.get((), 0),) * 2, form.l)
        base = Form(form.l, {m: c for m, c in form.terms.items() if m})
        whole = signed(self.of_form(base), form.l)
        if found is None or whole is None or not base.terms:
            return
        offset = found[0]
        if whole[0] + offset < -(1 << (form.l - 1)) or whole[1] + offset >= 1 << (form.l - 1):
            return
        for other, at in self._signs.setdefault(base, []):
            small, great = (bit, other) if offset <= at else (other, bit)
            self.normal.forms.implied.setdefault(great, set()).add(small)
        self._signs[base].append((bit, offset))


def _refined(arcs: Mapping[int, Arc], signs: Sequence[tuple[int, int, int]], pattern: int) -> dict[int, Arc] | None:
    """Arcs of words in a pattern of bits; None if impossible. signs: (bit's place, word, offset), the bit being the
    sign of word + offset."""
    out = dict(arcs)
    for place, word, offset in signs:
        low, high = out[word]
        low, high = (low, min(high, -offset - 1)) if pattern & place else (max(low, -offset), high)
        if low > high:
            return None
        out[word] = low, high
    return out


def _interval(poly: Poly, arcs: Mapping[int, Arc]) -> Ends:
    """Bounds by interval arithmetic; exact for a quadratic in one word."""
    words = {a for mono in poly for a in mono}
    if len(words) == 1 and max(len(mono) for mono in poly) == 2:
        (word,) = words
        a, b, c = (poly.get((word,) * n, 0) for n in (2, 1, 0))
        first, last = arcs[word]
        at: list[Number] = [first, last]
        if a and first <= Fraction(-b, 2 * a) <= last:
            at.append(Fraction(-b, 2 * a))
        values = [a * x * x + b * x + c for x in at]
        return min(values), max(values)
    low: Number = 0
    high: Number = 0
    for mono, c in poly.items():
        if len(mono) < 2:  # most are linear
            first, last = arcs[mono[0]] if mono else (1, 1)
            low, high = (low + c * first, high + c * last) if c > 0 else (low + c * last, high + c * first)
            continue
        part: Ends = (c, c)
        for atom in sorted(set(mono)):
            x = arcs[atom]
            power: Ends = x
            for _ in range(mono.count(atom) - 1):
                power = _times(power, x)
            if mono.count(atom) % 2 == 0:
                power = max(power[0], 0) if x[0] >= 0 or x[1] <= 0 else 0, power[1]
            part = _times(part, power)
        low, high = low + part[0], high + part[1]
    return low, high
