"""Readers of traces: what each format means, and what is refused with file, line and reason."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from lengthwise.errors import BadInputError, ConfigError
from lengthwise.workloads.mooncake import mooncake_lines
from lengthwise.workloads.recording import Recording
from lengthwise.workloads.traces import FILE_FORMATS, read_trace

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n"
GOOD = {
    "azure": AZURE + "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:47.6805901,396,109\n",
    "burstgpt": BURST + "5,ChatGPT,472,18,490,Conversation log\n45.5,GPT-4,1,2,3,API log\n",
    "vidur": VIDUR + "0.25,10,3\n0.5,20,4\n",
    "mooncake": '{"timestamp": 0.5, "input_length": 10, "output_length": 3, "hash_ids": [1, 2]}\n'
    '{"timestamp": 27482, "input_length": 20, "output_length": 4, "priority": -1}\n',
    "bailian": '{"chat_id": 7, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 10, '
    '"output_length": 3, "type": "text", "turn": 1, "hash_ids": [4]}\n'
    '{"chat_id": 9, "parent_chat_id": 7, "timestamp": 61.114, "input_length": 20, '
    '"output_length": 4, "type": "text", "turn": 2, "hash_ids": [4, 5]}\n',
    "jsonl": '{"prompt": "one two", "output_tokens": 3, "arrival_s": 1.5, "id": "a"}\n'
    '{"messages": [{"role": "user", "content": "x"}], "output_tokens": 4, "timestamp": 2000, '
    '"prompt_tokens": 20, "max_tokens": 9}\n',
    "sharegpt": json.dumps(
        [
            {"id": "a", "conversations": [{"from": "human", "value": "hi"},
                                          {"from": "gpt", "value": "hello"}]},
            {"id": "b", "conversations": [{"from": "gpt", "value": "so"},
                                          {"from": "human", "value": "go on"},
                                          {"from": "gpt", "value": "well"}]},
        ]
    ),
}  # fmt: skip


@pytest.fixture
def read(tmp_path):
    """Write a text to a file and read it as a format."""

    def write_and_read(name, text, **options):
        path = tmp_path / "trace"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_trace(name, path, **options)

    return write_and_read


def refused(read, name, text):
    """Return what the refusal says."""
    with pytest.raises(BadInputError) as error:
        read(name, text)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "times_ms", "inputs", "outputs"),
    [
        ("azure", [0.0, 1000.0001], [374, 396], [44, 109]),
        ("burstgpt", [5000.0, 45500.0], [472, 1], [18, 2]),
        ("vidur", [250.0, 500.0], [10, 20], [3, 4]),
        ("mooncake", [0.5, 27482.0], [10, 20], [3, 4]),
        ("bailian", [500.0, 61114.0], [10, 20], [3, 4]),
        ("jsonl", [1500.0, 2000.0], [7, 20], [3, 4]),
        ("sharegpt", None, [2, 5], [5, 4]),
    ],
)
def test_every_format_is_read_plain_and_zipped(name, times_ms, inputs, outputs, read):
    """Times in ms with every digit, and both lengths; gzip is seen by its first bytes."""
    for text in (GOOD[name].encode(), gzip.compress(GOOD[name].encode())):
        found = read(name, text)
        assert found.input_length.tolist() == inputs
        assert found.output_length.tolist() == outputs
        assert (None if found.timestamp_ms is None else found.timestamp_ms.tolist()) == times_ms
        assert found.skipped == ()


def test_every_format_has_an_example_here():
    """A format that is added is tested with the others."""
    assert set(GOOD) == set(FILE_FORMATS)


@pytest.mark.parametrize(
    ("stamps", "times_ms"),
    [
        (["2024-05-10 00:00:00.009930+00:00", "2024-05-10 00:00:00.010030+00:00"], [0.0, 0.1]),
        (["2024-05-10T00:00:00Z", "2024-05-10T02:00:00.5+02:00"], [0.0, 500.0]),
        (["18:15:46.6805900", "18:15:46.6805901"], [0.0, 0.0001]),
        (["2023-12-31 23:59:59.9999999", "2024-01-01 00:00:00"], [0.0, 0.0001]),
    ],
)
def test_azure_stamps_of_both_years(stamps, times_ms, read):
    """Seven digits of a second, with and without date and zone, none of them lost."""
    found = read("azure", AZURE + "".join(f"{stamp},1,1\n" for stamp in stamps))
    assert found.timestamp_ms.tolist() == times_ms


def test_burstgpt_with_sessions(read):
    """The later column set keeps its session; a byte order mark is no column."""
    header = "\ufeffTimestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Log Type"
    found = read("burstgpt", header + "\n1,s7,0.5,GPT-4,10,20,API log\n2,,0.5,GPT-4,10,20,x\n")
    assert found.extras == {"session_id": ["s7", None], "model": ["GPT-4", "GPT-4"]}


def test_mooncake_lengths_without_hashes(read):
    """The reduced CSV is told apart by its header."""
    header = "timestamp_ms,input_length,output_length,n_hash_blocks\n"
    found = read("mooncake", header + "0,6758,500,14\n3.5,7322,490,15\n")
    assert found.timestamp_ms.tolist() == [0.0, 3.5]
    assert found.has_hash_ids


def test_bailian_sessions_are_the_first_chat_of_a_chain(read):
    """A follow-up belongs to the session of its parent."""
    found = read("bailian", GOOD["bailian"])
    assert found.extras["session_id"] == [7, 7]
    assert found.extras["request_id"] == [7, 9]


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("azure", "2023-11-16 18:15:48,0,3", "input length 0 is not a whole number from 1"),
        ("azure", "2023-11-16 18:15:48,3,-4", "output length -4 is not"),
        ("azure", "2023-11-16 18:15:48,3", "has 2 fields, not 3"),
        ("azure", "2023-11-16 18:15:46.6805899,3,4", "out of order"),
        ("azure", "2023-13-16 18:15:48,3,4", "is not a date and time"),
        ("azure", "2023-11-16 18:15:48.12345678901,3,4", "is not a date and time"),
        ("burstgpt", "50,ChatGPT,472,0,472,Conversation log", "output length 0 is not"),
        ("burstgpt", "nan,ChatGPT,472,1,472,x", "timestamp nan ms"),
        ("vidur", "0.75,1e400,3", "input length inf"),
        ("vidur", "0.75,many,3", "num_prefill_tokens 'many' is not a number"),
        ("vidur", "0.75,2.5,3", "input length 2.5"),
        ("vidur", "1e300,2,3", "timestamp 1e+303 ms is not from 0 to"),
        ("vidur", "-1,2,3", "timestamp -1000 ms"),
        ("vidur", "0.75,1000000000000,3", "from 1 to 100,000,000"),
        ("mooncake", '{"timestamp": 30000, "input_length": 5}', "output_length"),
        ("mooncake", '{"timestamp": NaN, "input_length": 5, "output_length": 1}', "not JSON"),
        ("mooncake", '{"timestamp": "1", "input_length": 5, "output_length": 1}', "timestamp"),
        ("mooncake", '{"timestamp": 1, "input_length": 5, "output_length": 1}', "out of order"),
        ("mooncake", "[1, 2]", "Expected `object`"),
        ("bailian", '{"chat_id": 1, "timestamp": 62, "input_length": 0, "output_length": 1}', "0"),
        ("jsonl", '{"prompt": "x", "messages": [], "output_tokens": 1}', "either"),
        ("jsonl", '{"prompt": "x", "output_tokens": 1}', "has no arrival"),
        ("jsonl", '{"prompt": "x", "output_tokens": 1, "timestamp": 3e3, "arrival_s": 3}', "same"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_is_refused_or_skipped(name, row, said, read):
    """With its line and the reason; skipped, it is listed, and the others are there."""
    text = GOOD[name] + row + "\n"
    line = text.count("\n")
    message = refused(read, name, text)
    assert f"trace, line {line}: " in message
    assert said in message
    found = read(name, text, skip_bad_rows=True)
    assert len(found) == 2
    assert [bad.place for bad in found.skipped] == [line]
    assert said in found.skipped[0].reason


def test_rows_after_a_skipped_one_count_from_the_last_good(read):
    """One absurdly late row is out of range, and does not make all that follow unordered."""
    found = read("vidur", VIDUR + "1,1,1\n1e300,1,1\n2,1,1\n1.5,1,1\n3,1,1\n", skip_bad_rows=True)
    assert found.timestamp_ms.tolist() == [1000.0, 2000.0, 3000.0]
    assert [bad.place for bad in found.skipped] == [3, 5]


def test_a_bad_first_row_does_not_set_the_clock(read):
    """Dates count from the first row that is kept."""
    text = AZURE + "2023-11-16 18:00:00,0,1\n2023-11-16 18:15:46,1,1\n2023-11-16 18:15:47,1,1\n"
    assert read("azure", text, skip_bad_rows=True).timestamp_ms.tolist() == [0.0, 1000.0]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("azure", "TIMESTAMP,ContextTokens\n", "no column GeneratedTokens"),
        ("azure", "", "this header has nothing"),
        ("azure", AZURE, "no rows"),
        ("vidur", GOOD["azure"], "no column arrived_at or num_prefill_tokens or num_decode_tokens"),
        ("mooncake", "\n\n", "no rows"),
        ("sharegpt", "{}", "starts with '['"),
        ("sharegpt", b"\xff[", "can't decode"),
        ("azure", b"\x1f\x8b\x08nonsense", "trace"),
        ("azure", gzip.compress(b"x" * 1000)[:-9], "trace"),
    ],
)
def test_a_file_that_is_something_else_is_refused(name, text, said, read):
    """With what was expected, also where everything bad would be skipped."""
    assert said in refused(read, name, text)
    with pytest.raises(BadInputError, match="trace"):
        read(name, text, skip_bad_rows=True)


def test_a_file_that_is_not_there(tmp_path):
    """The path and the system's own words."""
    with pytest.raises(BadInputError, match=r"none: No such file"):
        read_trace("azure", tmp_path / "none")
    with pytest.raises(ConfigError, match="did you mean 'azure'"):
        read_trace("azur", tmp_path / "none")


def test_sharegpt_that_breaks_off(read):
    """What is whole is used; a note says where it ends and how many lack an answer."""
    text = GOOD["sharegpt"][:-1] + ', {"conversations": [{"from": "human", "value": "?"}]}, {"id'
    found = read("sharegpt", text)
    assert len(found) == 2
    assert found.extras["prompt"] == ["hi", "go on"]
    assert any("breaks off after entry 3" in note for note in found.notes)
    assert any("1 conversations have no prompt with an answer" in note for note in found.notes)


def test_mooncake_is_written_as_it_was_read(read):
    """Every field of the format survives a round trip, hashes and digits too."""
    row = {
        "timestamp": 1234.56789,
        "input_length": 3,
        "output_length": 4,
        "request_id": "r",
        "session_id": 5,
        "priority": -2,
        "model": "m",
        "tenant": "t",
        "predicted_output_length": 7.5,
        "slo_ttft_ms": 500.0,
        "slo_tpot_ms": 50.0,
        "deadline_ms": 9000.0,
        "prompt": "what",
        "hash_ids": [1, 2, 3],
    }
    rows = [{"timestamp": 7, "input_length": 1, "output_length": 2}, row]
    found = read("mooncake", "\n".join(map(json.dumps, rows)), keep_hash_ids=True)
    written = b"".join(mooncake_lines(found))
    assert [json.loads(line) for line in written.splitlines()] == rows
    assert b'"timestamp":7,' in written
    assert b"".join(mooncake_lines(read("mooncake", written, keep_hash_ids=True))) == written


def test_what_has_no_arrivals_is_no_trace(read):
    """Prompts alone cannot be written as Mooncake JSONL."""
    with pytest.raises(BadInputError, match="has no arrivals"):
        list(mooncake_lines(read("sharegpt", GOOD["sharegpt"])))


def test_columns_that_begin_late_are_filled(read):
    """A field that only later rows have is None before; chunks do not show."""
    plain = '{"timestamp": 1, "input_length": 1, "output_length": 1}\n'
    late = '{"timestamp": 1, "input_length": 1, "output_length": 1, "priority": 3}\n'
    found = read("mooncake", plain * 70_000 + late + plain)
    assert found.extras["priority"][-3:] == [None, 3, None]
    assert len(found.extras["priority"]) == len(found) == 70_002


def test_first_and_only_keep_columns_together():
    """Cutting a recording cuts every column."""
    found = Recording(
        source="x",
        places=np.array([1, 2, 3]),
        timestamp_ms=np.array([0.0, 1.0, 2.0]),
        input_length=np.array([1, 2, 3]),
        output_length=np.array([4, 5, 6]),
        extras={"model": ["a", "b", "c"]},
    ).only(np.array([True, False, True]))
    assert found.places.tolist() == [1, 3]
    assert found.extras == {"model": ["a", "c"]}
    assert found.first(1).output_length.tolist() == [4]


@pytest.mark.skipif(not SHARED.exists(), reason="needs the public traces in ../shared/data")
@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("azure", "azure2023_conv.csv.gz", 19_366),
        ("mooncake", "mooncake_conversation_trace_lengths.csv.gz", 12_031),
    ],
)
def test_published_traces_are_read_whole(name, file, count):
    """As many rows as their publisher counts, none refused."""
    assert len(read_trace(name, SHARED / file)) == count
