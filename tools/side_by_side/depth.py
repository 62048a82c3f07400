"""The longest chain of messages in a link trace of SPU that both ranks of one process wrote, one thread each."""

from __future__ import annotations

import re
from collections.abc import Sequence

CALL = re.compile(r"\[spu link\] key=(?P<key>\S+), tag=(?P<tag>[^,]*), value=(?P<value>\S*)")
ROUTE = re.compile(r"P2P-\d+:(?P<src>\d)->(?P<dst>\d)$")


def chain(lines: Sequence[str]) -> int:
    """Depth of the deepest message. Both ranks write one log: a send has a value, the peer's receive of that key none.
    A collective swaps; neither rank goes on before both have called it, so it counts where the second one did."""
    clock, sent, waiting = [0, 0], dict[str, int](), set[str]()
    for call in filter(None, map(CALL.search, lines)):
        key = call["key"]
        if route := ROUTE.search(key):
            src, dst = int(route["src"]), int(route["dst"])
            if call["value"]:
                sent[key] = clock[src] + 1
                if key in waiting:
                    clock[dst] = max(clock[dst], sent[key])
            elif key in sent:
                clock[dst] = max(clock[dst], sent[key])
            else:
                waiting.add(key)
        elif key in waiting:
            sent[key] = max(clock) + 1
            clock = [sent[key], sent[key]]
        else:
            waiting.add(key)
    return max(sent.values(), default=0)
