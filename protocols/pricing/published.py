"""Published figures that prices are held against: [SecMoE], 8 input tokens, top-1, nodes of 64 virtual processors."""

from __future__ import annotations

from dataclasses import dataclass

IRON, BUMBLEBEE, SECMOE = "Iron", "BumbleBee", "SecMoE"
EXPERTS = (16, 32, 64, 128)
TOKENS = 8
GIGABYTES = {IRON: (7.13, 9.44, 17.19, 24.17), BUMBLEBEE: (1.42, 2.04, 3.37, 5.81), SECMOE: (0.81, 0.84, 0.81, 0.82)}
COMPUTATION_32_TO_128 = {"baselines": 1.78, SECMOE: 0.24}  # growth, as a fraction
MODEL_GROWTH, TIME_GROWTH = 63.0, 15.2
GELU_MAX_ERROR, GELU_MEAN_ERROR = 1.2e-2, 1.7e-3


@dataclass(frozen=True)
class Minutes:
    """Of one query with 128 experts."""

    model: str
    network: str
    iron: float
    bumblebee: float
    secmoe: float


MINUTES = (
    Minutes("moe-small", "lan", 12.07, 9.76, 2.52),
    Minutes("moe-small", "wan", 59.14, 13.88, 3.68),
    Minutes("switch-base", "lan", 35.5, 32.3, 12.1),
    Minutes("switch-base", "wan", 143.78, 34.89, 14.73),
)
