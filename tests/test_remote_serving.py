"""A served layer: right answers, records that join, what each side holds, and a server that outlives its clients."""

from __future__ import annotations

import gc
import json
import os
import random
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from protocols.he.params import PARAM_SETS, ParamSet
from protocols.model.architecture import Model, parameter_shapes
from protocols.model.config import ModelConfig
from protocols.model.fixed_point import quantise, quantise_weights
from protocols.model.oracle import sparse_moe_layer
from protocols.model.store import HEADER_KEY, SHIPPED, BadModelFile, in_front, load_model
from secmoe.cli import main
from secmoe.conversing import front_digest, public_of
from secmoe.delivery import deliver
from secmoe.joining import NotASide, SidesDiffer, join
from secmoe.layer import LayerRun, layer_shape, private_sides
from secmoe.progress import Progress
from secmoe.querying import Answer, query
from secmoe.serving import LayerServer, Served, TokensRefused
from secmoe.whole import rebuild
from sim.concrete import from_words, to_words
from sim.cost import message
from sim.remote.cipher import PresharedKey
from sim.remote.handshake import TermsMismatch
from sim.remote.records import RemoteError
from sim.ring import Ring
from sim.role import CLIENT, SERVER, Role
from sim.tape import derive_key
from sim.world import Execution, Session
from tests.remote_support import FAULTS, KEY, SEED, Meddler
from tests.test_faults_on_wire import foreign as foreign_record
from transcripts.private import private_path
from transcripts.record import Recorder
from transcripts.replay import replay
from transcripts.store import Transcript

# Far below 128 bits, for speed; what is replayed is checked, so that has the shipped set P64tiny.
FAST = ParamSet("SERVE_TEST", 256, 32, 12, (37,) * 4, 4, (), (22, 22), 40, False, insecure_test=True)
SHIPPED_SET = PARAM_SETS["P64tiny"]
CONFIG = ModelConfig(d=6, f=4, E=3, gated=True, layers=2, heads=3, max_tokens=4, vocabulary=9, classes=("a", "b"))
TIMEOUT = 30.0
TOKENS = np.array([3, 1, 4])
TAPES = {role: derive_key(SEED, role.value) for role in Role}


@cache
def model(seed: int = 5) -> Model:
    rng = np.random.default_rng(seed)
    return Model(CONFIG, {name: rng.normal(0, 0.4, shape) for name, shape in parameter_shapes(CONFIG).items()})


def run_of(tokens: int, **changes: Any) -> LayerRun:
    shape = layer_shape(CONFIG)
    run = LayerRun("secmoe", "small", 0, tokens, shape, FAST, "gelu-minimax", "reassociated", "faithful")
    return replace(run, **changes)


def serving(
    records: Path | None = None, timeout: float = TIMEOUT, params: ParamSet = FAST, **options: Any
) -> LayerServer:
    largest = run_of(CONFIG.max_tokens, params=params)
    return LayerServer(model(), largest, KEY, timeout=timeout, records=records, **options)


def ask(
    server: LayerServer,
    folder: Path,
    tokens: NDArray[np.int64] = TOKENS,
    *,
    tapes: Mapping[Role, bytes] | None = None,
    timeout: float = TIMEOUT,
    relay: Meddler | None = None,
    own: Model | None = None,
    key: Any = KEY,
    keep_private: bool = False,
    **changes: Any,
) -> tuple[Served, Answer | Exception]:
    """One query in this process: the server in a thread, the client here; what each has at the end."""
    client, end = socket.socketpair()
    middle = None
    if relay is not None:
        near, (end, far) = end, socket.socketpair()
        middle = threading.Thread(target=relay, args=(near, far))
        middle.start()
    served: list[Served] = []
    thread = threading.Thread(target=lambda: served.append(server.answer(end, tapes and tapes[SERVER])))
    thread.start()
    answer: Answer | Exception
    try:
        answer = query(
            lambda: client,
            own or model(),
            tokens,
            run_of(len(tokens), **changes),
            key,
            None,
            folder,
            timeout=timeout,
            keep_private=keep_private,
            progress=Progress("test", enabled=False),
            tape_key=tapes and tapes[CLIENT],
        )
    except Exception as error:
        answer = error
    for each in (thread, middle):
        if each is not None:
            each.join(timeout=60)
            assert not each.is_alive()
    return served[0], answer


def oracle(tokens: NDArray[np.int64]) -> NDArray[np.uint64]:
    run = run_of(len(tokens))
    hidden, residual = model().moe_inputs(tokens, 0)
    fp, words = run.fixed_point, quantise_weights(model().moe_weights(0), run.fixed_point)
    return sparse_moe_layer(quantise(hidden, fp), quantise(residual, fp), words, run.shape, fp, run.table).output


@pytest.fixture(scope="module")
def server() -> LayerServer:
    return serving()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sides' records of one seeded query, with their private sides."""
    folder = tmp_path_factory.mktemp("kept")
    server = serving(folder, params=SHIPPED_SET, keep_private=True)
    served, answer = ask(server, folder, tapes=TAPES, keep_private=True, params=SHIPPED_SET)
    assert served.error is None and isinstance(answer, Answer)
    return folder


def sides(folder: Path) -> tuple[Path, Path]:
    client, server = (sorted(folder.glob(f"*-{role.value}.secmoe")) for role in (CLIENT, SERVER))
    assert len(client) == len(server) == 1
    return client[0], server[0]


# -- answers ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@settings(max_examples=3)
@given(tokens=st.lists(st.integers(1, 8), min_size=1, max_size=2))
def test_the_answer_is_the_oracle_to_the_last_bit(
    server: LayerServer, tmp_path_factory: pytest.TempPathFactory, tokens: list[int]
) -> None:
    words = np.array(tokens)
    served, answer = ask(server, tmp_path_factory.mktemp("client"), words)
    assert served.error is None and served.tokens == len(tokens) and isinstance(answer, Answer)
    assert (answer.output == oracle(words)).all()
    told = answer.to_json()
    assert told["bytes"]["client_to_server"] < told["wire"]["client_to_server"] == served.received
    assert told["wire"]["server_to_client"] == served.sent
    assert (np.array(told["output"]) == run_of(1).fixed_point.signed(oracle(words))).all()


def test_delivery_opens_to_the_client_alone() -> None:
    ring = Ring(13)
    x, y = (from_words(ring, np.array([[1, 2], [3, 8191]]) * k) for k in (1, 5))
    execution = Session(seed=b"").run(deliver, [x], [y])
    assert (to_words(execution.outputs[CLIENT]) == to_words(x + y)).all() and execution.outputs[SERVER] is None
    assert [m.sender for m in execution.messages] == [SERVER]
    assert execution.cost.row() == deliver.declared(x).row() == message(SERVER, 52).row()


@pytest.mark.slow
def test_a_session_has_fresh_keys_and_the_account_is_for_all_of_them(server: LayerServer, tmp_path: Path) -> None:
    spent = []
    answers = []
    for _ in range(2):
        served, answer = ask(server, tmp_path)
        assert isinstance(answer, Answer)
        spent.append(2.0**-served.epsilon_bits)
        answers.append(answer)
    first, second = answers
    assert first.digest == second.digest and first.session != second.session
    ours, theirs = ({m.label: m.payload for p in a.phases for m in p.messages} for a in answers)
    assert not [label for label in ours if len(ours[label] or b"") >= 16 and ours[label] == theirs[label]]
    assert spent[1] > spent[0] > 0


def test_the_account_refuses_the_query_that_would_exceed_it(tmp_path: Path) -> None:
    server = serving()
    server.budget.charge(server.budget.remaining * (1 - 1e-12))
    served, answer = ask(server, tmp_path)
    assert served.error is not None and served.error.startswith("EpsilonExhausted: statistical distance")
    assert type(answer).__name__ == "PeerFailed" and "EpsilonExhausted" in str(answer)


# -- what each side holds --------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_client_needs_nothing_of_the_layer(server: LayerServer, tmp_path: Path) -> None:
    front = {name: value for name, value in model().parameters.items() if in_front(name, 0)}
    assert not [name for name in front if re.search(r"router|w1|w2|\.v$|layers\.1|head|final", name)]
    _, answer = ask(server, tmp_path, own=replace(model(), parameters=front))
    assert isinstance(answer, Answer) and (answer.output == oracle(TOKENS)).all()


@pytest.mark.parametrize("layer", [0, 1])
def test_a_front_is_read_from_a_file_that_holds_no_more(tmp_path: Path, layer: int) -> None:
    path, whole = tmp_path / "sms.safetensors", load_model("sms")
    source = SHIPPED / "sms.safetensors"
    tensors = {name: tensor for name, tensor in load_file(source).items() if in_front(name, layer)}
    save_file(tensors, path, {HEADER_KEY: _header(source)})
    front = load_model(str(path), front=layer)
    assert front.parameters.keys() == tensors.keys() and f"layers.{layer}.w1" not in front.parameters
    tokens = whole.tokens_from_text("free entry win")
    for ours, theirs in zip(front.moe_inputs(tokens, layer), whole.moe_inputs(tokens, layer), strict=True):
        assert (ours == theirs).all()
    for other in (whole, load_model("sms", front=layer)):
        assert front_digest(front, layer) == front_digest(other, layer)
    assert front_digest(whole, layer) != front_digest(whole, 1 - layer)
    with pytest.raises(BadModelFile):
        load_model(str(path))


def _header(path: Path) -> str:
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    return str(json.loads(raw[8 : 8 + size])["__metadata__"][HEADER_KEY])


@pytest.mark.slow
def test_a_side_holds_neither_key_nor_input_nor_weight(tmp_path: Path) -> None:
    served, answer = ask(serving(tmp_path), tmp_path, tapes=TAPES)
    assert isinstance(answer, Answer) and served.record is not None
    assert sorted(tmp_path.iterdir()) == sorted([answer.record, served.record])
    hidden, residual = model().moe_inputs(TOKENS, 0)
    fp, weights = run_of(1).fixed_point, quantise_weights(model().moe_weights(0), run_of(1).fixed_point)
    rows = [quantise(hidden, fp), quantise(residual, fp), oracle(TOKENS), weights.router, weights.w1, weights.w2]
    secrets = [row.astype("<u8").tobytes()[:16] for row in rows] + [*TAPES.values(), bytes(range(32)), SEED]
    for path in (answer.record, served.record):
        whole = path.read_bytes()
        assert not [secret.hex() for secret in secrets if secret in whole or secret.hex().encode() in whole]
        assert path.stat().st_size > 100_000


# -- joining ---------------------------------------------------------------------------------------------------------
def in_one_process(path: Path) -> Recorder:
    """The same query with both parties in this process, recorded."""
    run = run_of(len(TOKENS), params=SHIPPED_SET)
    hidden, residual = model().moe_inputs(TOKENS, 0)
    fp, words = run.fixed_point, quantise_weights(model().moe_weights(0), run.fixed_point)
    arrays: dict[Role, dict[str, Any]] = {
        CLIENT: {"x": quantise(hidden, fp), "residual": quantise(residual, fp)},
        SERVER: {name: np.zeros(hidden.shape, np.uint64) for name in ("x", "residual")},
    }
    arrays[SERVER] |= {name: getattr(words, name) for name in ("router", "w1", "v", "w2")}
    session = Session(run.services(), keys=TAPES)
    online = run.run(session, {role: run.inputs(role, arrays[role]) for role in Role})
    last = session.run(deliver, [online.outputs[CLIENT]], [online.outputs[SERVER]])
    with Recorder(path, public_of(run), seeded=True, private=tuple(Role)) as recorder:
        for execution in (session.setup, online, last):
            recorder.add(execution)
        recorder.seal(private_sides(session, arrays))
    return recorder


COLUMNS = "seq, phase, sender, label, scope, kind, depth, dtype, shape, nbytes, digest, chain, content"


def rows(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        table = "message LEFT JOIN payload ON payload.id = message.payload"
        return connection.execute(f"SELECT {COLUMNS} FROM {table} ORDER BY seq").fetchall()


@pytest.mark.slow
def test_two_sides_join_into_the_transcript_of_one_process(kept: Path, tmp_path: Path) -> None:
    joined, single = tmp_path / "joined.secmoe", tmp_path / "single.secmoe"
    ours, theirs = join(*sides(kept), joined), in_one_process(single)
    assert (ours.chain, ours.seal_value) == (theirs.chain, theirs.seal_value)
    assert rows(joined) == rows(single)
    with Transcript(joined) as a, Transcript(single) as b:
        assert a.public == b.public and a.seeded and [p.name for p in a.phases] == ["setup", "r1", "r2"]
        for mine, other in zip(a.phases, b.phases, strict=True):
            assert (mine.name, mine.reserved) == (other.name, other.reserved)
            assert mine.cpu_by_scope.keys() == other.cpu_by_scope.keys()
            assert mine.cpu_by_depth.keys() == other.cpu_by_depth.keys()
        assert replay(a, rebuild).confirmed
    for role in Role:
        assert private_path(joined, role).read_bytes() == private_path(single, role).read_bytes()
        assert private_path(joined, role).stat().st_mode & 0o777 == 0o600


def test_each_side_alone_has_the_whole_wire(kept: Path, tmp_path: Path) -> None:
    joined = join(*sides(kept), tmp_path / "joined.secmoe")
    for path in sides(kept):
        with Transcript(path) as side:
            assert side.chain == joined.chain and side.seal != joined.seal_value


def altered(source: Path, target: Path, change: Callable[[dict[str, Any], list[Any]], None]) -> Path:
    """A side's record, sealed anew after a change of its public parameters or of its executions."""
    with Transcript(source) as transcript:
        public = dict(transcript.public)
        phases = []
        for phase in transcript.phases:
            messages = tuple(transcript.messages(phase.name))
            phases.append(Execution({}, messages, {}, {}, dict(phase.reserved), phase.name))
        change(public, phases)
        with Recorder(target, public, seeded=transcript.seeded) as recorder:
            for execution in phases:
                recorder.add(execution)
            recorder.seal()
    return target


def _flip(public: dict[str, Any], phases: list[Any]) -> None:
    first, *rest = phases[1].messages
    content = bytearray(first.payload)
    content[0] ^= 1
    phases[1] = replace(phases[1], messages=(replace(first, payload=bytes(content)), *rest))


def _lose(public: dict[str, Any], phases: list[Any]) -> None:
    phases[1] = replace(phases[1], messages=phases[1].messages[:-1])


def _session(public: dict[str, Any], phases: list[Any]) -> None:
    public["side"] = {**public["side"], "session": "00" * 32}


def _source(public: dict[str, Any], phases: list[Any]) -> None:
    public["sources"] = "0"


def _unfinished(public: dict[str, Any], phases: list[Any]) -> None:
    public["unfinished"] = {"error": "PeerSilent", "waiting_for": "r1/x"}


def _no_side(public: dict[str, Any], phases: list[Any]) -> None:
    del public["side"]


def _reserve(public: dict[str, Any], phases: list[Any]) -> None:
    phases[1] = replace(phases[1], reserved={"cot.client": 1})


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (_flip, SidesDiffer, "the records differ in it"),
        (_lose, SidesDiffer, "only the client has recorded it"),
        (_session, SidesDiffer, "session: the client has '"),
        (_source, SidesDiffer, "sources: the client has '"),
        (_reserve, SidesDiffer, "different amounts"),
        (_unfinished, NotASide, "ended in an error"),
        (_no_side, NotASide, "expected the server's record"),
    ],
)
def test_what_is_not_the_other_side_is_refused(
    kept: Path, tmp_path: Path, change: Callable[..., None], error: type[Exception], told: str
) -> None:
    client, server = sides(kept)
    with pytest.raises(error, match=told):
        join(client, altered(server, tmp_path / "server.secmoe", change), tmp_path / "joined.secmoe")
    assert [path.name for path in tmp_path.iterdir()] == ["server.secmoe"]


def test_sides_in_the_wrong_order_are_refused(kept: Path, tmp_path: Path) -> None:
    client, server = sides(kept)
    with pytest.raises(NotASide, match="give CLIENT, then SERVER"):
        join(server, client, tmp_path / "joined.secmoe")


# -- terms -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"order": "literal"}, "order: the client has 'literal', the server 'reassociated'"),
        ({"layer": 1}, "layer: the client has 1, the server 0"),
        ({"activation": "gelu-published"}, "activation: the client has 'gelu-published', the server 'gelu-minimax'"),
        ({"params": PARAM_SETS["P64s"]}, "params.name: the client has 'P64s', the server 'SERVE_TEST'"),
        ({"own": model(6)}, "front: the client has"),
    ],
)
def test_other_parameters_are_named_at_both_ends_and_harm_nobody(
    server: LayerServer, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    served, answer = ask(server, tmp_path, **changes)
    assert isinstance(answer, TermsMismatch) and str(answer).startswith(told)
    assert served.error is not None and served.error.startswith(f"TermsMismatch: {told}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tokens", [0, 5, -1, 1 << 40, "3", None])
def test_a_length_that_the_model_does_not_take_is_refused(server: LayerServer, tokens: Any) -> None:
    with pytest.raises(TokensRefused, match="from 1 to 4"):
        server._run({} if tokens is None else {"tokens": tokens})


@pytest.mark.slow
def test_a_client_without_the_key_learns_nothing_and_harms_nobody(server: LayerServer, tmp_path: Path) -> None:
    served, answer = ask(server, tmp_path, key=PresharedKey(bytes(32)))
    assert isinstance(answer, RemoteError) and served.error is not None and "ForeignRecord" in served.error
    assert served.tokens is None and not list(tmp_path.iterdir())
    near, far = socket.socketpair()
    near.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 3)
    assert (server.answer(far).error or "").startswith("ForeignPeer")
    near.close()
    assert isinstance(ask(server, tmp_path)[1], Answer)


# -- faults ----------------------------------------------------------------------------------------------------------
def sampled() -> Iterator[Any]:
    """Every fault to either party's record: to one of them in `make test`, in turns, to the other in `make nightly`."""
    for i, fault in enumerate(FAULTS):
        for sender, place, turn in ((CLIENT, 2, 0), (SERVER, 90, 1)):
            quick = (fault, sender) == ("flip", CLIENT)
            marks = () if quick else pytest.mark.slow if i % 2 == turn else pytest.mark.nightly
            yield pytest.param(fault, sender, place, marks=marks)


@pytest.mark.parametrize(("fault", "sender", "place"), list(sampled()))
def test_a_fault_ends_one_query_by_name_and_the_next_one_is_right(
    fault: str, sender: Role, place: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = fault in ("drop", "reorder", "truncate", "delay")
    for timeout in (3.0, 12.0, 48.0) if quiet else (TIMEOUT,):
        server = serving(tmp_path, timeout)
        meddler = Meddler(sender, place, fault, foreign=foreign(), hold=2 * timeout)
        served, answer = ask(server, tmp_path, timeout=timeout, relay=meddler)
        if meddler.happened:
            break
        for record in tmp_path.iterdir():  # a machine so busy that the time limit came before the fault: slower
            record.unlink()
    assert meddler.happened and served.error is not None and isinstance(answer, RemoteError)
    records = sorted(tmp_path.glob("*.secmoe"))
    assert len(records) == 2
    for path in records:
        with Transcript(path) as side:
            assert side.public["unfinished"]["error"] and len(side.headers) >= 2
        assert main(["inspect", str(path)]) == 0
        shown = capsys.readouterr().out
        assert 'UNFINISHED: {"error": "' in shown and "last message" in shown
        assert main(["inspect", "--json", str(path)]) == 0
        assert set(json.loads(capsys.readouterr().out)["unfinished"]) == {"error", "waiting_for"}
    again, right = ask(server, tmp_path)
    assert again.error is None and isinstance(right, Answer) and (right.output == oracle(TOKENS)).all()


@cache
def foreign() -> bytes:
    """A record of another session."""
    return foreign_record(True)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.nightly
def test_two_hundred_queries_with_random_faults(tmp_path: Path) -> None:
    """Every healthy one right, no silent wrong answer, memory and descriptors flat."""
    rng, server = random.Random(20), serving()
    outcomes: dict[str, int] = {}
    marks: list[tuple[int, int, int]] = []
    for number in range(200):
        tokens = np.array([rng.randrange(1, 9) for _ in range(rng.randrange(1, 5))])
        relay, server.timeout = None, 120.0
        if rng.random() < 0.5:
            sender, server.timeout = rng.choice([CLIENT, SERVER]), 3.0
            relay = Meddler(sender, rng.randrange(0, 160), rng.choice(FAULTS), foreign=foreign(), hold=6.0)
        served, answer = ask(server, tmp_path, tokens, timeout=server.timeout, relay=relay)
        if isinstance(answer, Answer):
            assert (answer.output == oracle(tokens)).all(), number
        else:
            assert relay is not None and isinstance(answer, RemoteError), (number, answer)
        assert served.error is None or relay is not None, (number, served.error)
        cause = relay.fault if relay is not None and relay.happened else "healthy" if relay is None else "slow"
        outcome = f"{cause}: {'right' if isinstance(answer, Answer) else 'named error'}"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        for path in tmp_path.iterdir():
            path.unlink()
        if number % 20 == 19:
            marks.append((resident(), descriptors(), threading.active_count()))
    assert len({(fds, threads) for _, fds, threads in marks}) == 1, marks
    assert marks[-1][0] < marks[2][0] + (64 << 20), marks
    assert outcomes["healthy: right"] >= 80 and sum("named error" in name for name in outcomes) >= 6, outcomes
    print(json.dumps({"outcomes": outcomes, "marks": marks}))


# -- the commands ----------------------------------------------------------------------------------------------------
SMALL = ["--params", "P64tiny"]
COMMAND = [sys.executable, "-m", "secmoe.cli"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}  # one source for both, wherever they run


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`secmoe serve` on a free port, for two answers."""
    words = [*COMMAND, "serve", "--port", "0", "--limit", "2", "--json", *SMALL]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout is not None
    yield process, json.loads(process.stdout.readline())["port"]
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.slow
def test_two_processes(
    listening: tuple[subprocess.Popen[str], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process, port = listening
    common = ["--port", str(port), *SMALL]
    monkeypatch.chdir(tmp_path)
    good = command("query", "free entry win", *common, "--json", cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    answer = json.loads(good.stdout)
    assert main(["query", "free entry win", *common, "--order", "literal"]) == 2
    assert capsys.readouterr() == (
        "",
        "secmoe: order: the client has 'literal', the server 'reassociated'; start both with the same\n",
    )
    assert main(["query", "see you at five", *common]) == 0
    assert "the server learned: the number of tokens" in capsys.readouterr().out
    assert process.stdout is not None
    lines = [json.loads(line) for line in process.stdout]
    assert process.wait(timeout=30) == 0
    assert [line["answered"] for line in lines] == [True, False, True]
    assert lines[0]["session"] == answer["session"] and lines[0]["bytes"] == answer["wire"]

    sms = load_model("sms")
    tokens = sms.tokens_from_text("free entry win")
    hidden, residual = sms.moe_inputs(tokens, 0)
    run = LayerRun(
        "secmoe", "sms", 0, len(tokens), layer_shape(sms.config), PARAM_SETS["P64tiny"], "gelu-minimax",
        "reassociated", "faithful",
    )  # fmt: skip
    fp, words = run.fixed_point, quantise_weights(sms.moe_weights(0), run.fixed_point)
    exact = sparse_moe_layer(quantise(hidden, fp), quantise(residual, fp), words, run.shape, fp, run.table).output
    assert (np.array(answer["output"]) == fp.signed(exact)).all()

    files = answer["transcript"], lines[0]["transcript"]
    assert main(["join", *files, "--out", "joined.secmoe", "--json"]) == 0
    joined = json.loads(capsys.readouterr().out)
    assert main(["inspect", "joined.secmoe", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == joined["digest"]
    assert (tmp_path / "secmoe.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["query", "hello", "--port", "1"], "--port 1: no server answers there"),
        (["query", "hello", "--port", "70000"], "--port 70000: no server answers there"),
        (["query", "hello", "--key", "none.key"], "none.key: expected a key file"),
        (["query", "hello", "--key", "open.key"], "open.key: others can read this key (mode 644)"),
        (["query", "--port", "1"], "expected either a text or --input"),
        (["query", "hello", "--timeout", "0"], "--timeout 0.0: expected seconds above 0"),
        (["query", "hello", "--timeout", "nan"], "--timeout nan: expected seconds above 0"),
        (["query", "hello", "--out", "x.txt"], "expected a file name that ends in .secmoe"),
        (["query", "hello", "--layer", "9"], "expected a layer from 0 to 1, got 9"),
        (["serve", "--port", "70000"], "--port 70000: cannot listen there"),
        (["serve", "--limit", "0"], "--limit 0: expected at least 1 query"),
        (["serve", "--key", "open.key"], "others can read this key"),
        (["serve", "--model", "nothing"], "expected a model of digits, sms"),
        (["serve", "--layer", "9"], "expected a layer from 0 to 1, got 9"),
        (["key", "open.key"], "open.key: the file exists and a key is never overwritten"),
        (["join", "a.secmoe", "b.secmoe", "--out", "c.secmoe"], "a.secmoe: expected a transcript, there is no"),
        (["join", "a.secmoe", "b.secmoe", "--out", "c.txt"], "expected a file name that ends in .secmoe"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("open.key").write_bytes(bytes(32))
    Path("open.key").chmod(0o644)
    assert main(["key", "secmoe.key"]) == 0
    capsys.readouterr()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("secmoe: ") and told in err


def test_a_port_in_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert f"--port {port}: cannot listen there" in capsys.readouterr().err


def test_time_limits_are_for_the_peer_not_for_the_run() -> None:
    begun = time.monotonic()
    near, far = socket.socketpair()
    served = serving(timeout=0.2).answer(far)
    near.close()
    assert (served.error or "").startswith("PeerSilent: expected the hello of the client within 0.2 s")
    assert time.monotonic() - begun < 30
