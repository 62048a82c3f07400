"""Faults in parameters: sets that compute correctly and are not 128-bit secure."""

from __future__ import annotations

from protocols.broken.engine import homomorphic, plant
from protocols.broken.fault import Fault
from protocols.broken.responses import product_case
from protocols.he.params import PARAM_SETS, ParamSet
from protocols.linear import linear

PARAMETERS: list[Fault] = []
_REAL = PARAM_SETS["P64tiny"]


class Unchecked(ParamSet):
    """A parameter set that nobody held against the table."""

    def __post_init__(self) -> None:
        self._check_ranges()


_SETS = (
    ("ring_too_small", "the ring has 4096 coefficients for a modulus of 215 bits",
     Unchecked("unchecked", 4096, 64, 18, _REAL.q_bits, 5, (), _REAL.response_bits, 40, False)),
    ("special_prime_uncounted", "the special prime of the keys was left out of the count",
     Unchecked("unchecked", 8192, 64, 18, _REAL.q_bits, 5, (50,), _REAL.response_bits, 40, False)),
    ("test_set_in_use", "the parameter set of the unit tests got into a session",
     Unchecked("unchecked", 256, 64, 18, (40,) * 6, 4, (45, 45), (38, 38), 48, True, insecure_test=True)),
)
for _name, _what, _params in _SETS:
    plant(PARAMETERS, _name, _what, 15, linear, (product_case("four columns", _params, 1, 4, 8),), homomorphic(),
          "follows from the table of secure moduli", client=False, server=True)
