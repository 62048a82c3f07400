"""SoftSpoken OT extension with k = 8 [Roy22]: 16 all-but-one trees of 256 leaves give correlated OTs at 15 bits each.

The COT receiver knows every leaf of 16 trees, the COT sender all leaves but number Delta_i of tree i. Every leaf is a
pseudorandom bit stream r_x. u_i = XOR_x r_x, t_i = sum_x x r_x and q_i = sum_x (x ^ Delta_i) r_x (plane by plane) obey
q_i = t_i ^ Delta_i u_i, and the missing leaf has weight zero in q_i. The receiver sends d_i = u_i ^ u_0 for i > 0; then
the 16 trees share the choices u = u_0 and q = t ^ u Delta holds for 128-bit rows.
"""

from __future__ import annotations

import functools

import numpy as np

from protocols.ot import aesni
from protocols.ot.aes import KEY_BYTES, TweakableHash
from protocols.ot.kernels import U64, Bits, fold_leaves, spread_counters, transpose_planes

K = 8
TREES = 16
LEAVES = 1 << K
BASE_OTS = K * TREES
TREE_BYTES = TREES * (K - 1) * 2 * KEY_BYTES  # the first level is the base OT's keys themselves
CHUNK = 8192  # COTs per block: 16 trees of 256 leaves of 1 KiB, one tree at a time in the cache
LABEL_STEP = 1 << 32  # nodes of level l have the tweak indices l * LABEL_STEP ..


class KernelMismatch(RuntimeError):
    """Two implementations of one kernel disagree."""


def extension_bits(n: int) -> int:
    """Bits of the extension message for n COTs: TREES - 1 planes, each padded to whole bytes."""
    return (TREES - 1) * 8 * -(-n // 8)


def base_choices(delta: bytes) -> Bits:
    """The COT sender's base OT choices: the complement of Delta, bit by bit, each tree's highest level first."""
    return np.unpackbits(np.frombuffer(delta, np.uint8)) ^ np.uint8(1)


def grow_trees(prg: TweakableHash, keys: Bits) -> tuple[U64, bytes]:
    """COT receiver: all leaves and the level sums, masked by the base OT keys.

    keys: (BASE_OTS, 2, 16) bytes. Gives leaves (TREES, LEAVES, 2) and the TREE_BYTES of the message: for every level
    after the first and every tree, XOR of all left children and XOR of all right children.
    """
    pads = np.ascontiguousarray(keys).view(np.uint64).reshape(TREES, K, 2, 2)
    nodes = np.ascontiguousarray(pads[:, 0])
    sums = []
    for level in range(1, K):
        children = _children(prg, nodes, level)
        sums.append(np.bitwise_xor.reduce(children, axis=1) ^ pads[:, level])
        nodes = children.reshape(TREES, -1, 2)
    return nodes, np.stack(sums).tobytes()


def grow_punctured(prg: TweakableHash, delta: bytes, keys: Bits, message: bytes) -> U64:
    """COT sender: all leaves but leaf delta[i] of tree i, which is zero. keys: (BASE_OTS, 16) bytes."""
    own = np.ascontiguousarray(keys).view(np.uint64).reshape(TREES, K, 2)
    sums = np.frombuffer(message, np.uint64).reshape(K - 1, TREES, 2, 2)
    hole = np.frombuffer(delta, np.uint8).astype(np.int64)
    tree = np.arange(TREES)
    nodes = np.zeros((TREES, 2, 2), np.uint64)
    nodes[tree, 1 - (hole >> (K - 1))] = own[:, 0]
    for level in range(1, K):
        children = _children(prg, nodes, level)
        parent, side = hole >> (K - level), 1 - ((hole >> (K - 1 - level)) & 1)
        children[tree, parent] = 0
        known = np.bitwise_xor.reduce(children, axis=1)[tree, side]
        children[tree, parent, side] = sums[level - 1, tree, side] ^ own[:, level] ^ known
        nodes = children.reshape(TREES, -1, 2)
    return nodes


def _children(prg: TweakableHash, nodes: U64, level: int) -> U64:
    """(TREES, m, 2) nodes -> (TREES, m, 2 children, 2), each node hashed under its own tweak."""
    return prg(nodes.reshape(-1, 2), level * LABEL_STEP, 2).reshape(TREES, -1, 2, 2)


class LeafStreams:
    """The streams of one party's leaves, folded into the planes of q or t. No position is used twice.

    Block c of leaf x is H(leaf, (label of x, c)) = pi(s ^ (label, c)) ^ s with s = pi(leaf). Folding is linear, so the
    outer s is folded once and for all.
    """

    def __init__(self, prg: TweakableHash, leaves: U64, delta: bytes | None) -> None:
        """leaves: (TREES, LEAVES, 2). delta: the COT sender's; it orders the leaves by x ^ delta[i]."""
        self._pi = prg.pi
        self._schedule = aesni.expand_key(prg.pi.key)
        outer = prg.pi(leaves)
        inner = outer.copy()
        inner[:, :, 0] ^= np.arange(TREES * LEAVES, dtype=np.uint64).reshape(TREES, LEAVES) + np.uint64(K * LABEL_STEP)
        if delta is not None:
            order = (np.arange(LEAVES) ^ np.frombuffer(delta, np.uint8)[:, None].astype(np.int64))[..., None]
            outer, inner = np.take_along_axis(outer, order, axis=1), np.take_along_axis(inner, order, axis=1)
        self._base: U64 = np.ascontiguousarray(inner)
        self._planes, self._totals = np.empty((TREES, K, 2), np.uint64), np.empty((TREES, 2), np.uint64)
        for i in range(TREES):
            fold_leaves(np.ascontiguousarray(outer[i]), self._planes[i], self._totals[i])
        self.used = 0  # 128-bit blocks taken from every leaf

    def fold(self, blocks: int) -> tuple[U64, U64]:
        """The next `blocks` 128-bit blocks of every leaf: planes (TREES, K, 2 blocks) and totals (TREES, 2 blocks)."""
        compiled = aesni.AVAILABLE and _self_tested()
        planes, totals = self._fold(self.used, blocks, compiled)
        self.used += blocks
        return planes, totals

    def _fold(self, first: int, blocks: int, compiled: bool) -> tuple[U64, U64]:
        """compiled: by AES instructions inside the kernel, else by `cryptography`; the words are the same."""
        planes, totals = np.empty((TREES, K, 2 * blocks), np.uint64), np.empty((TREES, 2 * blocks), np.uint64)
        rows = np.empty((0 if compiled else LEAVES, blocks, 2), np.uint64)
        for i in range(TREES):
            if compiled:
                aesni.fold_streams(self._schedule, self._base[i].reshape(-1), first, planes[i], totals[i])
            else:
                spread_counters(self._base[i], first, rows)
                self._pi(rows, rows)
                fold_leaves(rows.reshape(LEAVES, -1), planes[i], totals[i])
        planes.reshape(TREES, K, blocks, 2)[:] ^= self._planes[:, :, None]
        totals.reshape(TREES, blocks, 2)[:] ^= self._totals[:, None]
        return planes, totals


@functools.cache
def _self_tested() -> bool:
    """Compare the compiled leaf streams with the portable ones, once per process; raises KernelMismatch."""
    leaves = np.arange(TREES * LEAVES * 2, dtype=np.uint64).reshape(TREES, LEAVES, 2)
    streams = LeafStreams(TweakableHash(bytes(range(KEY_BYTES))), leaves, None)
    for fast, slow in zip(streams._fold(7, 5, True), streams._fold(7, 5, False), strict=True):
        if not np.array_equal(fast, slow):
            raise KernelMismatch(
                "OT extension: the AES instructions give other words than `cryptography`; this CPU or this version of "
                "numba is broken: set NUMBA_CPU_FEATURES=-aes to use the portable path"
            )
    return True


def _chunks(n: int) -> list[tuple[int, int]]:
    """(first COT, 128-bit blocks per leaf) of every chunk."""
    return [(start, -(-min(CHUNK, n - start) // 128)) for start in range(0, n, CHUNK)]


def extend_receiver(streams: LeafStreams, n: int) -> tuple[bytes, Bits, U64]:
    """n COTs at the receiver: the message d, the random choices u (n,) and t (n, 2)."""
    nbytes = -(-n // 8)
    d = np.zeros((TREES - 1, nbytes), np.uint8)
    u, t = np.empty(nbytes, np.uint8), np.empty((-(-n // 128) * 128, 2), np.uint64)
    for start, blocks in _chunks(n):
        planes, totals = streams.fold(blocks)
        at = slice(start // 8, min(start // 8 + 16 * blocks, nbytes))
        d[:, at] = (totals[1:] ^ totals[0]).view(np.uint8)[:, : at.stop - at.start]
        u[at] = totals[0].view(np.uint8)[: at.stop - at.start]
        transpose_planes(planes.reshape(BASE_OTS, -1), t[start : start + 128 * blocks])
    choices = np.unpackbits(u, bitorder="little")[:n]
    if n % 8:
        d[:, -1] &= (1 << n % 8) - 1
    return d.tobytes(), choices, t[:n]


def extend_sender(streams: LeafStreams, delta: bytes, message: bytes, n: int) -> U64:
    """n COTs at the sender: q (n, 2), from the receiver's message."""
    d = np.frombuffer(message, np.uint8).reshape(TREES - 1, -(-n // 8))
    bits = np.unpackbits(np.frombuffer(delta, np.uint8), bitorder="little").reshape(TREES, K, 1)
    select = np.uint64(0) - bits[1:].astype(np.uint64)
    q = np.empty((-(-n // 128) * 128, 2), np.uint64)
    for start, blocks in _chunks(n):
        planes, _ = streams.fold(blocks)
        part = d[:, start // 8 : start // 8 + 16 * blocks]
        words = np.zeros((TREES - 1, 16 * blocks), np.uint8)
        words[:, : part.shape[1]] = part
        planes[1:] ^= words.view(np.uint64)[:, None, :] & select
        transpose_planes(planes.reshape(BASE_OTS, -1), q[start : start + 128 * blocks])
    return q[:n]
