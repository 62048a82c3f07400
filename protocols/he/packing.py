"""Plans of products under encryption, and the keys that they need: the door to `layouts`, `plan` and `selection`.
[SecMoE, Iron]
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from protocols.he.layouts import Chunk, Layout, ShapeDoesNotFit, next_pow2
from protocols.he.params import ParamSet
from protocols.he.plan import Plan
from protocols.he.selection import SelectPlan

__all__ = [
    "Chunk", "KeySet", "Layout", "LinearPlan", "Plan", "SelectPlan", "ShapeDoesNotFit", "key_set", "next_pow2",
    "upload_form",
]  # fmt: skip


_FEW = 64  # numbers of tokens to a ciphertext that are all tried
_MERGE_NBYTES = 2048  # what a merge, some milliseconds of one core, may cost in traffic where time counts too


@dataclass(frozen=True)
class LinearPlan(Plan):
    """x W^T for shared x of shape [n, d] and the server's W of shape [f, d]; several tokens to a ciphertext where
    they fit.

    tokens: how many to a ciphertext; 0: as many as fit with all their outputs, so that nothing need be packed. More of
    them leave room for fewer outputs of each, in more blocks: merged where there are Galois keys, else more responses.
    digits: W is words of the server's own (see `protocols.he.own`), in so many digits of digit_bits each.
    parts: W has so many blocks on its diagonal, (f / parts, d / parts) each, and is zero elsewhere: products side by
    side, which share uploads and responses.
    split: so many columns to a ciphertext, 0 for all of them: the server adds up their products, and more outputs find
    room in a response. packed: merge output blocks; without it every block is a response of its own, as in [Iron].
    """

    params: ParamSet
    n: int
    d: int
    f: int
    tokens: int = 0
    digits: int = 1
    parts: int = 1
    split: int = 0
    packed: bool = True

    def __post_init__(self) -> None:
        if min(self.n, self.d, self.f, self.parts) < 1 or self.d % self.parts or self.f % self.parts:
            raise ShapeDoesNotFit("linear plan: expected positive sizes, and multiples of its parts, came "
                                  f"n={self.n}, d={self.d}, f={self.f}, parts={self.parts}")
        if not 0 <= self.split <= self.d or (self.split and self.digits > 1):
            raise ShapeDoesNotFit(f"linear plan: expected 0 to {self.d} columns to a ciphertext, and no digits beside "
                                  f"them, came split={self.split}, digits={self.digits}")
        if not 0 <= self.tokens <= min(self.n, max(1, self.params.n // self.spacing)):
            raise ShapeDoesNotFit(f"linear plan: {self.params.name} holds {self.params.n // self.spacing} of {self.n} "
                                  f"tokens of {self.d} words in a ciphertext, came tokens={self.tokens}")
        if self.spacing > self.params.n:
            raise ShapeDoesNotFit(f"{self.params.name}: N = {self.params.n} is too small for rows of {self.d} words: "
                                  "split the columns over several products or take a larger parameter set")

    experts = 1
    order = "linear"

    @property
    def stride(self) -> int:
        """S2: columns lie side by side."""
        return 1

    @cached_property
    def spacing(self) -> int:
        """G: distance of neighbouring outputs."""
        return next_pow2(self.split or self.columns)

    @property
    def columns(self) -> int:
        """Columns of the weights: a word has one for each digit."""
        return self.d * self.digits

    @property
    def digit_bits(self) -> int:
        """Bits of a digit."""
        return -(-self.params.ring_bits // self.digits)

    @classmethod
    def fewest_bytes(cls, params: ParamSet, n: int, d: int, f: int, digits: int = 1, parts: int = 1) -> "LinearPlan":
        """The plan whose uploads and responses are shortest; of equals the one with the fewest blocks."""
        most = min(n, max(1, params.n // next_pow2(d * digits)))
        plans = [cls(params, n, d, f, tokens, digits, parts) for tokens in (0, *_groupings(n, most))]
        return min(plans, key=lambda plan: (plan.nbytes, plan.blocks))

    @property
    def nbytes(self) -> int:
        """Bytes of the uploads and responses of one product."""
        return self.operand("x").nbytes + self.response_nbytes

    @classmethod
    def cheapest(
        cls, params: ParamSet, n: int, d: int, f: int, *, packed: bool = True, uploads: int = 1, answers: int = 1,
        merge_nbytes: int = 0,
    ) -> "LinearPlan":
        """The plan, of all splits, with the fewest bytes of so many uploads and answers of this shape, each merge of an
        answer counted as merge_nbytes; of equals the one with the fewest products of a ciphertext and a weight
        polynomial."""
        splits = [1 << k for k in range(params.n.bit_length()) if 1 << k < d] + [0] * (next_pow2(d) <= params.n)
        plans = [
            cls(params, n, d, f, tokens, split=split, packed=packed)
            for split in splits
            for tokens in _groupings(n, min(n, max(1, params.n // next_pow2(split or d))))
        ]

        def price(plan: LinearPlan) -> tuple[int, int]:
            answer = plan.response_nbytes + merge_nbytes * plan.merges
            return uploads * plan.operand("x").nbytes + answers * answer, plan.products

        return min(plans, key=price)

    @classmethod
    def balanced(cls, params: ParamSet, n: int, d: int, f: int, packed: bool = True) -> "LinearPlan":
        """The plan with the fewest bytes where time counts too: half as many columns to a ciphertext are about half as
        many merges, for as many bytes more as another upload has."""
        return cls.cheapest(params, n, d, f, packed=packed, merge_nbytes=_MERGE_NBYTES)

    @property
    def merges(self) -> int:
        """Merges of two blocks, but for those of a block with none."""
        return self.units * self.blocks - self.responses if self.b else 0

    @property
    def products(self) -> int:
        """Products of a ciphertext and a weight polynomial."""
        return self.operand("x").count * self.blocks

    @property
    def group(self) -> int:
        """Blocks merged into one response."""
        return super().group if self.packed else 1

    @cached_property
    def n_out(self) -> int:
        """Outputs per block and token."""
        room = self.params.n // (self.spacing * self.per_ciphertext)
        return min(room, self.f) if self.per_ciphertext > 1 else room

    @cached_property
    def per_ciphertext(self) -> int:
        """Tokens in one ciphertext."""
        return self.tokens or max(1, min(self.n, self.params.n // (self.spacing * self.f)))

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of the result."""
        return (self.n, self.f)

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Exponents of the outputs' windows, one for each token of a ciphertext."""
        step = self.n_out * self.spacing
        return tuple(range(0, self.per_ciphertext * step, step))

    def operand(self, word: str) -> Layout:
        """Layout of the upload "x" (share of shape [n, d])."""
        if word != "x":
            raise ValueError(f"operand of a linear plan: expected 'x', came {word!r}")
        width = self.digit_bits if self.digits > 1 else 0
        return Layout(self.params, (self.n, self.d), self.params.ring_bits, self.split or self.columns, 1, 0,
                      self.places, self.digits, width, True, self.split)

    def chunks(self) -> list[Chunk]:
        """A weight chunk for each ciphertext of a token."""
        step = self.split or self.columns
        return [Chunk(slice(0, 1), slice(low, min(low + step, self.columns))) for low in range(0, self.columns, step)]


def _groupings(n: int, most: int) -> list[int]:
    """Numbers of tokens to a ciphertext, up to `most`. Where they are many, only the least of those that take as many
    ciphertexts for n tokens: it leaves most room for outputs; another one saves the rounding to whole bytes at most."""
    if most <= _FEW:
        return list(range(1, most + 1))
    return sorted(size for size in {-(-n // count) for count in range(1, n + 1)} if size <= most)


def upload_form(params: ParamSet, plans: Iterable[Plan], nbytes: int) -> tuple[bool, int]:
    """What a message of so many bytes holds: whether uploads at q1, and how many coefficients of the first component of
    each. Those at q0, at q1 and of selectors alone have different lengths, up to hundreds of them."""
    alone = [plan.operand("t") for plan in plans if isinstance(plan, SelectPlan)]
    forms = [(False, params.n), (True, params.n), *((False, layout.sent_count) for layout in alone)]
    return next((form for form in forms if nbytes % params.ciphertext_nbytes(*form) == 0), forms[1])


@dataclass(frozen=True)
class KeySet:
    """Which public keys a session needs: relinearisation, expansion elements (at q0 P) and packing elements (at q1
    P).
    """

    params: ParamSet
    relinearise: bool
    expansion: tuple[int, ...]
    packing: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the public keys: the encryption key at q1, and D (32 + N log2(QP) / 8) for each key of D digits."""
        p, wide_keys = self.params, int(self.relinearise) + len(self.expansion)
        special = sum(p.special_bits)
        wide = len(p.digits(len(p.q_bits))) * (32 + p.n * (p.q0_bits + special) // 8)
        narrow = len(p.digits(p.kept)) * (32 + p.n * (p.q1_bits + special) // 8)
        return 32 + p.n * p.q1_bits // 8 + wide_keys * wide + len(self.packing) * narrow


def key_set(params: ParamSet, plans: Iterable[Plan]) -> KeySet:
    """The union of the keys that the plans need."""
    chosen = list(plans)
    if any(plan.params != params for plan in chosen):
        raise ValueError(f"key set: every plan of a session must use {params.name}")
    return KeySet(params, any(plan.order != "linear" for plan in chosen),
                  tuple(sorted({g for plan in chosen for g in plan.expansion_elements})),
                  tuple(sorted({g for plan in chosen for g in plan.packing_elements})))
