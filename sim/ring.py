"""Rings Z_{2^l} and arrays over them, with a closed set of operations.

`RingArray` is the only value that protocol text computes with. It carries a *backend*, the interpretation:
`sim.concrete` (numpy words) or `sim.shapes` (no content). Shapes and rings are checked here, once, for every
interpretation; a backend only ever sees well-formed calls. Nothing is done in place.

Elementwise operands have EQUAL shapes: broadcasting is written out (`x.broadcast(shape)`), so that a mask used
several times is visible in the text. Python integers are public constants and may stand beside any array.
The truth value, integer value, hash or equality of a ring array is an error: control flow depends on public data only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, Protocol

import numpy as np

Shape = tuple[int, ...]
Index = Any  # static Python integers, slices, None, Ellipsis and tuples of them


class RingMismatch(TypeError):
    """Two operands live in different rings."""


class ShapeMismatch(ValueError):
    """Two operands have different shapes; broadcasting is explicit."""


class SecretControlFlow(TypeError):
    """Protocol text tried to turn a ring array into a Python value."""


@dataclass(frozen=True)
class Ring:
    """The ring of integers modulo 2^l, 1 <= l <= 64. `Ring(1)` is Z_2, where + is xor and * is and."""

    l: int

    def __post_init__(self) -> None:
        if not 1 <= self.l <= 64:
            raise ValueError(f"ring Z_2^l: expected 1 <= l <= 64, got l = {self.l}")

    @property
    def modulus(self) -> int:
        return 1 << self.l

    @property
    def mask(self) -> int:
        return (1 << self.l) - 1

    def __repr__(self) -> str:
        return f"Z_2^{self.l}"


Z2 = Ring(1)


@dataclass(frozen=True)
class Spec:
    """Public description of an array: ring and shape."""

    ring: Ring
    shape: Shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bits(self) -> int:
        return self.size * self.ring.l

    @property
    def nbytes(self) -> int:
        """Length of the wire encoding: l bits per element, padded to whole bytes."""
        return -(-self.bits // 8)


class Backend(Protocol):
    """One interpretation of the closed operation set. Values are opaque to everyone else."""

    name: str

    def const(self, ring: Ring, shape: Shape, value: Any) -> Any: ...
    def draw(self, spec: Spec, tape: Any, label: str) -> Any: ...
    def add(self, ring: Ring, a: Any, b: Any) -> Any: ...
    def sub(self, ring: Ring, a: Any, b: Any) -> Any: ...
    def mul(self, ring: Ring, a: Any, b: Any) -> Any: ...
    def neg(self, ring: Ring, a: Any) -> Any: ...
    def matmul(self, ring: Ring, a: Any, b: Any) -> Any: ...
    def shl(self, ring: Ring, a: Any, k: int) -> Any: ...
    def shr(self, ring: Ring, a: Any, k: int) -> Any: ...
    def cast(self, src: Ring, dst: Ring, a: Any) -> Any: ...
    def equals(self, ring: Ring, a: Any, c: int) -> Any: ...
    def reshape(self, a: Any, shape: Shape) -> Any: ...
    def transpose(self, a: Any, axes: Shape) -> Any: ...
    def index(self, a: Any, where: Index) -> Any: ...
    def broadcast(self, a: Any, shape: Shape) -> Any: ...
    def concat(self, parts: Sequence[Any], axis: int) -> Any: ...
    def sum(self, ring: Ring, a: Any, axis: int) -> Any: ...


def _refuse(what: str) -> NoReturn:
    raise SecretControlFlow(
        f"{what} of a ring array is not defined: control flow, lengths and keys may depend on public data only; "
        "compute with ring operations, or reveal the value through a protocol that declares it"
    )


class RingArray:
    """An array over a ring, in some interpretation. Built by `Party.const`, `Party.draw`, or an input."""

    __slots__ = ("backend", "ring", "shape", "value")
    __hash__ = None  # type: ignore[assignment]  # a secret is never a dictionary key
    __array_ufunc__ = None  # a numpy array beside a ring array is an error, not an array of ring arrays

    def __init__(self, backend: Backend, ring: Ring, shape: Shape, value: Any) -> None:
        self.backend = backend
        self.ring = ring
        self.shape = shape
        self.value = value

    # -- public facts ------------------------------------------------------------------------------------------
    @property
    def spec(self) -> Spec:
        return Spec(self.ring, self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __repr__(self) -> str:
        return f"RingArray({self.ring}, shape={self.shape}, {self.backend.name})"

    # -- refused -----------------------------------------------------------------------------------------------
    def __bool__(self) -> bool:
        _refuse("the truth value")

    def __int__(self) -> int:
        _refuse("the integer value")

    def __float__(self) -> float:
        _refuse("the float value")

    def __index__(self) -> int:
        _refuse("the index value")

    def __eq__(self, other: object) -> bool:
        _refuse("equality (==)")

    def __contains__(self, item: object) -> bool:
        _refuse("membership (in)")

    def __iter__(self) -> Iterator[RingArray]:
        _refuse("iteration")

    # -- arithmetic --------------------------------------------------------------------------------------------
    def _new(self, shape: Shape, value: Any, ring: Ring | None = None) -> RingArray:
        return RingArray(self.backend, ring or self.ring, shape, value)

    def const(self, value: Any, shape: Shape | None = None) -> RingArray:
        """A public constant in this array's ring and interpretation."""
        return constant(self.backend, self.ring, value, shape)

    def _operand(self, other: RingArray | int) -> RingArray:
        if isinstance(other, RingArray):
            if other.ring is not self.ring or other.backend is not self.backend:
                _compatible(self, other)
            if other.shape != self.shape:
                raise ShapeMismatch(f"operands of shapes {self.shape} and {other.shape}; broadcast explicitly")
            return other
        if isinstance(other, bool) or not isinstance(other, int):
            raise TypeError(f"expected a ring array or a public integer, got {type(other).__name__}")
        return self.const(other, self.shape)

    def __add__(self, other: RingArray | int) -> RingArray:
        return self._new(self.shape, self.backend.add(self.ring, self.value, self._operand(other).value))

    def __sub__(self, other: RingArray | int) -> RingArray:
        return self._new(self.shape, self.backend.sub(self.ring, self.value, self._operand(other).value))

    def __mul__(self, other: RingArray | int) -> RingArray:
        return self._new(self.shape, self.backend.mul(self.ring, self.value, self._operand(other).value))

    def __radd__(self, other: int) -> RingArray:
        return self + other

    def __rsub__(self, other: int) -> RingArray:
        return self.const(other, self.shape) - self

    def __rmul__(self, other: int) -> RingArray:
        return self * other

    def __neg__(self) -> RingArray:
        return self._new(self.shape, self.backend.neg(self.ring, self.value))

    def __matmul__(self, other: RingArray) -> RingArray:
        """Matrix product of (a, b) by (b, c)."""
        if not isinstance(other, RingArray):
            raise TypeError(f"matrix product: expected a ring array, got {type(other).__name__}")
        _compatible(self, other)
        if self.ndim != 2 or other.ndim != 2 or self.shape[1] != other.shape[0]:
            raise ShapeMismatch(f"matrix product of shapes {self.shape} and {other.shape}")
        return self._new((self.shape[0], other.shape[1]), self.backend.matmul(self.ring, self.value, other.value))

    def _boolean(self, op: str) -> None:
        if self.ring.l != 1:
            raise RingMismatch(f"{op} is defined in Z_2, got {self.ring}")

    def __xor__(self, other: RingArray | int) -> RingArray:
        self._boolean("xor")
        return self + other

    def __and__(self, other: RingArray | int) -> RingArray:
        self._boolean("and")
        return self * other

    def __invert__(self) -> RingArray:
        self._boolean("not")
        return self + 1

    # -- words and bits ----------------------------------------------------------------------------------------
    def __lshift__(self, k: int) -> RingArray:
        return self._new(self.shape, self.backend.shl(self.ring, self.value, self._shift(k)))

    def __rshift__(self, k: int) -> RingArray:
        """Logical (unsigned) right shift."""
        return self._new(self.shape, self.backend.shr(self.ring, self.value, self._shift(k)))

    def _shift(self, k: int) -> int:
        if not 0 <= k < self.ring.l:
            raise ValueError(f"shift in {self.ring}: expected 0 <= k < {self.ring.l}, got {k}")
        return k

    def cast(self, ring: Ring) -> RingArray:
        """Reduce to a narrower ring, or extend the unsigned representative to a wider one."""
        return self._new(self.shape, self.backend.cast(self.ring, ring, self.value), ring)

    def field(self, low: int, width: int) -> RingArray:
        """Bits low .. low + width - 1, as an array over Z_{2^width}."""
        if not 0 <= low < low + width <= self.ring.l:
            raise ValueError(f"field [{low}, {low + width}) of {self.ring}")
        return (self >> low).cast(Ring(width))

    def bit(self, i: int) -> RingArray:
        return self.field(i, 1)

    def equals(self, c: int) -> RingArray:
        """[x = c] for a public c, in Z_2."""
        return self._new(self.shape, self.backend.equals(self.ring, self.value, c & self.ring.mask), Z2)

    # -- structure ---------------------------------------------------------------------------------------------
    def reshape(self, *shape: int) -> RingArray:
        if -1 in shape:
            rest = math.prod(s for s in shape if s != -1)
            shape = tuple(self.size // max(rest, 1) if s == -1 else s for s in shape)
        if math.prod(shape) != self.size or min(shape, default=0) < 0:
            raise ShapeMismatch(f"reshape of {self.shape} to {shape}")
        return self._new(shape, self.backend.reshape(self.value, shape))

    def transpose(self, *axes: int) -> RingArray:
        axes = axes or tuple(reversed(range(self.ndim)))
        if sorted(axes) != list(range(self.ndim)):
            raise ShapeMismatch(f"transpose of {self.shape}: expected an order of the axes, got {axes}")
        return self._new(tuple(self.shape[a] for a in axes), self.backend.transpose(self.value, axes))

    def __getitem__(self, where: Index) -> RingArray:
        return self._new(selected(self.shape, where), self.backend.index(self.value, where))

    def broadcast(self, *shape: int) -> RingArray:
        """Repeat along axes of length 1 (and new leading axes), as numpy does."""
        if not _broadcasts(self.shape, shape):
            raise ShapeMismatch(f"broadcast of {self.shape} to {shape}")
        return self._new(shape, self.backend.broadcast(self.value, shape))

    def sum(self, axis: int = -1) -> RingArray:
        axis = _axis(axis, self.ndim)
        shape = self.shape[:axis] + self.shape[axis + 1 :]
        return self._new(shape, self.backend.sum(self.ring, self.value, axis))


def _compatible(a: RingArray, b: RingArray) -> None:
    if a.ring != b.ring:
        raise RingMismatch(f"operands in different rings: {a.ring} and {b.ring}")
    if a.backend is not b.backend:
        raise TypeError(f"operands of different interpretations: {a.backend.name}, {b.backend.name}")


def selected(shape: Shape, where: Index) -> Shape:
    """The shape of a selection from an array of this shape; raises IndexError as numpy does."""
    parts = where if isinstance(where, tuple) else (where,)
    if any(type(part) not in _BASIC for part in parts):
        return np.broadcast_to(np.uint8(0), shape)[where].shape
    return _selected(shape, tuple((p.start, p.stop, p.step) if isinstance(p, slice) else p for p in parts))


_BASIC = (int, slice, type(None), type(Ellipsis))


@lru_cache(maxsize=1 << 16)
def _selected(shape: Shape, parts: tuple[Any, ...]) -> Shape:
    where = tuple(slice(*part) if isinstance(part, tuple) else part for part in parts)
    return np.broadcast_to(np.uint8(0), shape)[where].shape


def _broadcasts(shape: Shape, to: Shape) -> bool:
    tail = to[len(to) - len(shape) :]
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape, tail, strict=True))


def _axis(axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ShapeMismatch(f"axis {axis} of an array of {ndim} axes")
    return axis % ndim


def constant(backend: Backend, ring: Ring, value: Any, shape: Shape | None = None) -> RingArray:
    """A public constant: an integer (repeated to `shape`), nested lists of integers, or an integer numpy array.

    Raises TypeError on anything that is not an integer, ShapeMismatch when the value does not repeat to `shape`.
    """
    if isinstance(value, int):
        array = np.asarray(value & ring.mask, dtype=np.uint64)
    else:
        array = np.asarray(value)
        if array.dtype.kind not in "iub":  # nested lists of integers beyond int64, or no integers
            each = np.vectorize(lambda v: operator.index(v) & ring.mask, otypes=[np.uint64])
            array = each(np.asarray(value, dtype=object))
        array = array.astype(np.uint64)
    shape = array.shape if shape is None else shape
    if not _broadcasts(array.shape, shape):
        raise ShapeMismatch(f"constant of shape {array.shape} repeated to {shape}")
    return RingArray(backend, ring, shape, backend.const(ring, shape, array))


def concat(*parts: RingArray, axis: int = 0) -> RingArray:
    """Join along an existing axis."""
    first = parts[0]
    axis = _axis(axis, first.ndim)
    for part in parts:
        _compatible(first, part)
        if part.shape[:axis] + part.shape[axis + 1 :] != first.shape[:axis] + first.shape[axis + 1 :]:
            raise ShapeMismatch(f"concat of {first.shape} and {part.shape} along axis {axis}")
    shape = (*first.shape[:axis], sum(p.shape[axis] for p in parts), *first.shape[axis + 1 :])
    value = first.backend.concat([p.value for p in parts], axis)
    return RingArray(first.backend, first.ring, shape, value)


def stack(*parts: RingArray, axis: int = 0) -> RingArray:
    """Join along a new axis."""
    axis = _axis(axis, parts[0].ndim + 1)
    widened = [p.reshape(*p.shape[:axis], 1, *p.shape[axis:]) for p in parts]
    return concat(*widened, axis=axis)
