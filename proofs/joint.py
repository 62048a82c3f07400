"""The joint rules of the privacy checker: why nodes T are uniform together when symbols R are, T being all that uses R.

Each rule argues its soundness beside its conditions: why T is uniform, for every value of everything but R, when R is.
That every live path from R to the view passes T is checked by the caller, for all of them. Standard library only; no
search: what a rule needs it recomputes from the nodes that a step names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

from proofs.rules import Interval, Live, index, need, reshape, transpose, words
from proofs.rules import selected as selection

Solve = Callable[[str], bool]  # whether an SMT-LIB 2 script has no model


def split(state: Live, symbols: Sequence[int], targets: Sequence[int], solve: Solve) -> None:
    """Every entry of every t is a field of bits of an entry of r (through selections, reshapes, shifts right and
    casts), and no bit of r is taken twice: some coordinates of a uniform vector of bits, each once, are uniform
    together. The places and fields are recomputed."""
    need(len(symbols) == 1, "more than one symbol")
    taken: dict[int, int] = {}
    for t in targets:
        places, low, high = field(state, symbols[0], t)
        need(high - low == state.nodes[t].width, "bits beyond those of the symbol")
        for place in places:
            bits = (1 << high) - (1 << low)
            need(taken.get(place, 0) & bits == 0, "a bit of the symbol is taken twice")
            taken[place] = taken.get(place, 0) | bits


def field(state: Live, r: int, t: int) -> tuple[list[int], int, int]:
    """The entries of r that t holds, and which bits of them, from low up to (not including) high; zeros above."""
    chain: list[int] = []
    while t != r:
        need(len(state.nodes[t].args) == 1, f"node {t} is not made of the symbol alone")
        need(not state.is_cut(t), f"node {t} is a symbol itself")
        chain.append(t)
        t = state.nodes[t].args[0]
    places, low, high = list(range(math.prod(state.nodes[r].shape))), 0, state.nodes[r].width
    for number in reversed(chain):
        node, old = state.nodes[number], state.nodes[state.nodes[number].args[0]]
        axes: list[tuple[int, Sequence[int]]] = []
        if node.op == "index":
            index(state, node.args[0], number)
            axes = list(enumerate(selection(old.shape, node.params[0])[1]))
        elif node.op == "transpose":
            transpose(state, node.args[0], number)
            axes = [(axis, range(old.shape[axis])) for axis in node.params]
        elif node.op == "reshape":
            reshape(state, node.args[0], number)
        else:
            need(node.op in ("cast", "shr"), f"node {number} ({node.op}) is not a part of the symbol")
            need(state.is_entrywise(number), f"node {number} has another shape")
            low += node.params[0] if node.op == "shr" else 0
            high = min(high, low + node.width)
        if axes:
            where = [0]
            for axis, taken in axes:
                stride = math.prod(old.shape[axis + 1 :])
                where = [at + stride * i for at in where for i in taken]
            places = [places[at] for at in where]
    return places, low, high


ATOMS, SMALL, DEEP = 10, 3, 100  # atoms of a linear step; bits of an atom that is enumerated; levels of an expression
ALWAYS = (1 << (1 << ATOMS)) - 1


class Parity:
    """Bits of nodes that are free of R, as truth tables over at most `ATOMS` unknown bits (atoms).

    Bit a of a table is the value under assignment a, in which atom i is bit i of a. Each entry of the arrays, for
    whatever values of the leaves, is under some assignment: recursion goes through entrywise operations only, by
    identities of bits that hold for all words, and everything else is an atom, the same for the same bit and node.
    """

    def __init__(self, state: Live) -> None:
        self.state = state
        self.atoms: list[tuple[int, int]] = []
        self._known: dict[tuple[int, int], int] = {}

    def bit(self, number: int, b: int = 0, depth: int = 0) -> int:
        """The table of bit b of a node."""
        if (number, b) not in self._known:
            found = None if depth > DEEP or self.state.is_cut(number) else self._computed(number, b, depth + 1)
            if found is None:
                need(len(self.atoms) < ATOMS, f"more than {ATOMS} unknown bits in the factors")
                place = 1 << len(self.atoms)  # runs of this many zeros and ones in turn
                found = ALWAYS // ((1 << place) + 1) << place
                self.atoms.append((number, b))
            self._known[number, b] = found
        return self._known[number, b]

    def _computed(self, number: int, b: int, depth: int) -> int | None:
        node = self.state.nodes[number]
        if b >= node.width:
            return 0
        if node.op == "const":
            bits = {word >> b & 1 for word in words(node)}
            return ALWAYS * bits.pop() if len(bits) == 1 else None
        if not self.state.is_entrywise(number):
            return None
        if node.op == "cast":
            return self.bit(node.args[0], b, depth)
        if node.op == "shr":
            return self.bit(node.args[0], b + node.params[0], depth)
        if node.op == "shl":
            return self.bit(node.args[0], b - node.params[0], depth) if b >= node.params[0] else 0
        if node.op == "equals" and self.state.nodes[node.args[0]].width <= SMALL:
            table = ALWAYS
            for i in range(self.state.nodes[node.args[0]].width):
                table &= self.bit(node.args[0], i, depth) ^ (0 if node.params[0] >> i & 1 else ALWAYS)
            return table
        if b == 0 and node.op in ("add", "sub", "neg", "mul"):
            parts = [self.bit(a, 0, depth) for a in node.args]
            return parts[0] & parts[1] if node.op == "mul" else parts[0] ^ (parts[1] if len(parts) > 1 else 0)
        return None


def matrix(state: Live, symbols: Sequence[int], targets: Sequence[int]) -> tuple[Parity, list[list[int]]]:
    """Per target and symbol the parity of the factor, as a table; raises Rejected where a target is not linear."""
    parity = Parity(state)
    forms: dict[int, dict[int, int]] = {}
    reached = state.between(symbols, targets)
    for number in reached:
        node = state.nodes[number]
        if number in symbols:
            forms[number] = {number: ALWAYS}
            continue
        need(state.is_entrywise(number), f"node {number} ({node.op}) is not entrywise")
        parts = [forms[a] for a in node.args if a in forms]
        if node.op in ("add", "sub"):
            both = dict(parts[0])
            for form in parts[1:]:
                both |= {r: both.get(r, 0) ^ table for r, table in form.items()}
            forms[number] = both
        elif node.op == "mul":
            need(len(parts) == 1, f"node {number} multiplies symbols")
            factor = parity.bit(next(a for a in node.args if a not in forms))
            forms[number] = {r: table & factor for r, table in parts[0].items()}
        elif node.op == "shl":
            forms[number] = {r: 0 if node.params[0] else table for r, table in parts[0].items()}
        else:
            narrow = node.op == "cast" and node.width <= state.nodes[node.args[0]].width
            need(node.op == "neg" or narrow, f"node {number} ({node.op}) is not linear")
            forms[number] = parts[0]
    return parity, [[forms.get(t, {}).get(r, 0) for r in symbols] for t in targets]


def linear(state: Live, symbols: Sequence[int], targets: Sequence[int], solve: Solve) -> None:
    """t_j = sum_i A_ji r_i + e_j, entry by entry, A and e free of R: between t_j and R there are only sums, negations,
    products by a factor free of R, shifts left, and reductions to narrower rings, which commute with all of these.
    For every value of what A depends on, A modulo 2 has full row rank; so A has a square submatrix with an odd
    determinant, R -> A R is a surjective homomorphism of modules over Z_{2^l}, and all its fibres have one size: A R is
    uniform, and so is A R + e for every e. Narrower targets are reductions of such sums in the widest ring, with the
    missing high bits of R as further independent bits that no target depends on."""
    parity, rows = matrix(state, symbols, targets)
    for a in range(1 << len(parity.atoms)):
        basis: list[int] = []
        for row in rows:
            left = sum((table >> a & 1) << i for i, table in enumerate(row))
            for pivot in basis:
                left = min(left, left ^ pivot)
            need(left > 0, f"even or dependent factors, if the unknown bits are {a:0{len(parity.atoms)}b}")
            basis.append(left)


SMT = {"add": "bvadd", "sub": "bvsub", "mul": "bvmul", "neg": "bvneg", "shl": "bvshl", "shr": "bvlshr"}
OPERANDS = {"add": 2, "sub": 2, "mul": 2, "neg": 1, "shl": 1, "shr": 1}


def injective(state: Live, symbols: Sequence[int], targets: Sequence[int], solve: Solve) -> None:
    """t = f(r, e) entry by entry, in the ring and shape of r, e free of r: if f(r, e) = f(r', e) has no solution with
    r different from r', whatever e is, then r -> f(r, e) is injective, hence a bijection of a finite set."""
    need(len(symbols) == len(targets) == 1, "more than one symbol or node")
    r, t = state.nodes[symbols[0]], state.nodes[targets[0]]
    need(r.width == t.width and r.shape == t.shape, "the node has another ring or shape")
    need(solve(script(state, symbols[0], targets[0])), "the solver finds two values of the symbol for one of the node")


def script(state: Live, r: int, t: int) -> str:
    """The SMT-LIB 2 text of the question whether two values of r give one value of t: x for the first, y the second."""
    width = state.nodes[r].width
    lines = ["(set-logic QF_BV)", *(f"(declare-const {copy}{r} (_ BitVec {width}))" for copy in "xy")]
    reached = state.between([r], [t])
    need(t in reached and t != r, "the node does not depend on the symbol")
    free = {a for n in reached if n != r for a in state.nodes[n].args if a not in reached}
    lines += [f"(declare-const e{a} (_ BitVec {state.nodes[a].width}))" for a in sorted(free)]
    for a in sorted(free):
        node = state.nodes[a]
        if node.op == "const" and type(node.params[0]) is int:
            lines.append(f"(assert (= e{a} (_ bv{node.params[0]} {node.width})))")
    for copy in "xy":
        for n in reached[1:]:
            need(state.is_entrywise(n), f"node {n} ({state.nodes[n].op}) is not entrywise")
            operands = [f"{copy if a in reached else 'e'}{a}" for a in state.nodes[n].args]
            lines.append(f"(define-fun {copy}{n} () (_ BitVec {state.nodes[n].width}) {_term(state, n, operands)})")
    return "\n".join([*lines, f"(assert (= x{t} y{t}))", f"(assert (distinct x{r} y{r}))", "(check-sat)", ""])


def _term(state: Live, number: int, operands: Sequence[str]) -> str:
    node = state.nodes[number]
    width, first = state.nodes[node.args[0]].width, operands[0]
    if node.op == "cast":
        return f"((_ extract {node.width - 1} 0) ((_ zero_extend {node.width}) {first}))"
    if node.op == "equals":
        need(node.width == 1, f"node {number} is no bit")
        return f"(ite (= {first} (_ bv{node.params[0]} {width})) #b1 #b0)"
    need(OPERANDS.get(node.op) == len(operands), f"node {number} ({node.op}) has no meaning for the solver")
    shift = [f"(_ bv{node.params[0]} {width})"] if node.op in ("shl", "shr") else []
    return f"({SMT[node.op]} {' '.join([*operands, *shift])})"


def statistical(state: Live, symbols: Sequence[int], targets: Sequence[int], solve: Solve) -> None:
    """t = e + c or e - c or c - e with c = r in a wider ring, r uniform on 0 .. 2^w - 1, and every entry of e is, as an
    integer, between low and high, whatever the leaves are (inputs in their declared ranges). Two such e give laws of an
    entry at distance at most (high - low) / 2^w: 2^w consecutive integers, shifted; reduction to the ring loses more.
    So replacing e by low changes the joint law of the view by at most that per entry, and the distances of all steps
    add up. Afterwards t is independent of all that is live, and settled; NOT a symbol: it is not uniform in its
    ring."""
    need(len(symbols) == len(targets) == 1, "more than one symbol or node")
    node, r = state.nodes[targets[0]], state.nodes[symbols[0]]
    need(node.op in ("add", "sub") and state.is_entrywise(targets[0]), f"the node is a {node.op}")
    wide = [a for a in node.args if state.nodes[a].op == "cast" and state.nodes[a].args == (symbols[0],)]
    need(len(wide) == 1, "the symbol is not one operand, in a wider ring")
    need(state.is_entrywise(wide[0]) and not state.is_cut(wide[0]), "the operand is not the symbol in a wider ring")
    need(state.between(symbols, targets) == [*symbols, *wide, *targets], "the rest depends on the symbol")
    low, high = interval(state, next(a for a in node.args if a != wide[0]))
    state.distance += Fraction(math.prod(node.shape) * (high - low), 1 << r.width)


def interval(state: Live, number: int, depth: int = 0) -> Interval:
    """Integers between which every entry of a node is, modulo its ring; the whole ring where nothing is known.

    An input is in its declared range. Sums, differences and products of integers are congruent to those of words; a
    reduction keeps the congruence; a shift right, and the way into a wider ring, act on the word itself, so on the
    integer only where that is one.
    """
    node = state.nodes[number]
    ring = (0, (1 << node.width) - 1)
    if node.op == "const":
        return min(words(node)), max(words(node))
    if node.op == "input":
        return state.ranges.get((node.params[0], node.params[1]), ring)
    if state.is_cut(number) or depth > DEEP or not node.args:
        return ring
    parts = [interval(state, a, depth + 1) for a in node.args]
    (low, high), source = parts[0], state.nodes[node.args[0]]
    if node.op in ("cast", "shr"):
        k = node.params[0] if node.op == "shr" else 0
        if (k or node.width > source.width) and not (low >= 0 and high < 1 << source.width):
            low, high = 0, (1 << source.width) - 1
        return low >> k, high >> k
    if node.op in ("add", "sub"):
        other = parts[1] if node.op == "add" else (-parts[1][1], -parts[1][0])
        return low + other[0], high + other[1]
    if node.op == "neg":
        return -high, -low
    if node.op == "equals":
        return 0, 1
    if node.op == "sum":
        count = source.shape[node.params[0]]
        return count * low, count * high
    if node.op in ("reshape", "transpose", "index", "broadcast", "concat"):
        return _hull(parts)
    return ring


def _hull(parts: Iterable[Interval]) -> Interval:
    lows, highs = zip(*parts, strict=True)
    return min(lows), max(highs)


Joint = Callable[[Live, Sequence[int], Sequence[int], Solve], None]
JOINT: dict[str, Joint] = {"split": split, "linear": linear, "injective": injective, "statistical": statistical}
