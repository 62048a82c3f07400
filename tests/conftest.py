"""Settings of the whole suite: Hypothesis without deadline (a run includes real cryptography) and explain phase, and
rare searches for garbage cycles."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "secmoe",
    deadline=None,
    print_blob=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# What `make check` asks for: fewer examples of every property whose test names no number of its own.
settings.register_profile("quick", settings.get_profile("secmoe"), max_examples=25)
settings.load_profile("secmoe")

# A DAG is 10^5 objects without a cycle, and a search reads them all: a fifth of the time of the proofs' tests.
gc.set_threshold(100_000, 50, 100)
