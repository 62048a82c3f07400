"""Random tiny protocols: what the privacy engine says of them, against the exact law of their views.

A program is public: draws, local operations, messages and correlated OTs between two parties with two secrets each.
Most messages carry a mask, fresh or not, alone or in company, whole or multiplied, sliced, narrowed or cut into fields,
chosen by a bit or times a word, two masks mixed in several messages: some programs are private and some are not. An
engine that proves a leaking one is unsound; how many private ones it proves is a rate.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from proofs.counterexample import symbolic
from proofs.enumerate import LIMIT, Joint
from proofs.private import prove_private
from proofs.symbolic import INPUT, Dag, cone
from proofs.trace import Seen
from protocols.entry import Case, Secret
from protocols.ot.chosen import correlate
from sim.functionality import Functionality
from sim.party import Party, ProtocolDecl, protocol
from sim.ring import Z2, Ring, RingArray, concat
from sim.role import CLIENT, SERVER, Role

WORD = Ring(2)
MAX_BITS = 15
MASKS = {"fresh": 44, "old": 8, "sum": 8, "slice": 6, "narrow": 6, "field": 8, "mix": 14, "choice": 5, "factor": 5,
         "curve": 3, "none": 4}  # fmt: skip
NOTHING = Functionality("a random program", lambda *_, **__: [])
Slot = int


@dataclass(frozen=True)
class Step:
    """One instruction. owner: who performs it (the receiver of an OT). args: slots; k: a small public constant."""

    op: str
    owner: Role
    args: tuple[Slot, ...] = ()
    k: int = 0


@dataclass(frozen=True)
class Kind:
    """What is publicly known of a slot: who holds it, ring and length."""

    owner: Role
    ring: Ring
    length: int
    random: bool = False


class _Writer:
    """Writes one random program."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.kinds: list[Kind] = [Kind(role, WORD, 1) for role in (CLIENT, SERVER) for _ in range(2)]
        self.steps: list[Step] = []
        self.bits = sum(k.ring.l * k.length for k in self.kinds)

    def add(self, step: Step, kind: Kind) -> Slot:
        self.steps.append(step)
        self.kinds.append(kind)
        return len(self.kinds) - 1

    def word(self, op: str, owner: Role, args: tuple[Slot, ...], k: int = 0, random: bool = False) -> Slot:
        return self.add(Step(op, owner, args, k), Kind(owner, WORD, 1, random))

    def mine(self, owner: Role, **like: Any) -> list[Slot]:
        return [
            i for i, kind in enumerate(self.kinds)
            if kind.owner is owner and all(getattr(kind, name) == value for name, value in like.items())
        ]  # fmt: skip

    def draw(self, owner: Role, length: int = 1, ring: Ring = WORD) -> Slot | None:
        if self.bits + length * ring.l > MAX_BITS:
            return None
        self.bits += length * ring.l
        return self.add(Step("draw", owner, k=ring.l * 4 + length), Kind(owner, ring, length, True))

    def value(self, owner: Role) -> Slot:
        """A word of the party's own, or one operation on two of them."""
        words = self.mine(owner, ring=WORD, length=1)
        first = self.rng.choice(words)
        if self.rng.random() < 0.5:
            return first
        op = self.rng.choice(("add", "sub", "mul", "neg", "scale", "shl"))
        args = (first, self.rng.choice(words)) if op in ("add", "sub", "mul") else (first,)
        return self.add(Step(op, owner, args, self.rng.randrange(4)), Kind(owner, WORD, 1))

    def mask(self, owner: Role) -> Slot | None:
        """A fresh or old random word, as it is or spoilt; None for no mask."""
        old = self.mine(owner, ring=WORD, length=1, random=True)
        kind = self.rng.choices(tuple(MASKS), tuple(MASKS.values()))[0]
        if kind == "old" and old:
            found: Slot | None = self.rng.choice(old)
        elif kind == "slice":
            pair = self.draw(owner, 2)
            if pair is None:
                return None
            parts = [self.add(Step("slice", owner, (pair,), i), Kind(owner, WORD, 1, True)) for i in range(2)]
            found = self.rng.choice(parts)
        elif kind == "narrow":
            wide = self.draw(owner, ring=Ring(self.rng.choice((1, 3))))
            found = None if wide is None else self.add(Step("cast", owner, (wide,)), Kind(owner, WORD, 1, True))
        elif kind == "field":
            wide = self.draw(owner, ring=Ring(4))
            if wide is None:
                return None
            lows = (0, self.rng.choice((1, 2, 2, 2)))
            found = self.rng.choice([self.word("field", owner, (wide,), low, random=True) for low in lows])
        elif kind in ("mix", "choice"):
            found = self.mixed(owner, old, kind)
        elif kind == "factor":
            found = self.draw(owner)
            odd = self.word("odd", owner, (self.value(owner),), self.rng.choice((1, 2, 2)))
            found = None if found is None else self.word("mul", owner, (found, odd))
        elif kind == "curve":
            found = self.draw(owner)
            found = None if found is None else self.word("curve", owner, (found,), self.rng.choice((1, 2, 2)))
        elif kind == "none":
            return None
        else:
            found = self.draw(owner)
        if found is not None and kind == "sum" and old:
            found = self.add(Step("add", owner, (found, self.rng.choice(old))), Kind(owner, WORD, 1))
        if found is not None and self.rng.random() < 0.15:
            op, k = self.rng.choice((("scale", 3), ("scale", 2), ("neg", 0), ("square", 0)))
            args = (found, found) if op == "square" else (found,)
            found = self.add(Step("mul" if op == "square" else op, owner, args, k), Kind(owner, WORD, 1))
        return found

    def mixed(self, owner: Role, old: Sequence[Slot], kind: str) -> Slot | None:
        """A combination of the first two masks, or one of them as a bit of the owner's says."""
        pool: list[Slot | None] = list(old[:2])
        pool += [self.draw(owner) for _ in range(2 - len(pool))]
        if None in pool:
            return pool[0]
        first, second = (slot for slot in pool if slot is not None)
        if kind == "choice":
            return self.word("choose", owner, (self.value(owner), first, second))
        terms = [self.word("scale", owner, (slot,), self.rng.choice((1, 1, 2, 3))) for slot in (first, second)]
        return self.word("add", owner, (terms[0], terms[1]))

    def send(self) -> None:
        owner = self.rng.choice((CLIENT, SERVER))
        slot, mask = self.value(owner), self.mask(owner)
        if mask is not None:
            slot = self.add(Step(self.rng.choice(("add", "sub")), owner, (slot, mask)), Kind(owner, WORD, 1))
        if self.rng.random() < 0.15:
            other = self.mask(owner)
            other = self.rng.choice(self.mine(owner, ring=WORD, length=1)) if other is None else other
            slot = self.add(Step("concat", owner, (slot, other)), Kind(owner, WORD, 2))
        self.add(Step("send", owner, (slot,)), Kind(owner.peer, WORD, self.kinds[slot].length))

    def transfer(self) -> None:
        receiver = self.rng.choice((CLIENT, SERVER))
        if self.bits + WORD.l > MAX_BITS:
            return
        self.bits += WORD.l
        word, delta = self.value(receiver), self.value(receiver.peer)
        bit = self.add(Step("bit", receiver, (word,)), Kind(receiver, Z2, 1))
        self.add(Step("ot", receiver, (bit, delta)), Kind(receiver, WORD, 1))
        self.kinds.append(Kind(receiver.peer, WORD, 1, True))  # the sender's output, the slot after


def program(seed: int) -> tuple[ProtocolDecl[Any], Case]:
    """The random program of a seed, as a protocol and a case of its four secrets."""
    writer = _Writer(seed)
    for _ in range(writer.rng.randint(1, 4)):
        (writer.transfer if writer.rng.random() < 0.2 else writer.send)()
    steps, kinds = tuple(writer.steps), tuple(writer.kinds)

    async def run(p: Party, *inputs: RingArray | None) -> list[RingArray]:
        return await _interpret(p, inputs, steps, kinds)

    secrets = tuple(Secret(WORD, (1,), role) for role in (CLIENT, SERVER) for _ in range(2))
    return protocol(realises=NOTHING, name="program")(run), Case(f"seed {seed}", secrets)


def _local(step: Step, args: Sequence[RingArray]) -> RingArray:
    if step.op == "concat":
        return concat(*args)
    if step.op == "slice":
        return args[0][step.k : step.k + 1]
    if step.op == "bit":
        return args[0].bit(0)
    operations: dict[str, Callable[[], RingArray]] = {
        "add": lambda: args[0] + args[1],
        "sub": lambda: args[0] - args[1],
        "mul": lambda: args[0] * args[1],
        "neg": lambda: -args[0],
        "scale": lambda: args[0] * step.k,
        "shl": lambda: args[0] << 1,
        "cast": lambda: args[0].cast(WORD),
        "field": lambda: args[0].field(step.k, WORD.l),
        "odd": lambda: args[0] * step.k + 1,
        "choose": lambda: args[1] + args[0].bit(0).cast(WORD) * (args[2] - args[1]),
        "curve": lambda: args[0] * (args[0] * step.k + 1),
    }
    return operations[step.op]()


async def _interpret(
    p: Party, inputs: Sequence[RingArray | None], steps: Sequence[Step], kinds: Sequence[Kind]
) -> list[RingArray]:
    slots: list[RingArray | None] = list(inputs)
    for i, step in enumerate(steps):
        mine, at = p.role is step.owner, len(slots)
        args = [x for x in (slots[a] for a in step.args) if x is not None]
        if step.op == "send":
            if mine:
                p.send(f"m{i}", args[0])
            spec = args[0].spec if mine else None
            received = None if spec else await p.recv(f"m{i}", _spec(p, kinds[at]))
            slots.append(received)
        elif step.op == "ot":
            bit, delta = slots[step.args[0]], slots[step.args[1]]
            share = await correlate(
                p, step.owner, bit if mine else None, None if mine else delta, shape=(1,), ring=WORD
            )
            slots += [share, None] if mine else [None, share]
        elif step.op == "draw":
            slots.append(p.draw(f"d{i}", Ring(step.k // 4), (step.k % 4,)) if mine else None)
        else:
            slots.append(_local(step, args) if mine else None)
    return [x for x in slots if x is not None]


def _spec(p: Party, kind: Kind) -> Any:
    return p.const(kind.ring, 0, (kind.length,)).spec


Engine = Callable[[Dag, Sequence[Seen], Role], Any]


@dataclass(frozen=True)
class Tally:
    """Outcomes over (program, corrupted party), those only whose view has a message that some secret reaches."""

    private: int
    proved: int
    leaking: int
    unsound: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Share of the private ones that were proved."""
        return self.proved / max(1, self.private)

    @property
    def bound(self) -> float:
        """Upper 95 % bound of the share of leaking programs that would be proved, when none was."""
        return 3 / max(1, self.leaking)


def tally(seeds: Iterable[int], engine: Engine = prove_private) -> Tally:
    """Judge programs by the engine and by enumeration."""
    private = proved = leaking = 0
    unsound = []
    for seed in seeds:
        proto, case = program(seed)
        run, joint = symbolic(proto, case), Joint(proto, case, LIMIT)
        for role in Role:
            view = run.view(role)
            below = (run.dag.nodes[n] for n in cone(run.dag, [seen.node for seen in view]))
            if not any(node.op == INPUT and node.owner != role.value for node in below):
                continue
            claimed = not engine(run.dag, view, role).findings
            if joint.distance(role) == 0:
                private, proved = private + 1, proved + claimed
            else:
                leaking += 1
                if claimed:
                    unsound.append(f"seed {seed}, corrupted {role.value}")
    return Tally(private, proved, leaking, tuple(unsound))
