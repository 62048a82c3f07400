"""Experts' matrices on disk: the same products as from memory, and a clear word about files that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from protocols.he.matrices import above
from protocols.he.packing import SelectPlan
from protocols.he.params import INSECURE_TEST
from protocols.he.weights import prepare
from protocols.model.fixed_point import FixedPoint, RangeError, quantise
from protocols.model.mapped import MappedExperts
from protocols.model.store import BadModelFile
from tests.he_support import expected, session, words

FP = FixedPoint(64, 18)
RNG = np.random.default_rng()
E, F, D = 3, 20, 16


def written(folder: Path, floats: np.ndarray) -> Path:
    path = folder / "experts.safetensors"
    separate = {f"expert.{i}": np.ascontiguousarray(matrix) for i, matrix in enumerate(floats)}
    save_file({"together": floats, "other": floats[0], **separate}, path)
    return path


@pytest.mark.parametrize("keys", [["together"], [f"expert.{i}" for i in range(E)]])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["R", "L"])
def test_products_are_those_of_the_array(tmp_path: Path, order: str, kind: type, keys: list[str]) -> None:
    floats = RNG.normal(size=(E, F, D)).astype(kind)
    mapped = MappedExperts.opened(written(tmp_path, floats), keys, FP)
    whole = FP.signed(quantise(floats.astype(np.float64), FP))
    assert mapped.shape == whole.shape and np.array_equal(np.stack(list(mapped)), whole)
    assert np.array_equal(mapped[1:3, 5:9], whole[1:3, 5:9])
    plan = SelectPlan(INSECURE_TEST, order, E, D, F)
    assert prepare(plan, mapped).report == prepare(plan, whole).report
    rng, s = np.random.default_rng(1), session(plan)
    t, x, mask = (words(rng, shape, 64) for shape in ((E,), (D,), (F,)))
    assert np.array_equal(s.request(plan, mapped, t, x, mask, rng), expected(plan, whole, t, x, mask))


@pytest.mark.parametrize("mapped", [True, False])
def test_matrices_stand_above_others_wherever_they_are(tmp_path: Path, mapped: bool) -> None:
    """Rows on both sides of the edge and across it, expert by expert, and as an engine reads them."""
    floats = RNG.normal(size=(2, E, F, D))
    upper, lower = (FP.signed(quantise(half, FP)) for half in floats)
    whole = np.concatenate((upper, lower), axis=1)
    parts: Any = (upper, lower)
    if mapped:
        folders = [tmp_path / name for name in ("upper", "lower")]
        for folder in folders:
            folder.mkdir()
        pairs = zip(folders, floats, strict=True)
        parts = [MappedExperts.opened(written(folder, half), ["together"], FP) for folder, half in pairs]
    found = above(*parts)
    assert found.shape == whole.shape and np.array_equal(np.stack(list(found)), whole)
    for low, high in ((0, F), (F - 3, F + 2), (F, 2 * F), (F + 5, 2 * F + 9)):
        assert np.array_equal(found[1:3, low:high], whole[1:3, low:high])
    plan = SelectPlan(INSECURE_TEST, "R", E, D, 2 * F, stacked=2)
    rng, s = np.random.default_rng(1), session(plan)
    t, x, mask = (words(rng, shape, 64) for shape in ((E,), (D,), (2 * F,)))
    assert np.array_equal(s.request(plan, found, t, x, mask, rng), expected(plan, whole, t, x, mask))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    floats = RNG.normal(size=(E, F, D)).astype(np.float16)
    path = written(tmp_path, floats)
    for keys, told in ((["absent"], "absent"), (["other"], "one tensor"), (["together", "other"], "equal ones")):
        with pytest.raises(BadModelFile, match=told):
            MappedExperts.opened(path, keys, FP)
    with pytest.raises(BadModelFile, match="expected the tensors"):
        MappedExperts.opened(tmp_path / "none.safetensors", ["together"], FP)
    floats[0, 0, 0] = np.inf
    mapped = MappedExperts.opened(written(tmp_path, floats), ["together"], FP)
    with pytest.raises(RangeError, match="finite"):
        mapped[0:1, 0:1]
    save_file({"together": np.zeros((E, F, D), np.int8)}, path)
    with pytest.raises(BadModelFile, match="I8"):
        MappedExperts.opened(path, ["together"], FP)
