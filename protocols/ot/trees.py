"""Numba kernels of Ferret: correlated GGM trees [HalfTree] and the local linear code of its LPN samples.

Nodes are 128-bit words, pairs of little-endian 64-bit words. A node x has the children H(x) and H(x) ^ x with
H(x) = pi(s(x)) ^ s(x), s(high, low) = (high ^ low, high): the nodes of every level add up to the same word. pi is
AES-128, computed between the kernels. No kernel branches on a secret; where the hole of a tree is decides addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from protocols.ot.kernels import U64, kernel

LOCALITY = 10  # words of the LPN secret in one sample
CODE_WORDS = 3  # 64-bit words of the stream that a sample's places come from
PLACE_BITS = 18  # the most that a place can take


@kernel
def mix(nodes: U64, out: U64) -> None:
    """out = s(nodes); (..., m, 2) words, as (trees, m, 2)."""
    for i in range(nodes.shape[0]):
        for j in range(nodes.shape[1]):
            low, high = nodes[i, j, 0], nodes[i, j, 1]
            out[i, j, 0] = high
            out[i, j, 1] = high ^ low


@kernel
def grow(nodes: U64, hashed: U64, out: U64, lefts: U64) -> None:
    """One level: the children of all nodes, (trees, m, 2) -> (trees, 2m, 2), and per tree the XOR of left children.

    hashed: pi(s(nodes)).
    """
    for i in range(nodes.shape[0]):
        a, b = np.uint64(0), np.uint64(0)
        for j in range(nodes.shape[1]):
            low, high = nodes[i, j, 0], nodes[i, j, 1]
            left_low, left_high = hashed[i, j, 0] ^ high, hashed[i, j, 1] ^ high ^ low
            out[i, 2 * j, 0] = left_low
            out[i, 2 * j, 1] = left_high
            out[i, 2 * j + 1, 0] = left_low ^ low
            out[i, 2 * j + 1, 1] = left_high ^ high
            a ^= left_low
            b ^= left_high
        lefts[i, 0] = a
        lefts[i, 1] = b


@kernel
def mend(out: U64, lefts: U64, sides: U64, sums: U64, totals: U64, holes: U64) -> None:
    """After `grow` on trees with a hole: one child of the hole follows from the sum of its side, the other one is the
    new hole, zero.

    sides: (trees,), the side that is known. sums: (trees, 2), XOR of all children on it. totals: (trees, 2), XOR of all
    known nodes, and holes: (trees,), both of the level before; they become those of the new one.
    """
    for i in range(out.shape[0]):
        at, side = 2 * holes[i], sides[i]
        mask = np.uint64(0) - side
        for w in range(2):
            # Right children are left ones ^ nodes, so the known right ones add up to the known left ones ^ totals.
            known = sums[i, w] ^ lefts[i, w] ^ out[i, at, w] ^ (totals[i, w] & mask)
            out[i, at + side, w] = known
            out[i, at + np.uint64(1) - side, w] = np.uint64(0)
            totals[i, w] ^= known
        holes[i] = at + np.uint64(1) - side


@kernel
def clear_marks(leaves: U64) -> None:
    """Set the lowest bit of every leaf to zero; (trees, m, 2)."""
    mask = ~np.uint64(1)
    for i in range(leaves.shape[0]):
        for j in range(leaves.shape[1]):
            leaves[i, j, 0] &= mask


_WORD = ir.IntType(64)
_BLOCK = ir.VectorType(_WORD, 2)


def _pointer(context: Any, builder: Any, signature: Any, args: Any, argument: int, index: Any) -> Any:
    """Pointer to word `index` of a contiguous uint64 argument."""
    make = context.make_array(signature.args[argument])
    return builder.gep(make(context, builder, args[argument]).data, [index])


def _targets(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
    """Pointers to the words of the secret that sample args[3] adds; arguments: stream, secret, out, sample, mask."""

    def constant(value: int) -> Any:
        return ir.Constant(_WORD, value)

    first = builder.mul(args[3], constant(CODE_WORDS))
    at = [_pointer(context, builder, signature, args, 0, builder.add(first, constant(w))) for w in range(CODE_WORDS)]
    words = [builder.load(pointer) for pointer in at]
    fields = [builder.lshr(word, constant(PLACE_BITS * i)) for word in words for i in range(3)]
    spare = [builder.lshr(word, constant(3 * PLACE_BITS)) for word in words[:2]]
    fields.append(builder.or_(spare[0], builder.shl(spare[1], constant(64 - 3 * PLACE_BITS))))
    places = [builder.shl(builder.and_(field, args[4]), constant(1)) for field in fields]
    return [_pointer(context, builder, signature, args, 1, place) for place in places]


def _add_places(typing: Any, stream: Any, secret: Any, out: Any, sample: Any, mask: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _pointer(context, builder, signature, args, 2, builder.shl(args[3], ir.Constant(_WORD, 1)))
        at = builder.bitcast(at, _BLOCK.as_pointer())
        total = builder.load(at, align=8)
        for target in _targets(context, builder, signature, args):
            total = builder.xor(total, builder.load(builder.bitcast(target, _BLOCK.as_pointer()), align=8))
        builder.store(total, at, align=8)
        return context.get_dummy_value()

    return types.void(stream, secret, out, types.intp, types.uint64), lower


# add_places(stream, secret, out, sample, mask): one sample of `encode`, 128 bits at a time.
add_places = cast(Callable[[U64, U64, U64, int, np.uint64], None], intrinsic(_add_places))


@kernel
def encode(stream: U64, secret: U64, out: U64) -> None:
    """Add to every sample the words of the LPN secret at its `LOCALITY` places, drawn from the stream.

    stream: (3 n,) uniform words, `CODE_WORDS` per sample with three places in each; the tenth from the ten highest bits
    of the first two. secret: (2^k 2,) words, k <= PLACE_BITS. out: (2 n,) words, changed.
    """
    mask = np.uint64(secret.shape[0] // 2 - 1)
    for j in range(out.shape[0] // 2):
        add_places(stream, secret, out, j, mask)
