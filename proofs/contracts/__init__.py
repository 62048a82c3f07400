"""What is proved: for each protocol a contract, that is, its functionality over the closed operation set, with demands.

The functionalities of `protocols.functionalities` are numpy on integers; these are the same functions on ring arrays of
any interpretation. The two are held together by random lanes (a rung of every proof) and by the tests. A comparison is
written as the sign of a difference: where the difference could wrap, a demand excludes it.
"""

from __future__ import annotations

from proofs.contracts import blocks, norms, rivals
from proofs.contracts.attention import (
    attention,
    attention_range,
    cross_attention,
    cross_attention_range,
    embed,
    encoder,
    flat,
    matmul,
)
from proofs.contracts.capacity import balanced_moe, balanced_range
from proofs.contracts.functions import exp, exp_range, piecewise, piecewise_range, reciprocal, reciprocal_range
from proofs.contracts.hidden import look_up, look_up_range, rectified, table_at
from proofs.contracts.layers import choose, linear, moe, moe_range, select_product, select_then_compute, selected_range
from proofs.contracts.routing import one_hot, probabilities, rankable, ranked, top_k
from proofs.contracts.words import (
    below_quarter,
    comparable,
    conjoin,
    greater_than,
    less_than,
    located_range,
    non_negative,
    one_ulp,
    sign_known,
    times,
    times_row,
    truncate,
)
from proofs.hybrid import Contract

CONTRACTS: dict[str, Contract] = {
    "reveal": Contract(lambda x: x),
    "reveal_to": Contract(lambda x: x),
    "conjoin": Contract(conjoin),
    "b2a": Contract(lambda b, *, ring, **_: b.cast(ring)),
    "mux": Contract(times),
    "mux_rows": Contract(times_row),
    "mux_public": Contract(lambda b, *, constants, ring: [b.cast(ring) * c for c in constants]),
    "less_than": Contract(less_than),
    "drelu": Contract(lambda x, **_: non_negative(x)),
    "greater_than": Contract(greater_than, comparable),
    "locate": Contract(greater_than, located_range),
    "truncate": Contract(truncate),
    "truncate_known_sign": Contract(truncate, sign_known),
    "truncate_bounded": Contract(truncate, below_quarter),
    "cross": Contract(lambda x, y, **_: x * y),
    "mul": Contract(lambda x, y: x * y),
    "cross_matmul": Contract(lambda x, y, **_: matmul(x, y)),
    "matmul": Contract(matmul),
    "square": Contract(lambda x: x * x),
    "relu": Contract(lambda x, **_: times(non_negative(x), x)),
    "exp": Contract(exp, exp_range),
    "reciprocal": Contract(reciprocal, reciprocal_range),
    "piecewise": Contract(piecewise, piecewise_range),
    "top_k": Contract(top_k, rankable),
    "one_hot": Contract(one_hot),
    "maximum": Contract(norms.maximum, norms.comparable),
    "argmax": Contract(norms.argmax, norms.comparable),
    "softmax": Contract(norms.softmax, norms.softmax_range),
    "rsqrt": Contract(norms.rsqrt, norms.rsqrt_range),
    "layer_norm": Contract(norms.layer_norm, norms.layer_norm_range),
    "rms_norm": Contract(norms.rms_norm, norms.rms_norm_range),
    "probabilities": Contract(probabilities, ranked),
    "choose": Contract(choose),
    "correlate": Contract(lambda bit, delta, **_: times(bit, delta)),
    "correlate_wide": Contract(lambda bit, *deltas, **_: [times(bit, d) for d in deltas]),
    "correlate_ragged": Contract(lambda bits, *deltas, **_: [times_row(bits[i], d) for i, d in enumerate(deltas)]),
    "linear": Contract(linear),
    "select_product": Contract(select_product),
    "select_then_compute": Contract(select_then_compute, selected_range),
    "moe_layer": Contract(
        lambda x, residual, *weights, plan: moe(x, residual, *flat(weights, plan.up.stacked), plan=plan),
        lambda x, residual, *weights, plan: moe_range(x, residual, *flat(weights, plan.up.stacked), plan=plan),
    ),
    "embed": Contract(embed),
    "crossing": Contract(lambda x, y, **_: matmul(x, y)),
    "row_squares": Contract(lambda x, **_: (x * x).sum(1)),
    "attention": Contract(attention, attention_range),
    "cross_attention": Contract(cross_attention, cross_attention_range),
    "encoder": Contract(encoder),
    "block": Contract(blocks.block, blocks.block_range),
    "decoder_block": Contract(blocks.decoder_block, blocks.decoder_block_range),
    "next_token": Contract(blocks.next_token, blocks.next_token_range),
    "plaintext_routing": Contract(moe, moe_range),
    "rectify": Contract(rectified),
    "bits_at": Contract(lambda x, *, f, ring, **_: x.field(f, ring.l)),
    "table_at": Contract(table_at),
    "look_up": Contract(look_up, look_up_range),
    "feed_forward": Contract(rivals.feed_forward),
    "evaluate_all": rivals.layer(rivals.evaluate_all),
    "evaluate_concatenated": rivals.layer(rivals.evaluate_concatenated),
    "scatter": rivals.layer(rivals.scatter),
    "cryptomoe": Contract(balanced_moe, balanced_range),
}
ONE_ULP_CONTRACT = Contract(one_ulp)
