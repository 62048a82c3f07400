"""What is told of a homomorphic message is what its bytes hold, read by another route."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocols.catalog import CATALOG
from protocols.entry import Case, Entry
from protocols.he.bits import unpack
from protocols.he.packing import LinearPlan, SelectPlan, key_set
from protocols.he.params import INSECURE_TEST, PARAM_SETS
from protocols.he.ring_q import ring_for
from secmoe.cli import main
from secmoe.kept import reader
from sim.message import Message
from sim.role import CLIENT, SERVER
from sim.wire import BlobSpec
from tests.golden_runs import masks, values
from tests.harness import adjusted, inputs, session
from tests.he_support import Session, fresh_draw, words
from tests.small_runs import keep_small
from transcripts.ciphertexts import SEED_BYTES, SHOWN_RESIDUES, Homomorphic, told
from transcripts.facts import Selection, detail
from transcripts.lattice.evidence import Evidence, Run
from transcripts.record import Recorder
from transcripts.store import Header, Transcript

TINY = PARAM_SETS["P64tiny"]


def case_of(name: str) -> tuple[Entry, Case]:
    return next((entry, entry.cases[0]) for entry in CATALOG if entry.name == name)


def sent(name: str) -> list[Message]:
    """The messages of a real session and run of a catalog row's first case."""
    entry, case = case_of(name)
    drawn = [values(secret, f"{i}") for i, secret in enumerate(case.secrets)]
    shares = [masks(secret, f"{i}") for i, secret in enumerate(case.secrets)]
    world = session(case.plans)
    execution = world.run(entry.proto, *inputs(case, adjusted(case, drawn), shares), **case.public)
    return [*world.setup.messages, *execution.messages]


def header(message: Message) -> Header:
    order = (message.sender, message.label, message.scope, message.depth, message.spec)
    return Header(0, "r1", *order, message.digest(), bytes(32), 1)


@pytest.fixture(scope="module", params=[("linear", 1), ("select_product", 2)], ids=lambda p: p[0])
def real(request: pytest.FixtureRequest) -> tuple[Homomorphic, dict[str, tuple[Header, bytes]]]:
    name, rows = request.param
    _, case = case_of(name)
    found = {m.spec.kind: (header(m), m.payload or b"") for m in sent(name) if isinstance(m.spec, BlobSpec)}
    return Homomorphic(TINY, [(plan, rows) for plan in case.plans]), found


def test_uploads(real: tuple[Homomorphic, dict[str, tuple[Header, bytes]]]) -> None:
    read, messages = real
    head, content = messages["ciphertexts"]
    found = read(head, content)
    assert found is not None and found["degree"] == TINY.n
    q0, start = ring_for(TINY).q0, 0
    for part in found["parts"]:
        body = content[start + SEED_BYTES : start + TINY.ciphertext_nbytes()]
        rows = unpack(body, q0.primes, (TINY.n,) * q0.size)
        assert (part["offset"], part["nbytes"], part["primes"]) == (start, TINY.ciphertext_nbytes(), list(q0.primes))
        assert part["a_part"] == {"seed": content[start : start + SEED_BYTES].hex()}
        assert part["c0"] == {"coefficients": TINY.n, "residues": rows[0][:SHOWN_RESIDUES].astype(np.int64).tolist()}
        start += part["nbytes"]
    assert start == len(content)


def test_compact_uploads() -> None:
    """Only so many coefficients of the first component as the plan sends; the plan tells which length that is."""
    plan = SelectPlan(INSECURE_TEST, "R", 3, 16, 20, compact=True)
    layout, rng = plan.operand("t"), np.random.default_rng(1)
    client = Session(plan).client
    content = b"".join(client.encrypt(layout, words(rng, layout.shape, 64), fresh_draw()) for _ in range(2))
    spec = BlobSpec("ciphertexts", len(content))
    found = Homomorphic(INSECURE_TEST, [(plan, 2)])(header(Message(CLIENT, "ct", "", 1, spec, content)), content)
    assert found is not None and [part["offset"] for part in found["parts"]] == [0, layout.each_nbytes]
    assert {part["c0"]["coefficients"] for part in found["parts"]} == {4} and layout.each_nbytes == 32 + 4 * 240 // 8
    rows = unpack(content[SEED_BYTES : layout.each_nbytes], ring_for(INSECURE_TEST).q0.primes, (4,) * 6)
    assert found["parts"][0]["c0"]["residues"] == rows[0].astype(np.int64).tolist()
    evidence = Evidence(plan, [], [Run([Message(CLIENT, "ct", "", 1, spec, content)])])
    assert [upload.seed for upload in evidence.uploads] == [content[:32], content[layout.each_nbytes :][:32]]
    assert np.array_equal(evidence.uploads[0].c0[:, :: INSECURE_TEST.n // 4], np.stack(rows))


def test_responses(real: tuple[Homomorphic, dict[str, tuple[Header, bytes]]]) -> None:
    read, messages = real
    head, content = messages["response"]
    found = read(head, content)
    assert found is not None
    (plan, rows), basis, start = read.answers[0], ring_for(TINY).response, 0
    assert len(found["parts"]) == rows * plan.responses
    for part, places in zip(found["parts"], plan.response_positions * rows, strict=True):
        size = TINY.response_nbytes(places.size)
        lengths = (places.size,) * basis.size + (TINY.n,) * basis.size
        residues = unpack(content[start : start + size], basis.primes * 2, lengths)
        assert (part["offset"], part["nbytes"], part["primes"]) == (start, size, list(basis.primes))
        assert part["c0"]["coefficients"] == places.size
        assert part["c0"]["residues"] == residues[0][:SHOWN_RESIDUES].astype(np.int64).tolist()
        assert part["a_part"]["residues"] == residues[basis.size][:SHOWN_RESIDUES].astype(np.int64).tolist()
        start += size
    assert start == len(content)


def test_keys(real: tuple[Homomorphic, dict[str, tuple[Header, bytes]]]) -> None:
    read, messages = real
    head, content = messages["keys"]
    found = read(head, content)
    assert found is not None
    keys = key_set(TINY, [plan for plan, _ in read.answers])
    digits = len(TINY.q_bits) * keys.relinearise
    assert [part["what"] for part in found["parts"]] == [
        "encryption key",
        *(f"relinearisation key, digit {digit}" for digit in range(digits)),
    ]
    seeds = {part["a_part"]["seed"] for part in found["parts"]}
    assert len(seeds) == len(found["parts"])  # no a-part twice
    for part in found["parts"]:
        body = content[part["offset"] + SEED_BYTES : part["offset"] + part["nbytes"]]
        rows = unpack(body, tuple(part["primes"]), (TINY.n,) * len(part["primes"]))
        assert part["c0"]["residues"] == rows[0][:SHOWN_RESIDUES].astype(np.int64).tolist()


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"\0", lambda c: b"", lambda c: c + c[:32]])
def test_bytes_of_another_length_are_not_explained(
    real: tuple[Homomorphic, dict[str, tuple[Header, bytes]]], change: Callable[[bytes], bytes]
) -> None:
    read, messages = real
    for kind in ("ciphertexts", "response", "keys"):
        head, content = messages[kind]
        other = change(content)
        resized = Header(**{**vars(head), "spec": BlobSpec(kind, len(other))})
        if other:
            assert read(resized, other) is None
        else:
            assert (read(resized, other) or {"parts": []})["parts"] == []


def test_other_messages_are_not_explained(real: tuple[Homomorphic, dict[str, tuple[Header, bytes]]]) -> None:
    read, messages = real
    head, content = messages["points"]
    assert read(head, content) is None


def test_lines(real: tuple[Homomorphic, dict[str, tuple[Header, bytes]]]) -> None:
    read, messages = real
    found = read(*messages["ciphertexts"])
    assert found is not None
    lines = told(found, 1)
    assert lines[0].startswith("BFV, parameters P64tiny, degree 8192")
    assert f"seed {found['parts'][0]['a_part']['seed']}" in lines[2]
    assert ("more" in lines[-1]) == (len(found["parts"]) > 1)


def test_hostile_parameters_cost_no_memory() -> None:
    """A file may claim any number of tokens: positions are not laid out for more outputs than it has bytes."""
    read = Homomorphic(TINY, [(LinearPlan(TINY, 1 << 20, 1, 8192), 1)])
    head = Header(0, "r1", SERVER, "r1/x", "r1", 1, BlobSpec("response", 100), b"", b"", 1)
    assert read(head, bytes(100)) is None


@pytest.mark.slow
def test_a_kept_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every homomorphic message of a real run at the default parameters is explained, to its last byte."""
    path = tmp_path / "kept.secmoe"
    assert main(["run", "hi", "--layer", "0", "--out", str(path)]) == 0
    with Transcript(path) as transcript:
        kinds = {h.seq: h.spec.kind for h in transcript.headers if isinstance(h.spec, BlobSpec)}
    for seq, kind in kinds.items():
        capsys.readouterr()
        assert main(["inspect", str(path), "--message", str(seq), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        if kind in ("ciphertexts", "response", "keys"):
            assert sum(part["nbytes"] for part in facts["content"]["parts"]) == facts["nbytes"]
            assert main(["inspect", str(path), "--message", str(seq)]) == 0
            assert "BFV, parameters P64s, degree 16384" in capsys.readouterr().out
        else:
            assert facts["content"] is None


def test_a_run_of_other_parameters_has_no_reader(tmp_path: Path) -> None:
    path = tmp_path / "x.secmoe"
    keep_small(path, private=False)
    with Transcript(path) as transcript:
        read = reader(transcript.public)
        assert read is None and detail(Selection(transcript), 0, read)["content"] is None
    assert reader({"protocol": "secmoe", "shape": 3}) is None
    with Recorder(tmp_path / "y.secmoe", {}, seeded=False) as recorder:
        recorder.seal()
    assert main(["inspect", str(tmp_path / "y.secmoe")]) == 0
