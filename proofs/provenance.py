"""Where every message comes from: the mask map, the sub-graph around a message, and lints.

The mask map lists, for everything a corrupted party receives, the random symbols that hide it: their label, the source
line that draws them, and every use of them in the whole run. It is read off the steps of a privacy proof.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from html import escape

import networkx as nx

from proofs.private import Peeled, prove_private
from proofs.symbolic import CONST, DRAW, INPUT, cone
from proofs.trace import Seen, Trace
from sim.role import Role

OPEN, HIDDEN, KNOWN = "open", "masked", "no secret"
NEUTRAL = frozenset({"reshape", "transpose", "index", "concat", "broadcast"})  # a view of a mask, not a use of it
WIDTH, HEIGHT, BOX = 190, 70, 34  # of the drawing, in pixels


class UnknownMessage(ValueError):
    """A label under which the party receives nothing."""


@dataclass(frozen=True)
class Mask:
    """A random symbol: who draws it under which label, where, and the source lines that use it."""

    node: int
    owner: str
    label: str
    line: str
    consumers: tuple[str, ...]


@dataclass(frozen=True)
class MapRow:
    """One received array. status: masked (by `masks`), no secret (nothing to hide), or open (secrets show)."""

    label: str
    nbytes: int
    delivered_by: str
    line: str
    status: str
    masks: tuple[Mask, ...]


@dataclass(frozen=True)
class Lint:
    """Something that a reviewer should look at; not by itself a leak."""

    kind: str
    label: str
    line: str
    detail: str


class Provenance:
    """The arrays of one run as one corrupted party sees them."""

    def __init__(self, run: Trace, corrupted: Role, peeled: Peeled | None = None) -> None:
        self.run, self.dag, self.corrupted = run, run.dag, corrupted
        self.view: list[Seen] = run.view(corrupted)
        self.peeled = peeled or prove_private(run.dag, self.view, corrupted)
        self._cause: dict[int, list[int]] = defaultdict(list)
        for step in self.peeled.steps:
            for number in step.nodes:
                rest = self.dag.nodes[number].args if step.rule == "concat" else step.symbols
                self._cause[number] = list(rest)
        self._open = {finding.seen.node for finding in self.peeled.findings}
        self._consumers: dict[int, list[int]] = defaultdict(list)
        for number, node in enumerate(self.dag.nodes):
            for a in node.args:
                self._consumers[a].append(number)
        self._seen = set(cone(self.dag, [seen.node for seen in self.view]))
        outputs = [n for role in Role for n in run.outputs[role]]
        views = [seen.node for role in Role for seen in run.view(role)]
        self._used = set(cone(self.dag, [*outputs, *views]))

    # -- the mask map ----------------------------------------------------------------------------------------------
    def rows(self) -> list[MapRow]:
        """The mask map, in the order in which the party receives."""
        return [self._row(seen) for seen in self.view]

    def _row(self, seen: Seen) -> MapRow:
        node = self.dag.nodes[seen.node]
        masks = tuple(self.mask(n) for n in self._masks(seen.node))
        status = OPEN if seen.node in self._open else HIDDEN if masks else KNOWN
        by = "functionality" if seen.ideal else self.corrupted.peer.value
        nbytes = -(-node.ring.l * math.prod(node.shape) // 8)
        return MapRow(seen.label, nbytes, by, node.line, status, masks)

    def _masks(self, root: int) -> list[int]:
        """The draws that made the symbols a view entry consists of uniform."""
        found, stack, passed = set(), [root], {root}
        while stack:
            number = stack.pop()
            node = self.dag.nodes[number]
            if node.op == DRAW and node.owner != self.corrupted.value:
                found.add(number)
            for a in self._cause.get(number, list(node.args)):
                if a not in passed:
                    passed.add(a)
                    stack.append(a)
        return sorted(found)

    def mask(self, number: int) -> Mask:
        """A draw with the source lines of everything that computes with it."""
        node = self.dag.nodes[number]
        lines = sorted({self.dag.nodes[c].line for c in self._users(number)})
        return Mask(number, node.owner, node.label, node.line, tuple(lines))

    def _users(self, number: int, within: set[int] | None = None) -> list[int]:
        """The operations that compute with a symbol, through reshapes and selections of it."""
        found, stack = set(), [number]
        while stack:
            for user in self._consumers[stack.pop()]:
                if user in (self._used if within is None else within):
                    if self.dag.nodes[user].op in NEUTRAL:
                        stack.append(user)
                    else:
                        found.add(user)
        return sorted(found)

    # -- lints -----------------------------------------------------------------------------------------------------
    def lints(self) -> list[Lint]:
        """Masks that reach the view on several ways, and randomness that nothing uses."""
        found = []
        for number, node in enumerate(self.dag.nodes):
            if node.op != DRAW or node.owner == self.corrupted.value:
                continue
            uses = self._users(number, self._seen) if number in self._seen else []
            if len(uses) > 1:
                lines = ", ".join(sorted({self.dag.nodes[u].line for u in uses}))
                detail = f"{len(uses)} operations below the view of the {self.corrupted.value} use it: {lines}"
                found.append(Lint("several consumers", node.label, node.line, detail))
            if number not in self._used:
                found.append(Lint("unused randomness", node.label, node.line, "no message and no output depends on it"))
        return found

    # -- the sub-graph around a message ----------------------------------------------------------------------------
    def graph(self, label: str, depth: int = 6) -> nx.DiGraph:
        """What a message is computed from, `depth` operations back; edges point from operand to result.

        Raises UnknownMessage.
        """
        roots = [seen.node for seen in self.view if seen.label == label]
        if not roots:
            known = ", ".join(sorted({seen.label for seen in self.view})[:5])
            raise UnknownMessage(
                f"the {self.corrupted.value} receives nothing under {label!r}; it receives {known}, ..."
            )
        fresh = {number for step in self.peeled.steps for number in step.nodes}
        graph: nx.DiGraph = nx.DiGraph(label=label, corrupted=self.corrupted.value)
        level = dict.fromkeys(roots, 0)
        queue = list(roots)
        for number in queue:
            node = self.dag.nodes[number]
            graph.add_node(
                number,
                op=node.op,
                text=self._text(number),
                line=node.line,
                level=level[number],
                kind=self._kind(number, fresh),
                message=number in roots,
            )
            for a in node.args if level[number] < depth else ():
                if a not in level:
                    level[a] = level[number] + 1
                    queue.append(a)
        graph.add_edges_from((a, n) for n in level for a in self.dag.nodes[n].args if a in level)
        return graph

    def _text(self, number: int) -> str:
        node = self.dag.nodes[number]
        name = f"{node.owner}: {node.label.rpartition('/')[2]}" if node.op in (INPUT, DRAW) else node.op
        return f"{name} {node.ring}{list(node.shape) if node.shape else ''}"

    def _kind(self, number: int, fresh: set[int]) -> str:
        node = self.dag.nodes[number]
        if node.op in (INPUT, DRAW):
            own = node.owner == self.corrupted.value
            return "own" if own else "secret" if node.op == INPUT else "mask"
        return "public" if node.op == CONST else "uniform" if number in fresh else "value"


COLOURS = {"own": "#d0e3f7", "secret": "#f4b6b0", "mask": "#bfe3c0", "public": "#eeeeee", "uniform": "#dff2df",
           "value": "#ffffff"}  # fmt: skip


def dot(graph: nx.DiGraph) -> str:
    """Graphviz text of a sub-graph."""
    lines = [f"digraph {_quoted(graph.graph['label'])} {{", "  rankdir=BT; node [shape=box, style=filled];"]
    for number, data in graph.nodes(data=True):
        text = _quoted(data["text"] + "\n" + data["line"])
        lines.append(
            f"  n{number} [label={text}, fillcolor={_quoted(COLOURS[data['kind']])}"
            f"{', penwidth=3' if data['message'] else ''}];"
        )
    lines += [f"  n{a} -> n{b};" for a, b in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def svg(graph: nx.DiGraph) -> str:
    """The sub-graph as a drawing: the message on top, one row per operation back; hover for the source line."""
    rows: dict[int, list[int]] = defaultdict(list)
    for number, data in graph.nodes(data=True):
        rows[data["level"]].append(number)
    widest = max(len(row) for row in rows.values())
    place = {
        number: (int((i + 0.5) * widest * WIDTH / len(row)), level * HEIGHT + BOX)
        for level, row in rows.items()
        for i, number in enumerate(row)
    }
    width, height = widest * WIDTH, (max(rows) + 1) * HEIGHT + BOX // 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="11"><title>{escape(graph.graph["label"])}</title>'
    ]
    for a, b in graph.edges:
        (x1, y1), (x2, y2) = place[a], place[b]
        parts.append(f'<line x1="{x1}" y1="{y1 - BOX // 2}" x2="{x2}" y2="{y2 + BOX // 2}" stroke="#888"/>')
    for number, data in graph.nodes(data=True):
        x, y = place[number]
        parts.append(
            f'<g><title>{escape(data["line"])}</title><rect x="{x - WIDTH // 2 + 6}" y="{y - BOX // 2}" '
            f'width="{WIDTH - 12}" height="{BOX}" rx="4" fill="{COLOURS[data["kind"]]}" stroke="#444" '
            f'stroke-width="{3 if data["message"] else 1}"/><text x="{x}" y="{y + 4}" text-anchor="middle">'
            f"{escape(data['text'])}</text></g>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
