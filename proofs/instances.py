"""Instances of protocols, and whether a text is right on them: lane by lane, against the plain-integer functionality.

A tiny instance is run on ALL inputs and draws (`proofs.enumerate`), a catalog case on edge and random lanes, all lanes
at once. Precondition of a protocol: the lanes on which the unchanged text is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofs.counterexample import symbolic
from proofs.enumerate import LIMIT, Joint, arguments, hybrid_services
from proofs.exhaustive import Exhaustive, Words
from proofs.hybrid import Ledger, run_hybrid
from proofs.private import prove_private
from proofs.setups import CALLEES
from proofs.trace import Trace, arrays
from protocols.entry import Case, Entry
from sim.ring import RingArray, Spec
from sim.role import CLIENT, SERVER, Role
from sim.world import Execution, Session

LANES = 64
Ints = NDArray[np.int64]


class Sampled(Exhaustive):
    """The exhaustive interpretation on chosen lanes: inputs are given, draws are random words."""

    def __init__(self, given: dict[tuple[str, str], Words], lanes: int) -> None:
        super().__init__()
        self.given, self.lanes = given, lanes
        self.rng = np.random.default_rng(5)

    def leaf(self, kind: str, owner: str, label: str, spec: Spec) -> Words:
        zeros = super().leaf(kind, owner, label, spec)
        if kind == "input":
            return self.given[owner, label]
        words = self.rng.integers(0, spec.ring.mask, (*spec.shape, self.lanes), np.uint64, endpoint=True)
        return np.asarray(words.astype(zeros.dtype))


class Instance:
    """A row at one case: its unchanged run, and the outputs that its functionality demands, lane by lane."""

    def __init__(self, entry: Entry, case: Case, exact: bool) -> None:
        self.entry, self.case, self.exact = entry, case, exact
        self.run = symbolic(entry.proto, case)
        self.proved = {role: proved(self.run, role) for role in Role}

    @property
    def name(self) -> str:
        return f"{self.entry.name} ({self.case.name})"

    # -- inputs and what the functionality makes of them ---------------------------------------------------------------
    @cached_property
    def lanes(self) -> tuple[dict[tuple[str, str], Words], list[Ints], int]:
        """Inputs by (owner, name) and outputs of the functionality, with lanes on the last axis."""
        secrets = self.case.secrets
        if self.exact:
            bits = sum(s.spec.bits * (2 if s.owner is None and not s.weight else 1) for s in secrets)
            backend = Exhaustive({}, bits)
            backend.offsets = offsets = {}
            at = 0

            def number(role: Role, name: str, spec: Spec) -> RingArray:
                nonlocal at
                offsets["input", role.value, name] = at
                at += spec.bits
                return backend.input(role.value, name, spec)

            given = {(a[0], a[1]): a[2] for a in _collected(self.case, number)}
            count = 1 << bits
        else:
            count = LANES
            given = self._sampled(count)
        return given, self._functionality(given, count), count

    def _sampled(self, count: int) -> dict[tuple[str, str], Words]:
        rng = np.random.default_rng(len(self.name))
        given: dict[tuple[str, str], list[Words]] = {}
        for _ in range(count):
            values = [_values(rng, *s.range, s.shape) for s in self.case.secrets]
            values = list(values if self.case.adjust is None else self.case.adjust(values))
            for i, (secret, value) in enumerate(zip(self.case.secrets, values, strict=True)):
                words = value.astype(np.uint64) & np.uint64(secret.ring.mask)
                mine = rng.integers(0, secret.ring.mask, secret.shape, np.uint64, endpoint=True)
                parts = {secret.owner: words} if secret.owner else {CLIENT: mine, SERVER: words - mine}
                for role, part in parts.items():
                    name = f"{'w' if secret.weight else 'x'}{i}"
                    owner = (role or SERVER).value
                    given.setdefault((owner, name), []).append(part & np.uint64(secret.ring.mask))
        sizes = {f"{'w' if s.weight else 'x'}{i}": s.ring.l for i, s in enumerate(self.case.secrets)}
        return {
            (owner, name): np.stack(parts, -1).astype(np.uint8 if sizes[name] <= 8 else np.uint64)
            for (owner, name), parts in given.items()
        }

    def _functionality(self, given: dict[tuple[str, str], Words], count: int) -> list[Ints]:
        args: list[Ints] = []
        for i, s in enumerate(self.case.secrets):
            held = [given[r.value, name].astype(np.uint64) for name in (f"x{i}", f"w{i}") for r in (CLIENT, SERVER)
                    if (r.value, name) in given]  # fmt: skip
            wide = [np.broadcast_to(h, (*s.shape, count)) for h in held]
            parts = wide if self.entry.share_level else [np.asarray(sum(wide[1:], wide[0]))]
            args += [signed(p, s.ring.l) for p in parts]
        public = dict(self.case.public)
        if self.entry.share_level:
            public["l"] = self.case.secrets[0].ring.l
        keys = np.concatenate([a.reshape(-1, count) for a in args]) if args else np.zeros((1, count), np.int64)
        _, first, which = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        rows = []
        with np.errstate(over="ignore"):
            for lane in first:
                rows.append(_flat(self.entry.realises.compute(*(a[..., lane] for a in args), **public)))
        return [np.stack([row[k] for row in rows], -1)[..., which.reshape(-1)] for k in range(len(rows[0]))]

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """The lanes inside the protocol's precondition: those on which the unchanged text is right."""
        return self.right(self.execute())

    # -- runs ----------------------------------------------------------------------------------------------------------
    def execute(self) -> tuple[Execution, int]:
        """A run on all lanes, and their number."""
        if self.exact:
            joint = Joint(self.entry.proto, self.case, LIMIT)
            return joint.execution, len(joint.lane)
        given, _, count = self.lanes
        lanes = Sampled(given, count)
        session = Session(hybrid_services(self.case), seed=b"mutants", backend=lanes, hybrid=True)
        inputs = arguments(self.case, lambda role, name, spec: lanes.input(role.value, name, spec))
        return session.run(self.entry.proto, inputs[CLIENT], inputs[SERVER], **self.case.public), count

    def right(self, run: tuple[Execution, int]) -> NDArray[np.bool_]:
        """Input lane by input lane, whether every run that starts from it reconstructs the functionality's outputs."""
        execution, total = run
        return self._equal(self._opened(execution.outputs), total)

    def _equal(self, got: list[RingArray], total: int) -> NDArray[np.bool_]:
        """got: with `total` lanes, of which input lanes are the low bits."""
        _, want, count = self.lanes
        good = np.ones(count, dtype=bool)
        if len(got) < len(want):
            return ~good
        for x, expected in zip(got, want * 2 if self.entry.opened else want, strict=True):
            wide = np.broadcast_to(x.value, (*x.shape, total)).reshape(*x.shape, -1, count)
            reduced = (expected.astype(np.uint64) & np.uint64(x.ring.mask)).astype(wide.dtype)
            if wide.shape[:-2] != reduced.shape[:-1]:
                return ~np.ones(count, dtype=bool)  # a wrong shape is wrong everywhere
            same = wide == reduced[..., None, :]
            good &= same.all(axis=tuple(range(same.ndim - 1)))
        return good

    def _opened(self, outputs: Mapping[Role, Any]) -> list[RingArray]:
        ours, theirs = (arrays(outputs[role]) for role in (CLIENT, SERVER))
        return [*ours, *theirs] if self.entry.opened else [a + b for a, b in zip(ours, theirs, strict=True)]

    def composed(self) -> NDArray[np.bool_]:
        """Lane by lane, whether the text is right with functionalities as callees, and meets what they demand."""
        given, _, count = self.lanes
        lanes, ledger = Sampled(given, count), Ledger()
        inputs = arguments(self.case, lambda role, name, spec: lanes.input(role.value, name, spec))
        services, public = hybrid_services(self.case), self.case.public
        both = inputs[CLIENT], inputs[SERVER]
        out = run_hybrid(self.entry.proto, services, *both, public, lanes, CALLEES, ledger)
        good = self._equal(self._opened({CLIENT: out.client, SERVER: out.server}), count)
        for _, demand in ledger.demands:
            x = demand.values
            values = signed(np.broadcast_to(x.value, (*x.shape, count)).astype(np.uint64), x.ring.l)
            inside = (values >= demand.low) & (values <= demand.high)
            good &= inside.all(axis=tuple(range(inside.ndim - 1)))
        return good

    @cached_property
    def valid_composed(self) -> NDArray[np.bool_]:
        return self.composed()


def proved(run: Trace, role: Role) -> bool:
    """Whether the engine proves the view of a corrupted party independent of its peer's secrets."""
    return not prove_private(run.dag, run.view(role), role).findings


def _collected(case: Case, leaf: Callable[[Role, str, Spec], RingArray]) -> list[tuple[str, str, Words]]:
    found: list[tuple[str, str, Words]] = []

    def keep(role: Role, name: str, spec: Spec) -> RingArray:
        x = leaf(role, name, spec)
        found.append((role.value, name, x.value))
        return x

    arguments(case, keep)
    return found


def _values(rng: np.random.Generator, low: int, high: int, shape: tuple[int, ...]) -> Ints:
    """Edge values of a range, uniform ones, and values of every magnitude."""
    edges = np.array([v for v in (low, low + 1, -1, 0, 1, high - 1, high) if low <= v <= high], dtype=np.int64)
    uniform = rng.integers(low, high, shape, np.int64, endpoint=True)
    scaled = rng.integers(-(1 << 62), 1 << 62, shape) >> rng.integers(0, 62, shape)
    kinds = rng.integers(0, 4, shape)
    return np.select([kinds == 0, kinds == 1], [rng.choice(edges, shape), uniform], np.clip(scaled, low, high))


def signed(words: NDArray[np.uint64], l: int) -> Ints:
    if l == 1:
        return (words & np.uint64(1)).astype(np.int64)
    shift = np.uint64(64 - l)
    return (words << shift).view(np.int64) >> np.int64(shift)


def _flat(output: Any) -> list[Ints]:
    if isinstance(output, list | tuple):
        return [leaf for part in output for leaf in _flat(part)]
    return [np.asarray(output)]
