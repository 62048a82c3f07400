"""Limits on what a parser may take: memory by the kernel's hand, time by timers."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

ROOM = 1 << 29  # bytes above what the process has: no honest input of these tests needs a tenth of it
CPU, WALL = 10.0, 60.0  # seconds of one input: of work, and of waiting for something that never comes


class Hangs(BaseException):
    """A parser that does not come to an end; no `except Exception` may hide it."""


@contextmanager
def limited(room: int = ROOM, cpu: float = CPU, wall: float = WALL) -> Iterator[None]:
    """A larger claim on memory ends in MemoryError, a longer computation or wait in Hangs."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    timers = {signal.SIGPROF: (signal.ITIMER_PROF, cpu), signal.SIGALRM: (signal.ITIMER_REAL, wall)}
    handlers = {number: signal.signal(number, _hangs) for number in timers}
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, before[1]))
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _hangs(number: int, frame: FrameType | None) -> None:
    raise Hangs(f"still at work or waiting: {signal.Signals(number).name}")
