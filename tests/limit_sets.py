"""Parameter sets for the tests of the limits: the shipped ones by name, and planted variants."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from protocols.he.params import PARAM_SETS, ParamSet

P64S, P64TINY, P32TINY = (PARAM_SETS[name] for name in ("P64s", "P64tiny", "P32tiny"))


def log2(value: Fraction) -> float:
    return math.log2(value.numerator) - math.log2(value.denominator)


def planted(base: ParamSet, **changes: object) -> ParamSet:
    """A set with other fields; the constructor's own check is switched off, so that only the ledger can refuse it."""
    return replace(base, name="planted", insecure_test=True, **changes)  # type: ignore[arg-type]  # fields by name
