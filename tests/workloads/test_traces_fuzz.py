"""Invariant: whatever a file holds, a reader gives sound columns or refuses and names the file."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lengthwise.errors import BadInputError
from lengthwise.workloads.mooncake import mooncake_lines
from lengthwise.workloads.traces import FILE_FORMATS, read_trace
from tests.workloads.test_traces import GOOD

NASTY = st.sampled_from(
    [b"", b"-1", b"nan", b"1e999", b"99999999999999999999999", b'"', b"\x00", b"\xff", b",", b"\n",
     b"null", b"{}", b"[[", b"\\ud800", b"\r\n", b"0000-00-00 99:99:99", b"1_0", b" ", b"true"]
)  # fmt: skip


@st.composite
def files(draw, name):
    """Good files with a few nasty pieces put over what was there."""
    text = GOOD[name].encode() * draw(st.integers(1, 2))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(NASTY) + text[at + draw(st.integers(0, 12)) :]
    return gzip.compress(text) if draw(st.booleans()) else text


@pytest.mark.parametrize("name", FILE_FORMATS)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_reader_gives_sound_columns_or_refuses(name, data, tmp_path):
    """No other error, no column that a simulation could not take; what is read can be written."""
    path = tmp_path / "file"
    path.write_bytes(data.draw(files(name)))
    try:
        found = read_trace(name, path, skip_bad_rows=data.draw(st.booleans()), keep_hash_ids=True)
    except BadInputError as error:
        assert str(path) in str(error)  # noqa: PT017  # a refusal is one of two good outcomes
        return
    assert len(found) > 0
    assert found.input_length.min() >= 1
    assert found.output_length.min() >= 1
    assert all(len(column) == len(found) for column in found.extras.values())
    if found.timestamp_ms is not None:
        assert np.isfinite(found.timestamp_ms).all()
        assert (np.diff(found.timestamp_ms) >= 0).all()
        assert found.timestamp_ms[0] >= 0
        written = b"".join(mooncake_lines(found))
        path.write_bytes(written)
        again = read_trace("mooncake", path, keep_hash_ids=True)
        assert b"".join(mooncake_lines(again)) == written
