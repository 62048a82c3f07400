"""The matrix of planted faults and leak detectors: which cell must see, which may, and why the others are blind.

The cells of single faults were tried while they were written, the matrix as a whole afterwards. A cell that stops
seeing its fault fails the build, and so does a cell that begins to see one it is said to be blind to.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from protocols.broken import BRANCH, LEAK, SCHEDULE, Fault

# Detectors. Golden digests and replay do not count: they say that something changed, not that it leaks.
PROOF = "proof"  # symbolic; of the text
ENUMERATION = "enumeration"  # exact law at tiny width, hybrid; of the text
STRUCTURE = "structure"  # audit, exact equality of labels, order, sizes and rounds; hybrid
STATISTICS = "statistics"  # audit, all other analysers; hybrid
LATTICE = "lattice"  # real bytes: noise, a-parts, keys, decrypted words
REUSE = "reuse"  # real bytes: blocks, differences, draws, tweaks, two sessions
PARAMETERS = "parameters"  # real sessions: the table of secure moduli
DETECTORS = (PROOF, ENUMERATION, STRUCTURE, STATISTICS, LATTICE, REUSE, PARAMETERS)
ON_TEXTS = (PROOF, ENUMERATION, STRUCTURE, STATISTICS)
ON_BYTES = (LATTICE, REUSE, PARAMETERS)


@dataclass(frozen=True)
class Row:
    """sees: these cells must report the leak. may: these sometimes do. All others must not. runs: of one session, or
    of one audit. why: the reason for the row."""

    sees: frozenset[str]
    why: str
    runs: int = 4
    may: frozenset[str] = frozenset()
    case: str = ""  # of a fault below the interfaces, where it is not the first

    @property
    def model(self) -> str:
        return "real" if self.sees & set(ON_BYTES) else "hybrid"


def _row(*sees: str, why: str, runs: int = 4, may: tuple[str, ...] = (), case: str = "") -> Row:
    return Row(frozenset(sees), why, runs, frozenset(may), case)


AUDIT_RUNS = 600
TEXTS = MappingProxyType(
    {
        LEAK: _row(
            PROOF,
            ENUMERATION,
            STATISTICS,
            runs=AUDIT_RUNS,
            why="a word of the view depends on a secret: every detector of texts looks at words",
        ),
        SCHEDULE: _row(
            PROOF,
            ENUMERATION,
            STRUCTURE,
            runs=AUDIT_RUNS,
            may=(STATISTICS,),
            why="the messages themselves depend on a secret; what they say may be masked",
        ),
        BRANCH: _row(PROOF, why="refused in every interpretation: there is no run to look at"),
    }
)
# Texts whose row is another one than their kind's.
EXCEPTIONS = MappingProxyType(
    {
        "comparison_told": _row(
            PROOF,
            ENUMERATION,
            STATISTICS,
            runs=2000,
            why="the bit is the xor of two words of the view: the search for relations needs more "
            "runs than the view has columns",
        ),
        "sparse_message": _row(
            PROOF,
            ENUMERATION,
            STRUCTURE,
            runs=2 * AUDIT_RUNS,
            may=(STATISTICS,),
            why="few inputs have a zero entry, so few runs lack a message: half as many saw it in 17 of 20 campaigns",
        ),
        "moe_layer_route_told": _row(
            STATISTICS,
            runs=AUDIT_RUNS,
            why="a whole layer: the proof gets stuck and says UNKNOWN, never PROVED, and no instance is small enough "
            "to enumerate",
        ),
    }
)

REALS = MappingProxyType(
    {
        "zero_omitted": _row(LATTICE, REUSE, runs=2, why="c1 is a function of the weights, for every server alike"),
        "zero_reused": _row(LATTICE, why="two responses differ by the results' c1 alone; fresh in every session"),
        "zero_reused_in_pairs": _row(LATTICE, runs=2, why="as zero_reused, within one response"),
        "zero_default_seed": _row(REUSE, may=(LATTICE,), why="fresh within a session, the same in all sessions"),
        "zero_short": _row(LATTICE, runs=6, may=(REUSE,), why="three guesses; two sessions may draw the same number"),
        "flood_missing": _row(LATTICE, why="the noise is small, and follows the weights at a wide response modulus"),
        "flood_short": _row(LATTICE, why="as flood_missing"),
        "flood_halved": _row(LATTICE, why="the law of the noise is half as wide"),
        "flood_once": _row(LATTICE, why="two responses have one noise; the law of one value per place is coarse"),
        "flood_broadcast": _row(LATTICE, why="neighbours have one noise"),
        "flood_one_sided": _row(LATTICE, why="the law of the noise has one side"),
        "flood_default_seed": _row(REUSE, why="fresh within a session, the same in all sessions"),
        "switch_first": _row(LATTICE, runs=48, why="a correlation of .02 with the rounding: needs 10^5 outputs"),
        "all_coefficients": _row(LATTICE, why="unmasked words repeat with the inputs"),
        "seed_reused": _row(REUSE, why="one seed in two uploads"),
        "upload_repeated": _row(REUSE, LATTICE, why="one seed and one error in two uploads"),
        "error_from_seed": _row(LATTICE, why="the error is the expansion of the seed on the wire"),
        "upload_default_seed": _row(REUSE, why="the seeds of one session are the seeds of all"),
        "error_omitted": _row(LATTICE, why="the law of the error is one point"),
        "error_one_sided": _row(LATTICE, why="the law of the error has one side"),
        "error_short": _row(LATTICE, runs=16, why="a variance of 10 instead of 10.5: needs 10^5 coefficients"),
        "secret_skewed": _row(LATTICE, why="half of the secret's coefficients are zero"),
        "secret_binary": _row(LATTICE, why="no coefficient of the secret is -1"),
        "key_error_omitted": _row(LATTICE, runs=1, why="one division gives the secret"),
        "key_error_from_seed": _row(LATTICE, runs=1, why="one subtraction and one division give the secret"),
        "key_seed_shared": _row(REUSE, runs=1, why="one seed in all rows"),
        "secret_default_seed": _row(REUSE, why="two sessions have one secret"),
        "secret_sent": _row(REUSE, why="a private draw is on the wire"),
        "slice_twice": _row(REUSE, why="equal choices, keys and tweaks"),
        "stream_rewound": _row(REUSE, why="equal extension messages and keys"),
        "iteration_repeated": _row(REUSE, why="equal messages of trees and keys"),
        "tweak_restarted": _row(REUSE, why="tweaks are not on the wire: only the ledger of hashes tells"),
        "raw_keys": _row(REUSE, may=(), why="no COT is hashed"),
        "raw_keys_of_choices": _row(REUSE, why="no COT is hashed"),
        "choices_shown": _row(REUSE, why="the xor of two messages is the input"),
        "delta_default_seed": _row(REUSE, why="two sessions have one correlation"),
        "base_scalars_default_seed": _row(REUSE, why="two sessions have one base OT message"),
        "ring_too_small": _row(PARAMETERS, runs=1, why="215 bits at N = 4096"),
        "special_prime_uncounted": _row(PARAMETERS, runs=1, why="265 bits at N = 8192"),
        "test_set_in_use": _row(PARAMETERS, runs=1, why="N = 256"),
    }
)


def expected(fault: Fault) -> Row:
    """The row of a fault."""
    return REALS[fault.name] if fault.services is not None else EXCEPTIONS.get(fault.name, TEXTS[fault.kind])
