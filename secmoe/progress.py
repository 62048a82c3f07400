"""Status lines and bars for long work: on standard error, and only on a terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.status import Status

from sim.message import Message
from sim.role import Role

_LAYER = re.compile(r"/layer(\d+)")


class Progress:
    """Shows the scope at work, messages and bytes so far, and of a whole model the layer at work. Use as
    a context manager around the run."""

    def __init__(self, what: str, enabled: bool | None = None, *, layers: int = 0) -> None:
        self._enabled = sys.stderr.isatty() if enabled is None else enabled
        self._what, self._layers, self._layer = what, layers, 0
        # Few refreshes: their CPU time is taken from the same process as the parties' work.
        self._status = Status(what, console=Console(stderr=True), refresh_per_second=4)
        self._messages = self._nbytes = 0
        self._scope = ""

    def __enter__(self) -> Progress:
        if self._enabled:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._enabled:
            self._status.stop()

    def on_send(self, message: Message) -> None:
        self._messages += 1
        self._nbytes += message.nbytes
        self._update()

    def on_scope(self, role: Role, scope: str) -> None:
        self._scope = f"{role.value} {'/'.join(scope.split('/')[:3])}"
        if found := _LAYER.search(scope):
            self._layer = max(self._layer, int(found[1]) + 1)
        self._update()

    @property
    def line(self) -> str:
        """What is shown."""
        layer = f"layer {self._layer} of {self._layers}  " if self._layer and self._layers else ""
        return f"{self._what}  {layer}{self._messages} messages, {self._nbytes:,} bytes  {self._scope}"

    def _update(self) -> None:
        if self._enabled:
            self._status.update(self.line)


class Blocks:
    """Bars of blocks done, one for each kind of work, with the time spent and the time left. A context manager."""

    def __init__(self, enabled: bool | None = None, console: Console | None = None) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("blocks"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            refresh_per_second=4,
            transient=True,
            disable=not (sys.stderr.isatty() if enabled is None else enabled),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Blocks:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def told(self, what: str) -> Callable[[int, int], None]:
        """Takes (blocks done, blocks in all) of one kind of work, as often as it changes."""

        def told(done: int, total: int) -> None:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what)
            self._bars.update(self._tasks[what], completed=done, total=total)

        return told
