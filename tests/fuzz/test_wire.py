"""Bytes and headers of messages: WireMismatch, or an array that goes out again as it came in."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sim.ring import Ring, Spec
from sim.wire import BlobSpec, WireMismatch, decode, describe, encode, spec_from_json, spec_to_json
from tests.fuzz.guard import limited
from tests.fuzz.mutations import hostile, json_values, mutated

specs = st.builds(Spec, st.builds(Ring, st.integers(1, 64)), st.lists(st.integers(0, 5), max_size=4).map(tuple))
sizes = st.lists(st.sampled_from((0, 1, 2, 7, 2**31, 2**40, 2**63, 10**30)), max_size=70)
headers = st.tuples(
    st.sampled_from(("ring", "key", "", "\0")) | hostile,
    st.sampled_from(("z2^1", "z2^12", "z2^64", "z2^65", "z2^99", "z2^0", "z2^٣", "z2^1\n", "bytes")) | hostile,
    sizes | hostile | json_values,
)


@given(specs, st.data())
def test_bytes_decode_to_what_encodes_to_them(spec: Spec, data: st.DataObject) -> None:
    sent = data.draw(st.binary(min_size=spec.nbytes, max_size=spec.nbytes) | st.binary(max_size=40))
    try:
        found = decode(sent, spec)
    except WireMismatch:
        assert len(sent) != spec.nbytes or spec.bits % 8
    else:
        assert found.spec == spec and encode(found) == sent


def read_header(kind: Any, dtype: Any, shape: Any) -> Spec | BlobSpec | None:
    """The property of a header: refused, or read, told and written again, and of a size that decoding can hold to."""
    with limited():
        try:
            spec = spec_from_json(kind, dtype, shape)
        except WireMismatch as error:
            assert str(error).isprintable() and len(str(error)) < 500
            return None
        assert spec_to_json(spec) == {"kind": kind, "dtype": dtype, "shape": shape}
        assert describe(spec).startswith(("Z_2^", spec_to_json(spec)["kind"]))
        if isinstance(spec, Spec):
            content = bytes(spec.nbytes if spec.nbytes < 1 << 20 else 0)
            try:
                assert encode(decode(content, spec)) == content
            except WireMismatch:
                assert spec.nbytes >= 1 << 20
        return spec


@given(headers)
@example(("ring", "z2^8", [1] * 65))
@example(("ring", "z2^8", [0, 2**63]))
@example(("ring", "z2^8", [10**4000, 10**4000]))
@example(("key", "bytes", [10**4000]))
def test_headers_read_or_are_refused(header: tuple[Any, Any, Any]) -> None:
    read_header(*header)


@given(specs, st.data())
def test_damaged_headers_read_or_are_refused(spec: Spec, data: st.DataObject) -> None:
    told = spec_to_json(spec)
    assert read_header(told["kind"], told["dtype"], told["shape"]) == spec
    changed = data.draw(mutated(told))
    if isinstance(changed, dict):
        read_header(*(changed.get(name) for name in ("kind", "dtype", "shape")))
