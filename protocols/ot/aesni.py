"""AES-128 inside a compiled kernel, by the CPU's AES instructions: leaf streams made and folded in registers, and a
level of correlated trees.

Optional: `AVAILABLE` says whether this CPU has the instructions. The portable path, `cryptography` between kernels,
gives identical words (`softspoken` and `ferret` compare them when they are first used).
"""

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from protocols.ot.kernels import U64, kernel

_TRIPLE, _, _features = cpu_target.target_context.codegen().magic_tuple()
_FEATURES: Final = set(_features.split(","))
AVAILABLE: Final = _TRIPLE.startswith("x86_64") and "+aes" in _FEATURES
_WIDE: Final = AVAILABLE and {"+vaes", "+avx512f"} <= _FEATURES
LEAVES: Final = 256
PLANES: Final = 8
BLOCKS: Final = 4  # counter blocks per row and step
WORDS: Final = 2 * BLOCKS
ROUNDS: Final = 10
NODES: Final = 32  # nodes of a tree that grow at a time

_WORD, _LANE = ir.IntType(64), ir.IntType(32)
_ROW = ir.VectorType(_WORD, WORDS)
_BLOCK = ir.VectorType(_WORD, 2)


def _pick(builder: Any, vector: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_LANE, len(lanes)), lanes))


def _round(builder: Any, last: bool, state: Any, key: Any) -> Any:
    """One AES round on a row: one 512-bit instruction, or four of 128 bits."""
    kind = _ROW if _WIDE else _BLOCK
    name = f"llvm.x86.aesni.{'aesenclast' if last else 'aesenc'}{'.512' if _WIDE else ''}"
    function = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(kind, [kind] * 2), name)
    if _WIDE:
        return builder.call(function, [state, key])
    parts = [_pick(builder, x, [2 * i, 2 * i + 1]) for x in (state, key) for i in range(BLOCKS)]
    out = [builder.call(function, [parts[i], parts[BLOCKS + i]]) for i in range(BLOCKS)]
    join = [ir.Constant(ir.VectorType(_LANE, n), list(range(n))) for n in (4, 8)]
    halves = [builder.shuffle_vector(out[i], out[i + 1], join[0]) for i in (0, 2)]
    return builder.shuffle_vector(*halves, join[1])


class _Words:
    """Typed access to the contiguous uint64 arguments of an intrinsic."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self._context, self._builder, self._signature, self._args = context, builder, signature, args

    def at(self, argument: int, index: Any, kind: Any = _ROW) -> Any:
        """Pointer to a vector that starts at word `index`."""
        make = self._context.make_array(self._signature.args[argument])
        data = make(self._context, self._builder, self._args[argument]).data
        return self._builder.bitcast(self._builder.gep(data, [index]), kind.as_pointer())

    def load(self, argument: int, index: Any, kind: Any = _ROW) -> Any:
        return self._builder.load(self.at(argument, index, kind), align=8)

    def fold(self, rows: list[Any], sums: int, plane: Any, target: int, index: Any) -> None:
        """XOR of eight rows to `target`; the XORs by bit of the row number onto three rows of `sums`."""
        xor = self._builder.xor
        pair = [xor(rows[i], rows[i + 1]) for i in (0, 2, 4, 6)]
        quad = [xor(pair[0], pair[1]), xor(pair[2], pair[3])]
        odd = xor(xor(rows[1], rows[3]), xor(rows[5], rows[7]))
        self._builder.store(xor(quad[0], quad[1]), self.at(target, index), align=8)
        for bit, value in enumerate((odd, xor(pair[1], pair[3]), quad[1])):
            place = self.at(sums, self._builder.add(plane, ir.Constant(_WORD, bit * WORDS)))
            self._builder.store(xor(self._builder.load(place, align=8), value), place, align=8)


def _leaf_rows(typing: Any, schedule: Any, base: Any, row: Any, first: Any, sums: Any, plane: Any, out: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = _Words(context, builder, signature, args)
        spread = [0, 1] * BLOCKS
        keys = [_pick(builder, words.load(0, ir.Constant(_WORD, 2 * r), _BLOCK), spread) for r in range(ROUNDS + 1)]
        first_block = builder.insert_element(ir.Constant(_ROW, [0] * WORDS), args[3], ir.Constant(_LANE, 1))
        offsets = ir.Constant(_ROW, [i // 2 if i % 2 else 0 for i in range(WORDS)])
        start = builder.xor(builder.add(_pick(builder, first_block, spread), offsets), keys[0])
        states = []
        for i in range(8):
            at = builder.mul(builder.add(args[2], ir.Constant(_WORD, i)), ir.Constant(_WORD, 2))
            states.append(builder.xor(_pick(builder, words.load(1, at, _BLOCK), spread), start))
        for r in range(1, ROUNDS + 1):
            states = [_round(builder, r == ROUNDS, state, keys[r]) for state in states]
        words.fold(states, 4, args[5], 6, builder.mul(args[2], ir.Constant(_WORD, WORDS // 8)))
        return context.get_dummy_value()

    return types.void(schedule, base, types.intp, types.intp, sums, types.intp, out), lower


def _grow_rows(typing: Any, schedule: Any, nodes: Any, start: Any, out: Any, lefts: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words, xor = _Words(context, builder, signature, args), builder.xor
        swapped, high = [i ^ 1 for i in range(WORDS)], ir.Constant(_ROW, [0, -1] * BLOCKS)
        keys = [
            _pick(builder, words.load(0, ir.Constant(_WORD, 2 * r), _BLOCK), [0, 1] * BLOCKS) for r in range(ROUNDS + 1)
        ]
        places = [builder.add(args[2], ir.Constant(_WORD, i * WORDS)) for i in range(8)]
        parents = [words.load(1, place) for place in places]
        mixed = [xor(_pick(builder, x, swapped), builder.and_(x, high)) for x in parents]
        states = [xor(x, keys[0]) for x in mixed]
        for r in range(1, ROUNDS + 1):
            states = [_round(builder, r == ROUNDS, state, keys[r]) for state in states]
        left = [xor(a, b) for a, b in zip(states, mixed, strict=True)]
        for place, x, parent in zip(places, left, parents, strict=True):
            right = xor(x, parent)
            for half in range(2):
                a, b = [4 * half, 4 * half + 1], [4 * half + 2, 4 * half + 3]
                lanes = [*a, *(i + WORDS for i in a), *b, *(i + WORDS for i in b)]
                pairs = builder.shuffle_vector(x, right, ir.Constant(ir.VectorType(_LANE, WORDS), lanes))
                at = builder.add(builder.mul(place, ir.Constant(_WORD, 2)), ir.Constant(_WORD, half * WORDS))
                builder.store(pairs, words.at(3, at), align=8)
        total = words.load(4, ir.Constant(_WORD, 0))
        for x in left:
            total = xor(total, x)
        builder.store(total, words.at(4, ir.Constant(_WORD, 0)), align=8)
        return context.get_dummy_value()

    return types.void(schedule, nodes, types.intp, out, lefts), lower


def _fold_rows(typing: Any, rows: Any, start: Any, sums: Any, plane: Any, out: Any, index: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = _Words(context, builder, signature, args)
        loaded = [words.load(0, builder.add(args[1], ir.Constant(_WORD, i * WORDS))) for i in range(8)]
        words.fold(loaded, 2, args[3], 4, args[5])
        return context.get_dummy_value()

    return types.void(rows, types.intp, sums, types.intp, out, types.intp), lower


# leaf_rows(schedule, base, row, first, sums, plane, out): eight rows from `row`, four counter blocks from `first`.
leaf_rows = cast(Callable[[U64, U64, int, int, U64, int, U64], None], intrinsic(_leaf_rows))
# grow_rows(schedule, nodes, start, out, lefts): the children of 32 nodes from word `start`; the left ones are added to
# `lefts`, by position modulo four.
grow_rows = cast(Callable[[U64, U64, int, U64, U64], None], intrinsic(_grow_rows))
# fold_rows(rows, start, sums, plane, out, index): eight rows from word `start` of an array to word `index` of `out`.
fold_rows = cast(Callable[[U64, int, U64, int, U64, int], None], intrinsic(_fold_rows))


@kernel
def grow_level(schedule: U64, nodes: U64, trees: int, out: U64, lefts: U64) -> None:
    """`trees.grow` on words in one row, a multiple of `NODES` nodes per tree: hashes, children, sums of left children.

    schedule: (22,) words, see `expand_key`. nodes: (trees m 2,). out: (trees 2m 2,). lefts: (trees, 2) words out.
    """
    each = nodes.shape[0] // trees
    sums = np.empty(WORDS, np.uint64)
    for i in range(trees):
        sums[:] = np.uint64(0)
        for start in range(i * each, (i + 1) * each, 2 * NODES):
            grow_rows(schedule, nodes, start, out, sums)
        lefts[i, 0] = sums[0] ^ sums[2] ^ sums[4] ^ sums[6]
        lefts[i, 1] = sums[1] ^ sums[3] ^ sums[5] ^ sums[7]


@kernel
def fold_streams(schedule: U64, base: U64, first: int, planes: U64, total: U64) -> None:
    """Counter streams of 256 leaves, folded as `fold_leaves` does: block j of row x is AES(base[x] ^ (0, first + j)).

    schedule: (22,) words, see `expand_key`. base: (512,) words. planes: (8, w) and total: (w,) words out.
    """
    sums, eighth = np.empty(9 * WORDS, np.uint64), np.empty(LEAVES // 8 * WORDS, np.uint64)
    few, last = np.zeros(8 * WORDS, np.uint64), np.empty(WORDS, np.uint64)
    for start in range(0, total.shape[0], WORDS):
        sums[:] = np.uint64(0)
        for row in range(0, LEAVES, 8):
            leaf_rows(schedule, base, row, first + start // 2, sums, 0, eighth)
        for group in range(LEAVES // 64):
            fold_rows(eighth, 8 * WORDS * group, sums, 3 * WORDS, few, WORDS * group)
        fold_rows(few, 0, sums, 6 * WORDS, last, 0)
        for j in range(min(WORDS, total.shape[0] - start)):
            total[start + j] = last[j]
            for b in range(PLANES):
                planes[b, start + j] = sums[WORDS * b + j]


def _s_box() -> bytes:
    """FIPS 197, 5.1.1: the inverse in GF(2^8), then an affine map over GF(2)."""
    powers, x = [], 1
    for _ in range(255):
        powers.append(x)
        x ^= (x << 1) ^ (0x11B if x & 0x80 else 0)  # times 3, a generator
    inverse = {powers[i]: powers[-i % 255] for i in range(255)}
    box = []
    for value in range(256):
        b = inverse.get(value, 0)
        rotations = [(b << s | b >> (8 - s)) & 0xFF for s in range(5)]
        box.append(0x63 ^ rotations[0] ^ rotations[1] ^ rotations[2] ^ rotations[3] ^ rotations[4])
    return bytes(box)


_S_BOX = _s_box()


def expand_key(key: bytes) -> U64:
    """FIPS 197, 5.2: the 11 round keys of AES-128 as 22 words."""
    words, constant = [key[i : i + 4] for i in range(0, 16, 4)], 1
    for i in range(4, 4 * (ROUNDS + 1)):
        last = words[-1]
        if i % 4 == 0:
            last = bytes(_S_BOX[b] for b in last[1:] + last[:1])
            last = bytes([last[0] ^ constant]) + last[1:]
            constant = (constant << 1) ^ (0x11B if constant & 0x80 else 0)
        words.append(bytes(a ^ b for a, b in zip(words[i - 4], last, strict=True)))
    return np.frombuffer(b"".join(words), np.uint64)
