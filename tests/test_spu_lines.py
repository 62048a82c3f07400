"""The reader of SPU's link trace against made-up and damaged traces."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.role import CLIENT, SERVER, Role
from tests.spu_traces import WHOLE, line, lines_of, read, recorded
from transcripts.importers import ForeignMessage, spu_lines
from transcripts.importers.spu import TracesDisagree
from transcripts.importers.spu_lines import TraceLineRefused, TraceTooLarge, ValueTooLong

REFUSALS = (TraceTooLarge, TraceLineRefused, ValueTooLong, TracesDisagree)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For properties, whose examples overwrite each other's files."""
    return tmp_path_factory.mktemp("traces")


# -- made-up traces ----------------------------------------------------------------------------------------------------

SWAP, P2P = "ALLGATHER", "P2P"
actions = st.tuples(
    st.sampled_from([SWAP, "BARRIER", "GATHER", "BCAST", P2P]),
    st.sampled_from(["root", "root-0", "root-12"]),
    st.sampled_from(["a", "b", "open(x^a,y^b)", "ct/0%", ""]),
    st.integers(0, 1),  # source
    st.integers(0, 3),  # how many actions later the receive is called
)
programs = st.lists(actions, min_size=1, max_size=30)


@dataclass(frozen=True)
class Sent:
    rank: int
    key: str
    context: str
    tag: str
    after: tuple[tuple[int, str], ...]  # (rank, key) of what its party received before it in the same context


def play(program: Sequence[tuple[str, str, str, int, int]]) -> tuple[list[list[bytes]], list[Sent]]:
    """The two traces of a program, and what was sent after what."""
    traces: list[list[bytes]] = [[], []]
    received: dict[tuple[int, str], list[tuple[int, str]]] = {}
    waiting: dict[tuple[int, str], list[tuple[int, str]]] = {}  # receives that are due, in order
    counts: Counter[tuple[str, int | None]] = Counter()
    sent: list[Sent] = []

    def send(rank: int, key: str, context: str, tag: str) -> None:
        sent.append(Sent(rank, key, context, tag, tuple(received.get((rank, context), ()))))

    def receive(rank: int, context: str, key: str) -> None:
        received.setdefault((rank, context), []).append((1 - rank, key))

    for time, (op, context, tag, src, later) in enumerate([*program, *[(SWAP, "end", "a", 0, 0)] * 4]):
        for (rank, where), due in waiting.items():
            while due and (due[0][0] <= time or time >= len(program)):
                traces[rank].append(line(due[0][1], "awaited"))
                receive(rank, where, due.pop(0)[1])
        if context == "end":
            break
        stream = (context, src if op == P2P else None)
        counts[stream] += 1
        if op == P2P:
            key = f"{context}:P2P-{counts[stream]}:{src}->{1 - src}"
            send(src, key, context, tag)
            traces[src].append(line(key, tag, b"\x01" * later))
            waiting.setdefault((1 - src, context), []).append((time + later, key))
            continue
        key = f"{context}:{counts[stream]}:{op}"
        for rank in (0, 1):
            send(rank, key, context, tag)
            traces[rank].append(line(key, tag, b"" if op == "BARRIER" else bytes([rank])))
        if op in (SWAP, "BARRIER"):
            for rank in (0, 1):
                receive(rank, context, key)
    return traces, sent


@given(programs)
def test_depth_is_the_longest_chain(folder: Path, program: Sequence[tuple[str, str, str, int, int]]) -> None:
    traces, sent = play(program)
    by_key = {(s.rank, s.key): s for s in sent}
    depths: dict[tuple[int, str], int] = {}

    def depth(rank: int, key: str) -> int:
        if (rank, key) not in depths:
            depths[rank, key] = 1 + max((depth(*earlier) for earlier in by_key[rank, key].after), default=0)
        return depths[rank, key]

    found = read(folder, traces)
    expected = Counter((s.rank, s.context.removeprefix("root"), depth(s.rank, s.key)) for s in sent)
    shared = min((s.context for s in sent), key=len)  # of the contexts seen, the shortest is the session's
    if shared == "root":
        contexts = [re.match(r"(?:link(-\d+)/)?", m.label) for m in found]
        got = ((int(m.sender is SERVER), (c and c[1]) or "", m.depth) for m, c in zip(found, contexts, strict=True))
        assert Counter(got) == expected
    assert Counter(m.depth for m in found) == Counter(depth(s.rank, s.key) for s in sent)
    assert len({(m.sender, m.label) for m in found}) == len(found)


@pytest.mark.slow
@given(programs, st.sampled_from(["a", "b"]))
def test_labels_do_not_depend_on_other_tags_or_on_the_session(
    folder: Path, program: Sequence[tuple[str, str, str, int, int]], tag: str
) -> None:
    base = [("ALLGATHER", "root", tag, 0, 0)]  # keeps the session's own context in both
    program = [*base, *program]
    alone = [action for action in program if action[2] == tag]
    traces, _ = play(program)
    few, _ = play(alone)

    def labels(found: list[ForeignMessage]) -> set[tuple[Role, str]]:
        return {(m.sender, m.label) for m in found if m.label.split("/")[-2] == tag}

    assert labels(read(folder, traces)) == labels(read(folder, few))
    renamed = [[text.replace(b"key=root", b"key=session 7f") for text in trace] for trace in traces]
    assert read(folder, renamed) == read(folder, traces)


tags = st.binary(max_size=60).filter(lambda raw: b"\n" not in raw)


@given(tags, tags)
def test_any_bytes_in_a_tag_become_plain_text(folder: Path, first: bytes, second: bytes) -> None:
    found = read(folder, [[line(f"root:{n}:ALLGATHER", tag) for n, tag in ((1, first), (2, second))]] * 2)
    labels = [m.label for m in found if m.sender is CLIENT]
    assert all(label.isprintable() and label.count("/") == 1 for label in labels)
    same = labels[1] == labels[0] + ".2"
    assert same == (first == second or {first, second} == {b"", b"untagged"})


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1])
def test_a_missing_or_doubled_line_is_refused_where_it_is(rank: int, tmp_path: Path) -> None:
    good = lines_of("distinct.1")
    for n in range(len(good[rank])):
        missing, doubled = good[rank][:n] + good[rank][n + 1 :], good[rank][: n + 1] + good[rank][n:]
        for changed, place in ((missing, r"[01]\.log:\d+"), (doubled, rf"{rank}\.log:{n + 2}")):
            traces = [changed, good[1]] if rank == 0 else [good[0], changed]
            with pytest.raises((TraceLineRefused, TracesDisagree), match=rf"/{place}: "):
                read(tmp_path, traces)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_truncated_trace_is_refused(rank: int, tmp_path: Path) -> None:
    good = [path.read_bytes() for path in recorded("distinct.1")]
    for size in {*range(0, len(good[rank]), 41), len(good[rank]) - 1}:
        cut = [[raw[:size] if r == rank else raw] for r, raw in enumerate(good)]
        with pytest.raises((TraceLineRefused, TracesDisagree), match=r"/[01]\.log:\d+: "):
            read(tmp_path, cut)


def test_traces_of_two_runs_or_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    equal, distinct = lines_of("equal.1"), lines_of("distinct.1")
    with pytest.raises(TracesDisagree, match=r"/[01]\.log:\d+: expected `root:\d+:"):
        read(tmp_path, [equal[0], distinct[1]])
    with pytest.raises(
        TraceLineRefused, match=r"0\.log:3: expected no value in a receive of rank 0.*rank 0's trace first"
    ):
        read(tmp_path, equal[::-1])


def test_one_log_of_both_ranks_is_refused(tmp_path: Path) -> None:
    """As an in-process simulation writes it."""
    mixed = [text for both in zip(*lines_of("equal.1"), strict=True) for text in both]
    with pytest.raises(
        TraceLineRefused, match=r"0\.log:2: `root:1:ALLGATHER` comes twice: record each rank in a process"
    ):
        read(tmp_path, [mixed, mixed])


GOOD = line("root:1:ALLGATHER")
REFUSED = [
    (b"", "an empty file"),
    (b"\n", "expected `.time."),
    (b"hello\n", "got `hello%0A`"),
    (GOOD[:-1], "the last line is cut off"),
    (GOOD.replace(b"[spu link]", b"[link]"), "expected `.time."),
    (GOOD.replace(b"[info]", b"[info] x"), "expected `.time."),
    (GOOD.replace(b"value=", b"value=0"), "lower-case hexadecimal"),
    (GOOD.replace(b"value=", b"value=AB"), "lower-case hexadecimal"),
    (GOOD.replace(b"value=", b"value=a b"), "lower-case hexadecimal"),
    (GOOD.replace(b"value=", b"value=\xc3\xa9"), "lower-case hexadecimal"),
    (GOOD + b"\xff" * 500 + b"\n", "got `%FF%FF"),
    (line("root"), "expected a key"),
    (line("root:0:ALLGATHER"), "expected a key"),
    (line("root:1:allgather"), "expected a key"),
    (line("root:1:REDUCE"), "not an operation"),
    (line("root:1:SCATTER"), "does not hold what it sends"),
    (line("root:2:ALLGATHER"), "where number 1 is due"),
    (line("root:P2P-1:0->2"), "between ranks 0 and 1"),
    (line("root:P2P-1:1->1"), "between ranks 0 and 1"),
    (line("root:P2P-1:1->0", content=b"x"), "expected no value in a receive"),
    (line("root:1:BARRIER", content=b"x"), "expected no value in a barrier"),
    (line("r" * 257 + ":1:ALLGATHER"), "at most 256 bytes"),
    (line("root:1:ALLGATHER", "t" * 257), "at most 256 bytes"),
    (line("root:" + "9" * 50 + ":ALLGATHER"), "expected a key"),
]


@pytest.mark.parametrize(("trace", "reason"), REFUSED)
def test_a_line_that_is_none_is_refused_with_its_place(trace: bytes, reason: str, tmp_path: Path) -> None:
    assert len(read(tmp_path, [[GOOD], [GOOD]])) == 2
    with pytest.raises(TraceLineRefused, match=rf"0\.log:\d+: .*{reason}") as refused:
        read(tmp_path, [[trace], [GOOD]])
    assert str(refused.value).isprintable() and len(str(refused.value)) < 400


def test_an_impossible_order_is_refused(tmp_path: Path) -> None:
    there, back = "root:P2P-1:0->1", "root:P2P-1:1->0"
    crossed = [[line(back), line(there)], [line(there), line(back)]]
    with pytest.raises(TracesDisagree, match=r"0\.log:1: waits for what is sent only later, at .*1\.log:1"):
        read(tmp_path, crossed)
    assert [m.depth for m in read(tmp_path, [[line(there), line(back)], [line(there), line(back)]])] == [1, 2]


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spu_lines, "MOST_LINES", 10)
    with pytest.raises(TraceTooLarge, match=r"0\.log:11: "):
        read(tmp_path, lines_of("equal.1"))
    monkeypatch.undo()
    monkeypatch.setattr(spu_lines, "MOST_FILE_BYTES", 1000)
    with pytest.raises(TraceTooLarge, match=r"0\.log:\d: "):
        read(tmp_path, lines_of("equal.1"))
    with pytest.raises(TraceTooLarge, match=r"0\.log:1: "):
        read(tmp_path, [[b"x" * 5000], [b""]])


WORDS = [b"key=", b", tag=", b", value=", b"P2P-", b"->", b":", b"\n", b"\x00", b"root", b"BCAST", b"0", b"99", b"\xff"]
edits = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["flip", "cut", "insert", "swap", "drop", "double", "move"]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(WORDS) | st.binary(max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def damaged(traces: list[list[bytes]], changes: Sequence[tuple[int, str, float, float, bytes]]) -> list[list[bytes]]:
    traces = [list(trace) for trace in traces]
    for rank, how, where, at, word in changes:
        trace = traces[rank]
        if not trace:
            continue
        n, m = int(where * len(trace)), int(at * len(trace))
        text = trace[n]
        place = int(at * (len(text) + 1))
        if how == "swap":
            trace[n], trace[m] = trace[m], text
        elif how in ("drop", "move", "double"):
            del trace[n : n + (how != "double")]
            if how == "move":
                traces[1 - rank].insert(min(m, len(traces[1 - rank])), text)
            elif how == "double":
                trace.insert(m, text)
        elif how == "cut":
            trace[n] = text[:place]
        else:
            trace[n] = text[:place] + (word or b"\x1b") + text[place + (how == "flip") :]
    return traces


SMALL = play(
    [(SWAP, "root", "a", 0, 0), (P2P, "root", "b", 0, 1), (P2P, "root", "b", 1, 0), ("BCAST", "root-1", "", 0, 0)]
)[0]


@given(edits, st.sampled_from([1, 16, WHOLE]))
def test_fuzz_refused_with_its_place_or_read_whole(
    folder: Path, changes: Sequence[tuple[int, str, float, float, bytes]], length: int
) -> None:
    check_damage(folder, damaged(SMALL, changes), length)


@given(st.lists(st.binary(max_size=200) | st.sampled_from([GOOD, line("root:P2P-1:0->1"), *SMALL[0]]), max_size=6))
def test_fuzz_arbitrary_bytes(folder: Path, trace: list[bytes]) -> None:
    check_damage(folder, [trace, SMALL[1]], WHOLE)


def check_damage(folder: Path, traces: list[list[bytes]], length: int) -> None:
    try:
        found = read(folder, traces, content_length=length)
    except REFUSALS as error:
        assert re.match(rf"{folder}/[01]\.log:\d+: ", str(error)) and str(error).isprintable()
        return
    calls = [text for trace in traces for text in b"".join(trace).split(b"\n")[:-1]]
    receives = sum(b":1->0, tag=" in t for t in b"".join(traces[0]).split(b"\n"))
    receives += sum(b":0->1, tag=" in t for t in b"".join(traces[1]).split(b"\n"))
    assert len(found) == len(calls) - receives
    assert sum(len(m.content) for m in found) == sum(len(t.rpartition(b", value=")[2]) // 2 for t in calls)
    assert all(m.label.isprintable() and m.depth >= 1 for m in found)
