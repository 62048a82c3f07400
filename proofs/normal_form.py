"""Normal forms: polynomials over Z_{2^l} in integer atoms; for l = 1, algebraic normal forms over GF(2).

An atom is a leaf, or the result of an operation that is not a ring operation (shift, extension, comparison), named by
that operation, its parameters, widths and the normal forms of its operands. Bit atoms are idempotent. Equal forms
mean equal values for all leaves; different forms mean nothing.

The facts used, each an identity of integers:
  reduction      a polynomial modulo 2^l, reduced modulo 2^m for m <= l: the same one with reduced coefficients
  lifting        p xor q = p + q - 2 p q for bits
  extension      ext_v(P) = P modulo 2^v, so c ext_v(P) = c P modulo 2^l whenever 2^(l - v) divides c
  implication    a b = a for bits of which a implies b (found by `proofs.bounds`)
  tabulation     a function of at most six bits is the multilinear polynomial of its truth table
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from proofs.elements import LEAF, Elements
from proofs.symbolic import CONST

Monomial = tuple[int, ...]  # atom numbers in order, repeated for powers
FEW = 6  # bits whose functions are tabulated
LONG = 4096  # products of more terms become atoms (words)
LONG_BITS = 96  # the same for bits
BIT, SHR, EXT, EQUAL, PRODUCT, NAMED = "bit", "shr", "ext", "equal", "product", "named"


@dataclass(frozen=True, eq=False)
class Form:
    """A polynomial modulo 2^l: coefficients by monomial, none zero."""

    l: int
    terms: Mapping[Monomial, int]

    @cached_property
    def key(self) -> tuple[int, frozenset[tuple[Monomial, int]]]:
        return self.l, frozenset(self.terms.items())

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and self._hash == other._hash and self.key == other.key

    @property
    def constant(self) -> int | None:
        """The value, if it is one."""
        if not self.terms:
            return 0
        return self.terms.get(()) if len(self.terms) == 1 else None

    @cached_property
    def atoms(self) -> frozenset[int]:
        return frozenset(a for mono in self.terms for a in mono)


@dataclass(frozen=True)
class Atom:
    """op of params on args; its value is an integer in [0, 2^width)."""

    op: str
    params: tuple[int, ...]
    args: tuple[Form, ...]
    width: int


@dataclass
class Forms:
    """The atoms met so far, and the arithmetic of forms over them."""

    atoms: list[Atom] = field(default_factory=list)
    table: dict[Atom, int] = field(default_factory=dict)
    extensions: set[int] = field(default_factory=set)
    implied: dict[int, set[int]] = field(default_factory=dict)  # bit -> bits that are 1 whenever it is
    on_sign: Callable[[int], None] | None = None  # told of every new sign bit

    def atom(self, op: str, params: tuple[int, ...], args: tuple[Form, ...], width: int) -> int:
        key = Atom(op, params, args, width)
        known = self.table.get(key)
        if known is None:
            known = self.table[key] = len(self.atoms)
            self.atoms.append(key)
            if op == EXT:
                self.extensions.add(known)
            if op == BIT and params[0] == args[0].l - 1 and self.on_sign is not None:
                self.on_sign(known)
        return known

    def is_bit(self, atom: int) -> bool:
        return self.atoms[atom].width == 1

    # -- making ----------------------------------------------------------------------------------------------------
    def const(self, l: int, value: int) -> Form:
        value &= (1 << l) - 1
        return Form(l, {(): value} if value else {})

    def single(self, l: int, atom: int) -> Form:
        return Form(l, {(atom,): 1})

    def settled(self, l: int, terms: Mapping[Monomial, int]) -> Form:
        """Coefficients reduced, zeros dropped, extensions replaced where their coefficient allows."""
        mask = (1 << l) - 1
        clean = {mono: c & mask for mono, c in terms.items() if c & mask}
        if not self.extensions or l == 1:
            return Form(l, clean)
        for mono, c in clean.items():
            for a in mono:
                if a in self.extensions:
                    inner = self.atoms[a].args[0]
                    if c % (1 << max(0, l - inner.l)) == 0:
                        rest = list(mono)
                        rest.remove(a)
                        others = {m: k for m, k in clean.items() if m != mono}
                        part = self._product(l, {tuple(rest): c}, inner.terms)
                        return self.settled(l, _merged(others, part))
        return Form(l, clean)

    # -- ring operations -------------------------------------------------------------------------------------------
    def add(self, a: Form, b: Form, factor: int = 1) -> Form:
        """a + factor b."""
        return self.settled(a.l, _merged(a.terms, {m: c * factor for m, c in b.terms.items()}))

    def scale(self, a: Form, factor: int) -> Form:
        return self.settled(a.l, {m: c * factor for m, c in a.terms.items()})

    def mul(self, a: Form, b: Form) -> Form:
        size = len(a.terms) * len(b.terms)
        if size > (LONG_BITS if a.l == 1 else LONG) and min(len(a.terms), len(b.terms)) > 1:
            if a == b and a.l == 1:
                return a
            pair = tuple(sorted((a, b), key=hash))
            return self.single(a.l, self.atom(PRODUCT, (), pair, a.l))
        return self.settled(a.l, self._product(a.l, a.terms, b.terms))

    def _product(self, l: int, a: Mapping[Monomial, int], b: Mapping[Monomial, int]) -> dict[Monomial, int]:
        out: dict[Monomial, int] = {}
        for m, c in a.items():
            for n, d in b.items():
                key = self.joined(m, n, l)
                out[key] = out.get(key, 0) + c * d
        return out

    def joined(self, m: Monomial, n: Monomial, l: int) -> Monomial:
        if not m or not n:
            return m or n
        return self._reduced(m + n, l)

    def _reduced(self, mono: Monomial, l: int) -> Monomial:
        """In order; bits once, and not beside a bit that implies them."""
        joined: list[int] = []
        for a in sorted(mono):
            if not joined or joined[-1] != a or (l > 1 and not self.is_bit(a)):
                joined.append(a)
        if self.implied:
            spare = {b for a in joined for b in self.implied.get(a, ())}
            joined = [a for a in joined if a not in spare]
        return tuple(joined)

    # -- words and bits --------------------------------------------------------------------------------------------
    def cast(self, a: Form, l: int) -> Form:
        if l == a.l:
            return a
        if l == 1:
            return self._parity(a)
        if l < a.l:
            return self.settled(l, a.terms)
        if a.l == 1:
            return self._lifted(a, l)
        if a.constant is not None:
            return self.const(l, a.constant)
        if list(a.terms.values()) == [1]:
            (mono,) = a.terms
            if (len(mono) == 1 and self.atoms[mono[0]].width <= a.l) or all(self.is_bit(x) for x in mono):
                return Form(l, a.terms)
        table = self._tabulated(a, l, lambda v: v)
        return table or self.single(l, self.atom(EXT, (), (a,), a.l))

    def _parity(self, a: Form) -> Form:
        """Modulo 2: every word atom becomes its lowest bit."""
        out = self.const(1, a.terms.get((), 0))
        for mono, c in a.terms.items():
            if mono and c & 1:
                product = self.const(1, 1)
                for x in mono:
                    product = self.mul(product, self._lowest(x))
                out = self.add(out, product)
        return out

    def _lowest(self, atom: int) -> Form:
        node = self.atoms[atom]
        if node.width == 1:
            return self.single(1, atom)
        if node.op == SHR:
            return self.bit(node.args[0], node.params[0])
        if node.op == EXT:
            return self._parity(node.args[0])
        if node.op == PRODUCT:
            return self.mul(self._parity(node.args[0]), self._parity(node.args[1]))
        return self.bit(self.single(node.width, atom), 0)

    def bit(self, a: Form, i: int) -> Form:
        """Bit i of the representative in [0, 2^l); it depends on the value modulo 2^(i + 1) only."""
        leaf = self._leaf(a)
        if leaf is not None:
            a = self.single(self.atoms[leaf].width, leaf)
        elif i == 0:
            return self._parity(a)
        else:
            a = self.cast(a, min(i + 1, a.l))
        table = self._tabulated(a, 1, lambda v: v >> i & 1)
        return table or self.single(1, self.atom(BIT, (i,), (a,), 1))

    def _leaf(self, a: Form) -> int | None:
        """The leaf that this form is, if it is one, reduced or not."""
        if list(a.terms.values()) == [1]:
            (mono,) = a.terms
            if len(mono) == 1 and self.atoms[mono[0]].op == LEAF and self.atoms[mono[0]].width >= a.l:
                return mono[0]
        return None

    def _lifted(self, a: Form, l: int) -> Form:
        """The integer 0 or 1, from an exclusive or."""
        table = self._tabulated(a, l, lambda v: v)
        if table is not None:
            return table
        monomials: list[Monomial] = list(a.terms)
        if len(monomials) > FEW:
            alone = [m for m in monomials if len(m) == 1 and sum(m[0] in n for n in monomials) == 1]
            rest = Form(1, {m: 1 for m in monomials if m not in alone})
            if len(alone) > FEW:
                alone, rest = [], a
            named: list[Monomial] = [(self.atom(NAMED, (), (rest,), 1),)] if rest.terms else []
            monomials = alone + named
        out = self.const(l, 0)
        for mono in monomials:
            part = Form(l, {mono: 1})
            out = self.add(self.add(out, part), self.mul(out, part), -2)
        return out

    def shr(self, a: Form, k: int) -> Form:
        if k == 0 or a.l == 1:
            return a
        if k == a.l - 1:
            return self.cast(self.bit(a, k), a.l)
        table = self._tabulated(a, a.l, lambda v: v >> k)
        return table or self.single(a.l, self.atom(SHR, (k, a.l), (a,), a.l - k))

    def equals(self, a: Form, c: int) -> Form:
        shifted = self.add(a, self.const(a.l, c), -1)
        if a.l == 1:
            return self.add(shifted, self.const(1, 1))
        table = self._tabulated(shifted, 1, lambda v: int(v == 0))
        return table or self.single(1, self.atom(EQUAL, (a.l,), (shifted,), 1))

    def _tabulated(self, a: Form, l: int, f: Callable[[int], int]) -> Form | None:
        """f of a form in at most six bits, as the polynomial of its truth table (Moebius transform)."""
        bits = sorted(a.atoms)
        if len(bits) > FEW or not all(self.is_bit(x) for x in bits):
            return None
        at = {x: i for i, x in enumerate(bits)}
        masks = [(sum(1 << at[x] for x in set(m)), c) for m, c in a.terms.items()]
        values = [
            f(sum(c for mask, c in masks if mask & pattern == mask) % (1 << a.l)) for pattern in range(1 << len(bits))
        ]
        for i in range(len(bits)):
            for pattern in range(1 << len(bits)):
                if pattern >> i & 1:
                    values[pattern] -= values[pattern ^ (1 << i)]
        out: dict[Monomial, int] = {}
        for pattern, value in enumerate(values):
            mono = self._reduced(tuple(x for x in bits if pattern >> at[x] & 1), l)
            out[mono] = out.get(mono, 0) + value
        return self.settled(l, out)

    # -- comparing -------------------------------------------------------------------------------------------------
    def expanded(self, a: Form) -> Form:
        """Words of which single bits occur, written as the sum of their bits."""
        while True:
            words = {
                self.atoms[b].args[0]
                for b in a.atoms
                if self.atoms[b].op == BIT and len(self.atoms[b].args[0].terms) == 1
            }
            plain = {next(iter(w.terms)): w for w in words if list(w.terms.values()) == [1]}
            found = next((x for x in sorted(a.atoms) if (x,) in plain and not self.is_bit(x)), None)
            if found is None:
                return a
            word = plain[(found,)]
            if self.atoms[found].width > word.l:
                return a
            bits = self.const(a.l, 0)
            for i in range(word.l):
                bits = self.add(bits, self.cast(self.bit(word, i), a.l), 1 << i)
            a = self._substituted(a, found, bits)

    def _substituted(self, a: Form, atom: int, by: Form) -> Form:
        out: dict[Monomial, int] = {}
        for mono, c in a.terms.items():
            part: dict[Monomial, int] = {tuple(x for x in mono if x != atom): c}
            for _ in range(mono.count(atom)):
                part = self._product(a.l, part, by.terms)
            out = _merged(out, part)
        return self.settled(a.l, out)

    def leaves(self, forms: Iterable[Form]) -> set[int]:
        """The leaf terms that these forms mention, however deep."""
        seen: set[int] = set()
        stack = [a for form in forms for a in form.atoms]
        found = set()
        while stack:
            a = stack.pop()
            if a in seen:
                continue
            seen.add(a)
            atom = self.atoms[a]
            if atom.op == LEAF:
                found.add(atom.params[0])
            stack += [b for form in atom.args for b in form.atoms]
        return found


def _merged(a: Mapping[Monomial, int], b: Mapping[Monomial, int]) -> dict[Monomial, int]:
    out = dict(a)
    for mono, c in b.items():
        out[mono] = out.get(mono, 0) + c
    return out


class Normaliser:
    """Normal forms of scalar terms, memoised."""

    def __init__(self, elements: Elements) -> None:
        self.elements = elements
        self.forms = Forms()
        self._known: dict[int, Form] = {}

    def form(self, number: int) -> Form:
        for n in self.elements.missing(number, self._known):
            self._known[n] = self._of(n)
        return self._known[number]

    def _of(self, number: int) -> Form:
        term, forms = self.elements.terms[number], self.forms
        l, args = term.l, [self._known[a] for a in term.args]
        if term.op == CONST:
            return forms.const(l, term.params[0])
        if term.op == LEAF:
            return forms.single(l, forms.atom(LEAF, (number,), (), l))
        if term.op in ("add", "sub"):
            return forms.add(args[0], args[1], 1 if term.op == "add" else -1)
        if term.op == "neg":
            return forms.scale(args[0], -1)
        if term.op == "mul":
            return forms.mul(args[0], args[1])
        if term.op == "shl":
            return forms.scale(args[0], 1 << term.params[0])
        if term.op == "shr":
            return forms.shr(args[0], term.params[0])
        if term.op == "cast":
            return forms.cast(args[0], l)
        return forms.equals(args[0], term.params[0])

    def leaves_of(self, number: int) -> set[int]:
        """The leaves that a term depends on, as far as its form tells."""
        return self.forms.leaves([self.form(number)])

    def rest(self, a: int, b: int) -> Form:
        """What is left of a - b."""
        return self.forms.expanded(self.forms.add(self.form(a), self.form(b), -1))
