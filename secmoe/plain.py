"""Text that may quote a stranger's file, on its way to a terminal."""

LONGEST = 1000  # characters of one line


def printable(text: str) -> str:
    """The text with what does not print (escape sequences, line breaks) spelled out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """What may quote an argument or a stranger's file of any length."""
    told = printable(" ".join(text.split()))
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}..."
