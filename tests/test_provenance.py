"""The mask map, sub-graphs and lints."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import networkx as nx
import pytest

from proofs.certificate import find, trace_case
from proofs.provenance import COLOURS, HIDDEN, KNOWN, OPEN, Provenance, UnknownMessage, dot, svg
from proofs.symbolic import DRAW, INPUT, Dag
from proofs.trace import Trace, trace
from protocols import functionalities as F
from protocols.broken import HARD
from protocols.ot.ideal import IdealOtService
from sim.party import Party, ProtocolDecl, protocol
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT, SERVER, Role

W = Ring(8)


def of(name: str, case: str, role: Role) -> Provenance:
    entry, found, _ = find({"protocol": name, "case": case, "corrupted": role.value})
    return Provenance(trace_case(entry, found), role)


def run(proto: ProtocolDecl[Any]) -> Trace:
    """A protocol in which the server sends to the client; its secret is x."""
    dag = Dag()
    return trace(proto, [IdealOtService()], [None], [dag.leaf("server", "x", Spec(W, (2,)))], {}, dag)


@protocol(realises=F.REVEAL)
async def careful(p: Party, x: RingArray | None) -> RingArray:
    """Two values, two masks; a third draw that nothing uses."""
    if p.role is CLIENT:
        return await p.recv("a", Spec(W, (2,))) - await p.recv("b", Spec(W, (2,)))
    assert x is not None
    r, s = p.draw("r", W, (2,)), p.draw("s", W, (2, 1))
    p.draw("spare", W, (2,))
    p.send("a", x + r)
    p.send("b", s.reshape(2) - x)
    return r


@protocol(realises=F.REVEAL)
async def careless(p: Party, x: RingArray | None) -> RingArray:
    """One mask for two values."""
    if p.role is CLIENT:
        return await p.recv("a", Spec(W, (2,))) - await p.recv("b", Spec(W, (2,)))
    assert x is not None
    r = p.draw("r", W, (2,))
    p.send("a", x + r)
    p.send("b", x * x + r)
    return r


def test_map_of_a_masked_message() -> None:
    first, second = Provenance(run(careful), CLIENT).rows()
    assert (first.label, first.nbytes, first.delivered_by, first.status) == ("r1/careful/a", 2, "server", HIDDEN)
    (mask,) = first.masks
    assert (mask.owner, mask.label) == ("server", "r1/careful/r")
    here = careful.run.__code__.co_firstlineno
    assert mask.line == f"{__name__}:{here + 6}"
    assert mask.consumers == (f"{__name__}:{here + 8}",)
    assert first.line == f"{__name__}:{here + 8}"
    assert [m.label for m in second.masks] == ["r1/careful/s"]  # through its reshape
    assert second.masks[0].consumers == (f"{__name__}:{here + 9}",)


def test_map_of_a_leak_names_the_shared_mask() -> None:
    rows = Provenance(run(careless), CLIENT).rows()
    assert [row.status for row in rows] == [OPEN, OPEN]
    assert {mask.label for row in rows for mask in row.masks} == {"r1/careless/r"}
    assert len(rows[0].masks[0].consumers) == 2


def test_lints() -> None:
    (unused,) = Provenance(run(careful), CLIENT).lints()
    assert (unused.kind, unused.label) == ("unused randomness", "r1/careful/spare")
    (shared,) = Provenance(run(careless), CLIENT).lints()
    assert (shared.kind, shared.label) == ("several consumers", "r1/careless/r")
    assert shared.detail.startswith("2 operations below the view of the client use it: ")
    assert not Provenance(run(careless), SERVER).lints()  # its own draw hides nothing from it


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("name", [("mux", "64"), ("conjoin", "two groups"), ("drelu", "8"), ("linear", "8 to 5")])
def test_every_masked_row_names_a_draw_of_somebody_else(name: tuple[str, str], role: Role) -> None:
    found = of(*name, role)
    rows = found.rows()
    assert [row.label for row in rows] == [seen.label for seen in found.view]
    for row in rows:
        assert row.status == HIDDEN, row
        assert row.line.startswith("protocols.")
        for mask in row.masks:
            assert mask.owner != role.value and mask.line.startswith("protocols.")


def test_opened_share_is_open_and_own_values_need_no_mask() -> None:
    (row,) = of("reveal", "word", CLIENT).rows()
    assert row.status == OPEN and not row.masks

    @protocol(realises=F.REVEAL)
    async def constant(p: Party, x: RingArray | None) -> RingArray:
        if p.role is SERVER:
            p.send("c", p.const(W, 5, (2,)))
            return p.const(W, 5, (2,))
        got: RingArray = await p.recv("c", Spec(W, (2,)))
        return got

    (row,) = Provenance(run(constant), CLIENT).rows()
    assert row.status == KNOWN


def test_graph_around_a_message() -> None:
    found = Provenance(run(careful), CLIENT)
    graph = found.graph("r1/careful/a")
    assert nx.is_directed_acyclic_graph(graph)
    (root,) = [n for n, data in graph.nodes(data=True) if data["message"]]
    assert graph.nodes[root]["kind"] == "uniform"
    kinds = {found.dag.nodes[n].label: graph.nodes[n]["kind"] for n in graph.predecessors(root)}
    assert kinds == {"x": "secret", "r1/careful/r": "mask"}
    assert {found.dag.nodes[n].op for n in graph.predecessors(root)} == {INPUT, DRAW}
    with pytest.raises(
        UnknownMessage, match="receives nothing under 'nothing'; it receives r1/careful/a, r1/careful/b"
    ):
        found.graph("nothing")


def test_depth_bounds_the_graph() -> None:
    found = of("drelu", "64", CLIENT)
    label = found.view[0].label
    sizes = [len(found.graph(label, depth)) for depth in (0, 1, 3, 50)]
    assert sizes[0] >= 1 and sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_drawings_are_well_formed() -> None:
    graph = of("mux", "64", CLIENT).graph("r1/mux/correlate/correlate_wide/functionality")
    text = dot(graph)
    assert text.startswith('digraph "r1/mux/correlate/correlate_wide/functionality" {') and text.endswith("}\n")
    assert text.count(" -> ") == graph.number_of_edges() and text.count("[label=") == len(graph)
    picture = ET.fromstring(svg(graph))
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f"{space}g")) == len(graph)
    assert len(picture.findall(f"{space}line")) == graph.number_of_edges()
    fills = {rect.get("fill") for rect in picture.iter(f"{space}rect")}
    assert COLOURS["mask"] in fills and COLOURS["secret"] in fills


@pytest.mark.parametrize("name", ["odd_determinant", "disjoint_slices", "masks_in_secret_order"])
def test_masks_of_a_joint_step_are_those_of_the_whole_step(name: str) -> None:
    entry = next(entry for entry in HARD if entry.name == name)
    found = Provenance(trace_case(entry, entry.cases[0]), SERVER)
    drawn = {node.label for node in found.dag.nodes if node.op == DRAW}
    for row in found.rows():
        assert row.status == HIDDEN and {mask.label for mask in row.masks} == drawn
