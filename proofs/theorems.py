"""What is proved beside contracts: relations between random outputs, cases of inputs, and the lemma of tournaments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from proofs.contracts.routing import merge
from proofs.contracts.words import (
    below,
    times,
)
from proofs.elements import Elements
from proofs.hybrid import Demand
from proofs.smt import Answer, prove_equal
from proofs.symbolic import Dag
from sim.ring import Z2, Ring, RingArray, Spec, concat


def _triples(outputs: list[RingArray]) -> tuple[list[RingArray], list[RingArray]]:
    a, b, c = outputs
    return [c], [a.reshape(*a.shape, 1).broadcast(*b.shape) & b]


# Where outputs are random: what they are, and what they should be.
RELATIONS: dict[str, Callable[[list[RingArray]], tuple[list[RingArray], list[RingArray]]]] = {"bit_triples": _triples}


# -- cases of inputs --------------------------------------------------------------------------------------------------
Variant = Callable[[list[RingArray]], tuple[list[RingArray], list[Demand]]]


def cases_of(name: str, specs: Sequence[Spec], public: Mapping[str, Any]) -> list[Variant]:
    """Ways to write the secrets in leaves that together cover all secrets which satisfy the demands.

    Probabilities: one case for each expert that may hold the maximum; the leaves are the winner and differences to it.
    """
    if name != "probabilities":
        return [lambda leaves: (leaves, [])]

    def holding(j: int) -> Variant:
        def build(leaves: list[RingArray]) -> tuple[list[RingArray], list[Demand]]:
            apart, winners = leaves
            top, E, low = winners[:, :1], apart.shape[1], 1 - (1 << (public["l"] - 2))
            columns = [top if i == j else top + apart[:, i : i + 1] for i in range(E)]
            rest = [top + apart[:, (j + i) % E : (j + i) % E + 1] for i in range(1, winners.shape[1])]
            return [concat(*columns, axis=1), concat(top, *rest, axis=1)], [
                Demand("not above the winner", apart, low, 0)
            ]

        return build

    return [holding(j) for j in range(specs[0].shape[1])]


def merge_lemma(l: int, seconds: float) -> Answer:
    """The step of every tournament: merge keeps (max, its first place) of two neighbouring runs.

    For a, b in [-2^(l-2), 2^(l-2)): the merged pair is a's if a >= b as integers, else b's. All members of the left run
    stand before those of the right one, so the first maximum of both runs is the left one's exactly if a >= b; by
    induction over merges, any tournament in the original order gives the maximum and the lowest index that has it.
    """
    dag = Dag()
    a, b = (dag.leaf("secret", name, Spec(Ring(l), ())) for name in "ab")
    hot_a, hot_b = (dag.leaf("secret", name, Spec(Z2, ())) for name in ("hot_a", "hot_b"))
    half = 1 << (l - 1)
    left = ~below(a + half, b + half)
    value, rows = merge((a, [hot_a]), (b, [hot_b]))
    pairs = [(value, b + times(left, a - b)), (rows[0], left & hot_a), (rows[1], ~left & hot_b)]
    elements = Elements(dag)
    number = {id(x): int(elements.array(x.value).flat[0]) for pair in (*pairs, (a, b)) for x in pair}
    quarter = 1 << (l - 2)
    given = [(number[id(x)], -quarter, quarter - 1) for x in (a, b)]
    answers = [prove_equal(elements, number[id(x)], number[id(y)], given, (), seconds) for x, y in pairs]
    return next((answer for answer in answers if not answer.holds), answers[0])
