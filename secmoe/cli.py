"""The command `secmoe`: exit statuses, errors of one line; `secmoe.options` has its grammar.

Exit status 0: done. 1: the check that was asked for failed. 2: bad input. A user's error is a ValueError class of this
project (or a missing file, or a spent budget) and prints one line; anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from reprlib import repr as shortened

from secmoe.exit import INTERRUPTED, SUCCESS, USAGE
from secmoe.options import RUN, command_line
from secmoe.plain import one_line

OWN = ("sim", "protocols", "proofs", "transcripts", "secmoe")
USER_RUNTIME_ERRORS = {"EpsilonExhausted", "UnsupportedSqlite", "RemoteError"}

# Failures of the machine while it writes, which Python reports without a file name.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class BadArgument(ValueError):
    """A word that no operating system passes to a program."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    keeping = False
    words = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text in any encoding
    try:
        _require_passable(words)
        parser = command_line()
        options, extra = parser.parse_known_args(words)
        if extra:
            several = options.command == RUN and not any(word.startswith("-") for word in extra)
            hint = '; put a text of several words in quotes: secmoe run "see you at five"' if several else ""
            parser.error(f"unrecognized arguments: {' '.join(extra)}{hint}")
        keeping = options.command == RUN
        status: int = options.command(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(f"secmoe: interrupted{'; no transcript was kept' if keeping else ''}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: so may the rest of the output
        return SUCCESS
    except (ValueError, RuntimeError, OSError) as error:
        if not _by_user(error):
            raise
        print(f"secmoe: {one_line(str(error))}", file=sys.stderr)
        return USAGE


def _require_passable(words: Sequence[str]) -> None:
    """Raise BadArgument for what no file name, and nothing else a command takes, can be."""
    for place, word in enumerate(words, 1):
        try:
            passable = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            passable = False
        if not passable:
            raise BadArgument(f"argument {place}: expected text without NUL, got {shortened(word)}; correct it")


def _by_user(error: Exception) -> bool:
    kind = type(error)
    if isinstance(error, OSError):
        return error.filename is not None or error.errno in DISK_ERRORS
    own = kind.__module__.split(".")[0] in OWN
    return own and (isinstance(error, ValueError) or any(base.__name__ in USER_RUNTIME_ERRORS for base in kind.__mro__))


if __name__ == "__main__":
    sys.exit(main())
