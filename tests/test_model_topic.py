"""The model `topic`: its reader on a made-up source, what is shipped of the data set, and what it says of own texts."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from protocols.model.architecture import ItemError, parameter_shapes
from protocols.model.encoder import encoder
from protocols.model.fixed_point import FixedPoint
from protocols.model.folded import client_words, fold
from protocols.model.store import SHIPPED, BadModelFile, UnknownModel, load_model, with_held_out
from protocols.model.tokens import PAD, UNKNOWN, split
from protocols.model.training import topic
from protocols.model.training.data import DataError

# Written for this test.
TEXTS = {
    "tweet": (
        "omg so excited for tonight lol see you all there",
        "haha i am so tired and i hate mondays good night twitter",
        "thanks for the follow! have a great day :)",
        "just got home from work and i feel so sick lol",
    ),
    "film": (
        "a funny and moving comedy with fine performances, but the script drags in the second half",
        "the director never finds the heart of this story and the characters stay flat",
        "an entertaining thriller that the audience will enjoy from the first scene to the last",
        "one of the best films of the year, with an unforgettable performance",
    ),
    "product": (
        "the battery lasts long but the software was hard to install on my computer",
        "i bought this player two months ago and the screen stopped working",
        "the camera takes great pictures and the zoom is easy to use",
        "this router has good range and it was very easy to set up",
    ),
    "editorial": (
        "the government of the united states should cut the budget, republicans in congress said",
        "the president and the senate must agree on a law that would protect voters",
        "in russia the military has been at war for years and the state has no money left for schools",
        "mayor and police officials in new york say that the new program will cost the city millions",
    ),
}


def source(folder: Path, rows: dict[str, list[tuple[str, str]]]) -> Path:
    """A file laid out as the true one."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for name, file in topic.FILES.items():
            data = "".join(f"{number}\t0.5\t{text}\n" for number, text in rows.get(name, [])).encode("utf-8-sig")
            info = tarfile.TarInfo(f"hutto_ICWSM_2014/{file}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    path = folder / topic.SOURCE
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr(topic.ARCHIVE, inner.getvalue())
    return path


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    words = [f"w{chr(97 + i)}" for i in range(12)]
    rows = {
        name: [
            (f"{i // 3}_{i % 3}", " ".join([name, *np.random.default_rng(i).permutation(words)])) for i in range(240)
        ]
        for name in topic.FILES
    }
    rows["tweet"] += [("900", "too short"), ("901", "long " * 41), rows["tweet"][0]]
    path = source(tmp_path, rows)
    monkeypatch.setattr(topic, "SOURCE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(topic, "MOST_PER_CLASS", 200)
    return path


def test_documents_are_held_out_whole_and_classes_are_balanced(made_up: Path) -> None:
    found = topic.topic(made_up)
    assert len(found.items) == 4 * 200 and (np.bincount(found.labels) == 200).all()
    assert 0.1 < 1 - found.training / len(found.items) < 0.3
    assert found.vocabulary is not None and found.digests is not None
    assert found.digests.shape == (len(found.items) - found.training, topic.DIGEST_BYTES)
    documents = {sentence.words: sentence for sentence in topic._sentences(made_up)}
    known = found.vocabulary
    parts: list[set[str]] = [set(), set()]
    for row, (item, label) in enumerate(zip(found.items, found.labels, strict=True)):
        words = tuple(known.decode(item[item != PAD]))
        sentence = documents[words]
        assert sentence.label == label
        parts[row >= found.training].add(sentence.document)
        if row >= found.training:
            own = hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()
            assert bytes(found.digests[row - found.training]) == own
    assert not parts[0] & parts[1] and min(map(len, parts)) > 20
    spread = [len(np.unique(found.labels[i : i + 50])) for i in range(0, found.training - 50, 50)]
    assert min(spread) == 4  # mixed: a part of the training part has every class


def test_rare_words_are_no_part_of_the_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def text(i: int) -> str:
        rare = "abcdefghij"[i % 10] if i < 40 else "zzzz"
        return f"alpha beta gamma delta epsilon rare{rare} {'q' * (i + 1)}"

    rows = [(str(i), text(i)) for i in range(60)]
    path = source(tmp_path, {"tweet": rows})
    monkeypatch.setattr(topic, "SOURCE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    found = topic.topic(path)
    assert found.vocabulary is not None
    training = [text for (n, text) in rows if hashlib.blake2b(f"tweet/{n}".encode(), digest_size=16).digest()[0] % 5]
    often = {w for text in training for w in split(text) if sum(w in split(t) for t in training) >= topic.LEAST_COUNT}
    assert set(found.vocabulary.words[2:]) == often and not any(word.startswith("q") for word in often)


def test_another_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="SHA-256"):
        topic.topic(source(tmp_path, {}))


def test_no_sentence_is_shipped() -> None:
    """Of the data set: words that occur often, weights, digests, labels and a linear classifier."""
    assert sorted(path.name for path in SHIPPED.glob("topic*")) == ["topic.digests.safetensors", "topic.safetensors"]
    model, beside = load_model("topic"), load_file(SHIPPED / "topic.digests.safetensors")
    assert model.held_out is None and model.config.classes == topic.CLASSES
    assert model.parameters.keys() == parameter_shapes(model.config).keys()
    held_out, words = len(beside["labels"]), model.config.vocabulary
    assert {name: (x.dtype.name, x.shape) for name, x in beside.items()} == {
        "digests": ("uint8", (held_out, topic.DIGEST_BYTES)),
        "labels": ("uint8", (held_out,)),
        "baseline.weight": ("float16", (4, words)),
        "baseline.bias": ("float16", (4,)),
    }
    assert held_out > 1000 and len(np.unique(beside["digests"], axis=0)) == held_out
    assert model.vocabulary is not None and all(" " not in word for word in model.vocabulary.words)


def test_the_texts_of_this_test_are_told_apart() -> None:
    """By the float model, and by the fixed-point model of the private run alike."""
    model, fp = load_model("topic"), FixedPoint(64, 18)
    words, right = fold(model, fp), 0
    for label, texts in enumerate(TEXTS.values()):
        for text in texts:
            tokens = model.tokens_from_text(text)
            assert (tokens == UNKNOWN).mean() < 0.5
            plain = int(model.forward(tokens).logits.argmax())
            right += plain == label
            assert encoder(client_words(model.config, tokens, fp), words, model.config, fp).label == plain
    assert right >= 14


def test_a_held_out_item_is_refused_with_the_reason() -> None:
    with pytest.raises(ItemError, match="without held-out items"):
        load_model("topic").tokens_from_item(0)


def test_items_of_another_source_are_refused() -> None:
    beside = load_file(SHIPPED / "topic.digests.safetensors")
    model, labels, digests = load_model("topic"), beside["labels"], beside["digests"]
    items = np.zeros((len(labels), topic.MAX_TOKENS), dtype=np.uint16)
    assert with_held_out(model, items, labels, digests).held_out is not None
    for changed in (digests ^ np.eye(*digests.shape, dtype=np.uint8), digests[:-1]):
        with pytest.raises(BadModelFile):
            with_held_out(model, items, labels, changed)
    with pytest.raises(BadModelFile):
        with_held_out(model, items, labels[::-1], digests)
    with pytest.raises(UnknownModel):
        with_held_out(load_model("digits"), items, labels, digests)
