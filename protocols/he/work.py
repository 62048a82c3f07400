"""How often the kernels of the homomorphic layer run: closed forms on plans, beside the engine that runs them.

A count is named after its parameter set and kernel. Server: `absorb` an upload; `transform` one limb; `expand` one node
of an oblivious expansion (and put its words together again, where tokens are taken apart); `rescale`, `lift` and
`product` of the tensor product; `polynomial` of weights (and each `weight` placed in it), transformed once for all
units; `multiply` one with one unit; `pair` (a merge of blocks), `merge`, `lower` of the packing; `respond` one
ciphertext (and each `output` hidden in it). Client: `encrypt` one upload, `decrypt` one response. `wide`: at q0, as
operands of tensor products, and selected weights of the literal order, have it.
"""

from __future__ import annotations

from protocols.he.packing import Layout, LinearPlan, Plan, SelectPlan
from protocols.he.params import ParamSet
from sim.work import NOTHING, Work

KERNELS = (
    "encrypt", "absorb", "encrypt wide", "absorb wide", "transform", "expand", "rescale", "lift", "product",
    "polynomial", "weight", "multiply", "polynomial wide", "multiply wide", "pair", "merge", "lower", "respond",
    "output", "decrypt",
)  # fmt: skip


def _named(params: ParamSet, **counts: int) -> Work:
    return Work({f"{params.name} {kernel.replace('_', ' ')}": count for kernel, count in counts.items() if count})


def upload(layout: Layout, rows: int) -> Work:
    """Of so many operands of this layout, from the client's share to the server's ciphertexts."""
    count = rows * layout.count
    if layout.switched:
        return _named(layout.params, encrypt=count, absorb=count)
    found = _named(layout.params, encrypt_wide=count, absorb_wide=count)
    return found + _apart(layout).times(rows) if layout.levels else found


def _apart(layout: Layout) -> Work:
    """Of taking the tokens of one operand apart, each with its words from exponent 0 on."""
    words, tokens, each = layout.shape[-1], layout.tokens, layout.per_ciphertext
    inner, gaps = (words - 1).bit_length(), layout.stride.bit_length() - 1
    nodes = (gaps + sum(min(1 << level, words) for level in range(inner))) * layout.count
    for held in (min(each, tokens - low) for low in range(0, tokens, each)):
        nodes += words * sum(min(1 << level, held) for level in range(layout.levels - inner - gaps))
    limbs = 2 * len(layout.params.q_bits)
    return _named(layout.params, expand=nodes, transform=limbs * (layout.count + layout.results))


def tensor(plan: SelectPlan, rows: int) -> Work:
    """Of `Engine.tensor`: selector times vector, row by row."""
    units, limbs, chunks = rows * plan.units, 2 * len(plan.params.q_bits), plan.chunk_count
    nodes = sum(min(1 << level, chunks) for level in range(plan.a))
    if plan.order == "L":
        return _named(plan.params, rescale=units, transform=units * limbs, expand=units * nodes)
    work = _named(plan.params, rescale=units, lift=units * chunks, product=units * chunks)
    if plan.a == 0 and plan.shared == 1:
        return work
    uploads = rows * plan.operand("x").count
    for low in range(0, plan.units, plan.shared):  # the levels that tell tokens apart come first
        held = min(plan.shared, plan.units - low)
        apart = sum(min(1 << level, held) for level in range(plan.shared.bit_length() - 1))
        work += _named(plan.params, expand=rows * (apart + held * nodes))
    return work + _named(plan.params, transform=limbs * (uploads + units * chunks))


def weights(plan: Plan) -> Work:
    """Of making the weight polynomials of a plan, once for all units of one call of `Engine.apply`."""
    polynomials, placed = plan.blocks * len(plan.chunks()), plan.placed
    if plan.order == "L":
        return _named(plan.params, polynomial_wide=polynomials, weight=placed)
    return _named(plan.params, polynomial=polynomials, weight=placed)


def apart(plan: Plan, rows: int, operands: int = 0) -> Work:
    """What `answer` and `weights` of so many rows leave out where every row has weights of its own, less what they
    count too often where only so many operands (0: as many as rows) are transformed for all of them."""
    shared = (rows - operands) * _limbs(plan) if operands else 0
    return weights(plan).times(rows - 1) - _named(plan.params, transform=shared)


def _limbs(plan: Plan) -> int:
    """Of the uploads of one operand of a linear layer. Those at q0 are switched to q1: the limbs that go are
    transformed back, and what is left of them to those that stay."""
    layout, wide = plan.operand("x"), len(plan.params.q_bits)
    if layout.switched:
        return 2 * plan.params.kept * layout.count
    return 2 * (wide + (wide if plan.params.kept < wide else 0)) * layout.count


def answer(plan: Plan, rows: int) -> Work:
    """Of the rest of `Engine.apply` for so many rows, of `Engine.linear` before it, of responses and decryption."""
    blocks = plan.blocks
    units = rows * plan.units
    products = units * blocks * len(plan.chunks())
    if plan.order == "L":
        limbs = 2 * len(plan.params.q_bits)
        work = _named(plan.params, multiply_wide=products, transform=units * blocks * limbs)
        work += _named(plan.params, lift=units * blocks, product=units * blocks)
    else:
        work = _named(plan.params, multiply=products)
    if isinstance(plan, LinearPlan):
        work += _named(plan.params, transform=rows * _limbs(plan))
    answers, outputs = rows * plan.responses, rows * plan.n * plan.f
    work += _named(plan.params, respond=answers, output=outputs, decrypt=answers)
    return work + (_packing(plan, rows, units) if plan.b else NOTHING)


def _packing(plan: Plan, rows: int, units: int) -> Work:
    groups = [min(plan.group, plan.blocks - first) for first in range(0, plan.blocks, plan.group)]
    own = units // rows
    joined = [min(plan.together, own - first) for first in range(0, own, plan.together)]
    levels = [units * sum(-(-count >> level) for count in groups)
              for level in range(1, plan.b - plan.upload_levels + 1)]
    levels += [rows * sum(-(-count >> level) for count in joined) for level in range(1, plan.upload_levels + 1)]
    lowered = rows * len(joined) * len(groups)
    return _named(plan.params, pair=levels[0], merge=sum(levels[1:]), lower=lowered)
