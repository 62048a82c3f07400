"""Exit statuses of the command."""

SUCCESS = 0
FAILED = 1  # the check that was asked for failed
USAGE = 2  # bad input
INTERRUPTED = 130
