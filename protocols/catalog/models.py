"""Rows of whole blocks and models: embedding, attention, encoder."""

from __future__ import annotations

from protocols.attention import AttentionPlan, AttentionWeights, attention
from protocols.catalog.examples import R64, owned
from protocols.catalog.layers import TINY, matrix, state
from protocols.embedding import ONE_HOT, ROWS, VALUES, EmbeddingPlan, EmbeddingWeights, embed
from protocols.encoder import CLASS, LOGITS, EncoderPlan, EncoderWeights, encoder
from protocols.entry import DECLARED, Case, Entry, Secret
from protocols.model.config import MoeConfig
from protocols.model.tables import GELU_MINIMAX
from sim.role import CLIENT


def _small(*shape: int, bits: int = 18) -> Secret:
    """Words of the client's below 2^bits in size."""
    return Secret(R64, shape, CLIENT, -(1 << bits), 1 << bits)


def _embedding_case(inputs: str, n: int, features: int, d: int) -> Case:
    plan = EmbeddingPlan(TINY, n, features, d, inputs)
    table = () if inputs == ROWS else (matrix(d, features),)
    secrets = (owned(CLIENT, R64, n, features), *table, matrix(n, d))
    return Case(
        inputs,
        secrets,
        {"plan": plan},
        plans=(plan.product,),
        prepare=lambda p, w: EmbeddingWeights.prepare(p, plan, w),
    )


def _attention_case(name: str, plan: AttentionPlan) -> Case:
    bias = (matrix(*plan.scores.shape),) if plan.biased else ()
    secrets = (
        state(plan.n, plan.d),
        _small(plan.n, bits=28),
        matrix(3 * plan.d, plan.d),
        matrix(plan.d, plan.d),
        *bias,
    )
    return Case(
        name, secrets, {"plan": plan}, plans=plan.plans, prepare=lambda p, w: AttentionWeights.prepare(p, plan, w)
    )


def encoder_case(name: str, plan: EncoderPlan) -> Case:
    """A call of a whole model. Weights up to 1/4: the residual stream stays within its reach."""
    n, d, f, E = plan.tokens, plan.shape.d, plan.shape.f, plan.shape.E
    experts = ((E, f, d), (E, f, d), (E, d, f)) if plan.shape.gated else ((E, f, d), (E, d, f))
    block = ((d,), (3 * d, d), (d, d), (d,), (E, d), *experts)
    table = () if plan.inputs == ROWS else ((d, plan.features),)
    weights = (*table, (n, d), *block * plan.layers, (plan.classes, d), (plan.classes,))
    secrets = (
        *(_small(n, plan.features, bits=0 if plan.inputs == ONE_HOT else 18), _small(n, bits=28), _small(n)),
        *(matrix(*shape, bound=1 << 16) for shape in weights),
    )
    return Case(
        name, secrets, {"plan": plan}, plans=plan.plans, prepare=lambda p, w: EncoderWeights.prepare(p, plan, w)
    )


_GATED = MoeConfig(d=4, f=8, E=3, gated=True, activation="gelu")
_RELU = MoeConfig(d=4, f=8, E=3, gated=False, activation="relu")
MODELS: tuple[Entry, ...] = (
    Entry(
        embed,
        (
            _embedding_case(ONE_HOT, 2, 8, 3),
            _embedding_case(VALUES, 2, 3, 4),
            _embedding_case(ROWS, 2, 3, 3),
        ),
    ),
    Entry(
        attention,
        (
            _attention_case("two heads", AttentionPlan(TINY, 3, 4, 2)),
            _attention_case("causal, biased", AttentionPlan(TINY, 3, 2, 1, causal=True, biased=True)),
        ),
    ),
    Entry(
        encoder,
        (
            encoder_case("class", EncoderPlan(_GATED, 2, 5, 1, 2, 3, TINY, GELU_MINIMAX, ONE_HOT, CLASS)),
            encoder_case("logits", EncoderPlan(_RELU, 2, 4, 1, 1, 2, TINY, "relu", VALUES, LOGITS)),
        ),
        DECLARED,
    ),
)
