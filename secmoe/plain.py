"""Text that may quote a stranger's file, on its way to a terminal."""


def printable(text: str) -> str:
    """The text with what does not print (escape sequences, line breaks) spelled out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
