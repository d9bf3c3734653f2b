"""The small parts: what is counted of a stream, which headers pass, when to come again."""

from __future__ import annotations

import json
import random

import aiohttp
import pytest

from lengthwise.core.events import Outcome
from lengthwise.gateway import headers as hdr
from lengthwise.gateway.answers import ended, error_response
from lengthwise.gateway.parse import MEDIUM_TOKENS, parse
from lengthwise.gateway.scan import scan
from lengthwise.gateway.tally import Tally
from lengthwise.gateway.wire import ClientLeftError, to_client

STREAM = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content": "\\"content\\":\\"x\\""}}]}\n\n'
    b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n'
)


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_deltas_are_counted_however_the_stream_is_cut(size):
    """Empty pieces and quoted keys inside a text are no tokens; a cut by length is seen."""
    tally = Tally()
    for at in range(0, len(STREAM), size):
        tally.feed(STREAM[at : at + size])
    assert (tally.deltas, tally.output_tokens, tally.cut) == (2, 2, True)


def test_the_engines_own_count_beats_ours():
    """Usage, or llama.cpp's timings, replace the counted deltas."""
    for end, tokens in (
        (b'data: {"usage":{"completion_tokens": 9,"prompt_tokens":4}}\n\n', 9),
        (b'data: {"timings":{"predicted_n":8,"predicted_per_token_ms":5.5}}\n\n', 8),
    ):
        tally = Tally()
        tally.feed(STREAM + end)
        assert tally.output_tokens == tokens
    assert tally.s_per_token == pytest.approx(0.0055)


@pytest.mark.parametrize("every_event", [False, True])
def test_llama_cpp_counts_one_answer_of_several_the_others_all(every_event):
    """Two answers of 20 and 10 tokens are 30, whoever says it, and 40 if only the first is told."""
    piece = b'data: {"choices":[{"delta":{"content":"a"}}]%s}\n\n'
    early = piece % (b',"timings":{"predicted_n":1}' if every_event else b"")
    last = b'data: {"choices":[],"usage":{"completion_tokens":%d},"timings":{"predicted_n":%d}}\n\n'
    llama, vllm, whole = Tally(2), Tally(2), Tally(2)
    for part in (early, early, last % (20, 20), early, last % (10, 10)):
        llama.feed(part)
    vllm.feed(piece % b"" + b'data: {"usage":{"completion_tokens":30}}\n\n')
    whole.read_answer(b'{"usage":{"completion_tokens":20},"timings":{"predicted_n":20}}')
    assert (llama.output_tokens, vllm.output_tokens, whole.output_tokens) == (30, 30, 40)


def test_usage_written_by_the_model_is_not_usage():
    """A model that writes JSON cannot fake the counts, since its quotes are escaped."""
    tally = Tally()
    tally.feed(b'data: {"choices":[{"text":"\\"usage\\": {\\"completion_tokens\\": 99}"}]}\n\n')
    assert tally.usage is None


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (b'data: {"error": {"message": "no"}}\n\n', True),
        (b'data: {"object":"error","message":"no"}\r\n\r\n', True),
        (b'event: error\ndata: {"message":"no"}\n\n', True),
        (b'data: {"error":"out of memory","error_type":"x"}\n\n', True),
        (b'data: {"error":null,"choices":[{"text":"a"}]}\n\n', False),
        (b'data: {"choices":[{"text":"\\nerror: {\\"error\\": {"}]}\n\n', False),
    ],
)
def test_an_error_of_the_engine_is_told_from_a_text_about_one(event, failed):
    """Each engine's spelling, and a model that writes of errors; the last line may lack its end."""
    tally = Tally()
    tally.feed(STREAM + event + b"data: [DONE]")
    tally.close()
    assert (tally.failed, tally.ended) == (failed, True)


def test_an_error_in_place_of_an_answer_is_a_failure():
    """Some proxies answer 200 with an error in the body."""
    for body, failed in (
        (b' {"error": {"code": 1}}', True),
        (b'{"id": "1", "error": null}', False),
    ):
        tally = Tally()
        tally.read_answer(body)
        assert tally.failed is failed


def test_only_named_headers_go_upstream():
    """The allow-list holds for any spelling; the operator's key replaces the client's."""
    client = aiohttp.typedefs.CIMultiDict(
        {"authorization": "Bearer x", "X-Vllm-Priority": "0", "ACCEPT": "a", "cookie": "c"}
    )
    sent = hdr.upstream(client, "id", "key")
    assert sent == {
        "Accept": "a",
        "Accept-Encoding": "identity",
        "x-request-id": "id",
        "Authorization": "Bearer key",
    }
    assert "Authorization" not in hdr.upstream(client, "id", None)


def test_hop_by_hop_headers_stay_between_us_and_the_engine():
    """What Connection names, and the usual suspects, are not passed to the client."""
    engine = aiohttp.typedefs.CIMultiDict(
        {"Connection": "x-hop, close", "X-Hop": "1", "Keep-Alive": "5", "X-Kept": "2"}
    )
    assert dict(hdr.downstream(engine)) == {"X-Kept": "2"}


@pytest.mark.parametrize("given", ["", "0", "-5", "1e3", "٣", "9999999999", "5 "])
def test_mad_length_hints_are_no_hints(given):
    """Only a plain positive integer of at most nine digits is a hint."""
    assert hdr.length_hint({hdr.LENGTH_HINT: given}) is None
    assert hdr.length_hint({hdr.LENGTH_HINT: "17"}) == 17


@pytest.mark.parametrize("outcome", [o for o in Outcome if not o.served])
def test_every_refusal_has_a_status_words_and_a_code(outcome):
    """No outcome is without its answer."""
    error = ended(outcome)
    response = error_response(error)
    assert response.status == outcome.http_status >= 400
    assert outcome.value.encode() in response.body


def test_a_scan_across_chunks_equals_one_within():
    """Strings, numbers and brackets that lie across the scanner's pieces count as they should."""
    rng = random.Random(5)
    for _ in range(20):
        pad = b" " * (65_536 - rng.randrange(60))
        text = b'{"k":' + pad + b'["a\\"]}", 123456789012345678, {"b": [1, 2, 3]}]}'
        shape = scan(text)
        assert shape.colons[:4] == (0, 1, 0, 1)
        assert shape.commas[:5] == (0, 0, 2, 0, 2)


def test_a_prompt_is_read_as_predict_reads_it():
    """Lists of prompts take a slot each; the larger of n and best_of counts."""
    parsed = parse(b'{"prompt":["a","b"],"n":2,"best_of":3,"max_tokens":5}', chat=False)
    assert (parsed.slots, parsed.max_tokens) == (6, 5)
    assert parsed.prompt.messages[0].content == "a"
    ids = parse(b'{"prompt":[[1,2],[3]],"stream":true}', chat=False)
    assert (ids.slots, ids.stream, ids.prompt_tokens) == (2, True, 3)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 2**18}},
        {"type": "input_audio", "input_audio": {"data": "QUJD" * 2**18, "format": "wav"}},
    ],
)
def test_a_picture_is_not_read_as_a_million_tokens_of_text(part):
    """Its bytes say little of the work it is; it counts as a usual picture."""
    ask = {"type": "text", "text": "What is this?"}
    body = json.dumps({"messages": [{"role": "user", "content": [ask, part, part]}]}).encode()
    parsed = parse(body, chat=True)
    assert 2 * MEDIUM_TOKENS <= parsed.prompt_tokens < 2 * MEDIUM_TOKENS + 100
    assert parsed.prompt.messages[0].content == "What is this?"


async def test_a_client_that_left_is_not_the_engines_fault():
    """The error of a gone client is told apart from those of an engine."""

    async def write() -> None:
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")

    with pytest.raises(ClientLeftError) as caught:
        await to_client(write())
    assert not isinstance(caught.value, aiohttp.ClientError)
