"""The page of a kept run: verdict, cost per phase and scope, sequence of messages, each message with its bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sim.network import NETWORKS
from sim.ring import Spec
from sim.wire import describe
from transcripts.facts import Reader, Selection, summary
from transcripts.layout import is_imported
from transcripts.page import render
from transcripts.show import SEEDED, SHOWN_WORDS, content_lines
from transcripts.store import Header

LEVELS = 4
HEAD_BYTES = 8 * SHOWN_WORDS  # of each message; as many words fit, whatever their width
INTACT = "INTACT: header, content and order of all {} messages agree with digests, chain and seal"
UNKEYED = "The seal is not keyed: it detects accidents, not forgery. Compare it with one that you were given."


def run_page(selection: Selection, read: Reader | None = None, verdicts: Sequence[tuple[str, str]] = ()) -> str:
    """The page of a verified run, or of the selected part of it: nothing else is in the file.

    read: what tells the content of messages that are no ring arrays. verdicts: further lines of the verdict, each with
    its tone (`good`, `warn`, `bad`).
    """
    facts = summary(selection)
    seen = selection.transcript.headers if selection.view is None else selection.headers
    lines = [("good", INTACT.format(len(seen))), *verdicts]
    if facts["seeded"]:
        lines.append(("bad", SEEDED))
    costs = selection.costs_json(LEVELS)
    values = {
        "name": selection.transcript.path.name,  # not its folder: a page is made to be passed on
        "facts": facts,
        "public": [(name, json.dumps(value, sort_keys=True)) for name, value in sorted(facts["public"].items())],
        "verdicts": lines,
        "caveat": UNKEYED,
        "scope": selection.scope,
        "view": selection.view.value if selection.view else "",
        "phases": facts["phases"],
        "networks": list(NETWORKS),
        "costs": costs,
        "most": {"phases": _most(facts["phases"]), "costs": _most(costs)},
    }
    phases = [phase["phase"] for phase in facts["phases"]]
    messages = [_message(selection, header, read) for header in selection.headers]
    return render("run", values, {"phases": phases, "messages": messages, "shownWords": SHOWN_WORDS})


def _most(rows: Sequence[Mapping[str, Any]]) -> int:
    """The longest bar."""
    return max((row["client_to_server"] + row["server_to_client"] for row in rows), default=0)


def _message(selection: Selection, header: Header, read: Reader | None) -> dict[str, Any]:
    """What the script needs to tell a message. Words of a ring array are decoded there, out of the first bytes."""
    payload = selection.transcript.message(header).payload
    told = {
        "seq": header.seq,
        "phase": header.phase,
        "depth": header.depth,
        "sender": header.sender.value,
        "label": header.label,
        "type": describe(header.spec),
        "nbytes": header.nbytes,
        "digest": header.digest.hex(),
        "head": "" if payload is None else base64.b64encode(payload[:HEAD_BYTES]).decode(),
    }
    if payload is not None and isinstance(header.spec, Spec):
        return {**told, "bits": header.spec.ring.l, "size": header.spec.size}
    imported = is_imported(selection.transcript.public)
    return {**told, "lines": content_lines(header, payload, read, imported)}
