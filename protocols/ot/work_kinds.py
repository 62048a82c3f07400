"""What is counted of oblivious transfers, beside their correlated OTs and messages, to predict the time they take."""

CHOSEN = "1-of-N bit"  # bits of the tables of 1-of-N OTs
CORRELATED = "correlated word"  # correlated OTs of single words
ROWS = "row COT"  # correlated OTs of a ladder, each with a row of words
ROW_WORDS = "row word"
TRIPLES = "bit triple"  # left factors
TRIPLE_BITS = "bit triple right"  # right factors
SOFT = "COT, SoftSpoken"
KINDS = (SOFT, CHOSEN, CORRELATED, ROWS, ROW_WORDS, TRIPLES, TRIPLE_BITS)


def iteration(preset: str) -> str:
    """One iteration of Ferret, whatever becomes of its COTs."""
    return f"Ferret iteration {preset}"
