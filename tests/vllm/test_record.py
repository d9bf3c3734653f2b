"""What the plug-in writes and follows beside the step loop; needs no vLLM."""

from __future__ import annotations

import functools
import json
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from lengthwise.cli import log as log_command
from lengthwise.core.events import Outcome
from lengthwise.core.prediction import Prediction
from lengthwise.core.request import Request
from lengthwise.errors import ArtifactError
from lengthwise.predictors import artifact, load_predictor, published, request_log
from lengthwise.predictors.base import Prompt
from lengthwise.predictors.shipped import features_version, shipped
from lengthwise.proxy.from_log import train_from_log
from lengthwise.vllm.following import LOOK_EVERY_S, Following
from lengthwise.vllm.hints import hinted_cap, hinted_prediction
from lengthwise.vllm.record import Record
from lengthwise.vllm.tally import Tally
from lengthwise.vllm.transcript import Transcript

WORDS = ("one", "word", "please", "write", "a", "long", "story", "about", "ships", "and", "storms")


class FakeTokenizer:
    """Words as tokens, none of them special."""

    all_special_ids = ()

    def decode(self, ids):
        return " ".join(WORDS[i % len(WORDS)] for i in ids)


def fake_request(tokens: int, ids: list[int] | None = None) -> SimpleNamespace:
    """Make what vLLM's request looks like to the log."""
    ids = [0, 1, 2] if ids is None else ids
    return SimpleNamespace(prompt_token_ids=ids, num_output_tokens=tokens, max_tokens=512)


def seat(id_: int, arrival_s: float = 0.0) -> Request:
    """One request as a policy sees it."""
    return Request(id=id_, arrival_s=arrival_s, prediction=Prediction.point(9), prompt_tokens=3)


def record_to(path, *, tokenizer=FakeTokenizer, with_prompts: bool = False) -> Record:
    """Open a log under a served name."""
    return Record(
        path,
        lambda: Transcript(tokenizer()),
        Tally(),
        model="served",
        policy="ssjf",
        with_prompts=with_prompts,
    )


def end(record: Record, request, place: Request, outcome: Outcome, now: float, **said) -> None:
    """Let a request end."""
    told = {"own": None, "predictor": None, "fallback": True, **said}
    record.ended(request, place, outcome, now, **told)


def test_a_row_is_what_the_gateway_would_have_written(tmp_path):
    """Features of the present meaning, the prediction, the times; no text unless asked for."""
    path = tmp_path / "log.sqlite3"
    record = record_to(path)
    request, place = fake_request(0), seat(0, 100.0)
    record.admitted(request, place, 101.0)
    record.begin_step(102.0)
    request.num_output_tokens = 1
    record.begin_step(103.0)
    request.num_output_tokens = 40
    record.admitted(request, place, 104.0)  # taken off and resumed: the first admission counts
    said = {"own": Prediction.of([10, 20, 30]), "predictor": "default", "fallback": False}
    end(record, request, place, Outcome.STOP, 110.0, **said)
    end(record, fake_request(512), seat(1, 100.0), Outcome.LENGTH, 120.0)
    record.close()
    first, second = request_log.every_row(path)
    assert (first["queue_ms"], first["ttft_ms"], first["e2el_ms"]) == (1000, 3000, 10_000)
    assert (first["p50"], first["mean"], first["output_tokens"]) == (20, 20, 40)
    assert (first["model"], first["policy"], first["predictor"]) == ("served", "ssjf", "default")
    assert (first["finish_reason"], first["censored"], first["messages"]) == ("stop", False, None)
    assert (second["finish_reason"], second["censored"], second["fallback"]) == (
        ("length", True, True)
    )
    version = features_version(shipped())
    found = request_log.rows_from_log(path, model="served", version=version)
    assert found.output_tokens.tolist() == [40, 512]
    assert found.features.shape[1] > 20


def test_the_text_is_written_only_where_the_operator_wants_it(tmp_path):
    """With `log_prompts` the conversation that was read out of the token ids is in the row."""
    path = tmp_path / "log.sqlite3"
    record = record_to(path, with_prompts=True)
    end(record, fake_request(4), seat(0), Outcome.STOP, 1.0)
    record.close()
    (row,) = request_log.every_row(path)
    assert row["messages"] == [{"role": "user", "content": "one word please"}]


def test_without_a_tokenizer_rows_carry_no_features(tmp_path, caplog):
    """The rest of the row is written all the same; said once."""

    def broken():
        raise LookupError("no tokenizer")

    path = tmp_path / "log.sqlite3"
    record = record_to(path, tokenizer=broken)
    for i in range(3):
        end(record, fake_request(4, ids=[1]), seat(i), Outcome.CANCELLED, 1.0)
    record.close()
    assert [row["features"] for row in request_log.every_row(path)] == [None] * 3
    assert len([r for r in caplog.records if "the request log" in r.getMessage()]) == 1


def test_a_locked_file_stops_no_step(tmp_path, monkeypatch, caplog):
    """While somebody else holds the file, rows are lost and counted; `ended` returns at once."""
    monkeypatch.setattr(request_log, "BUSY_S", 0.01)
    path = tmp_path / "log.sqlite3"
    request_log.open_for_writing(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    record = record_to(path)
    end(record, fake_request(4), seat(0), Outcome.STOP, 1.0)
    record.close()
    assert record.writer.dropped == 1
    assert record._tally.log_rows() == (0, 1)
    assert "serving goes on" in caplog.text
    holder.execute("ROLLBACK")
    holder.close()


def test_two_engines_may_create_one_log(tmp_path, monkeypatch):
    """At the same moment, as those of data parallelism do: both find it empty, neither fails."""
    both = threading.Barrier(2, timeout=60)

    class Meeting(sqlite3.Connection):
        def execute(self, sql, *args):
            found = super().execute(sql, *args)
            if "sqlite_master" in sql:
                both.wait()
            return found

    connect = functools.partial(sqlite3.connect, factory=Meeting)
    monkeypatch.setattr(request_log.sqlite3, "connect", connect)
    with ThreadPoolExecutor(2) as pool:
        path = tmp_path / "log.sqlite3"
        opened = [pool.submit(lambda: request_log.open_for_writing(path).close()) for _ in "ab"]
        assert [one.result(120) for one in opened] == [None, None]


def test_engines_that_turn_the_log_on_at_the_same_moment_wait_for_each_other(tmp_path):
    """SQLite itself refuses one of two that change to WAL at once, without its usual wait."""
    together = threading.Barrier(3, timeout=60)

    def opens(path):
        together.wait()
        request_log.open_for_writing(path).close()

    with ThreadPoolExecutor(3) as pool:
        for number in range(100):
            path = tmp_path / f"log-{number}.sqlite3"
            opened = [pool.submit(opens, path) for _ in "abc"]
            assert [one.result(120) for one in opened] == [None, None, None]


def test_a_writer_that_stands_still_costs_rows_only(tmp_path):
    """A disk that hangs: the queue of rows fills, the rest is dropped, nobody waits."""
    stuck, go_on = threading.Event(), threading.Event()

    def hangs():
        stuck.set()
        assert go_on.wait(60)
        return FakeTokenizer()

    record = record_to(tmp_path / "log.sqlite3", tokenizer=hangs)
    end(record, fake_request(4), seat(0), Outcome.STOP, 1.0)
    assert stuck.wait(60)
    room = record.writer._rows.maxsize
    for i in range(room + 50):
        end(record, fake_request(4), seat(i), Outcome.STOP, 1.0)
    assert record.writer.dropped == 50
    go_on.set()
    record.close()


def test_a_model_can_be_trained_from_an_engines_log(tmp_path):
    """`log stats` reads it and `train --from-log` learns what makes its answers long."""
    path = tmp_path / "log.sqlite3"
    record = record_to(path)
    rng = np.random.default_rng(0)
    for i in range(400):
        long = bool(i % 2)
        ids = [3, 4, 5, 6, 7] if long else [0, 1, 2]
        ids += rng.integers(8, 11, 3).tolist()
        tokens = int(rng.integers(200, 400) if long else rng.integers(1, 9))
        end(record, fake_request(tokens, ids), seat(i), Outcome.STOP, float(i))
    record.close()
    stats = CliRunner().invoke(log_command.command, ["stats", "--json", str(path)])
    (shown,) = json.loads(stats.output)["models"]
    assert (shown["model"], shown["rows"], shown["finish_reasons"]) == (
        "served",
        400,
        {"stop": 400},
    )
    train_from_log(path, tmp_path / "model")
    learnt = load_predictor(str(tmp_path / "model"))
    say = Transcript(FakeTokenizer()).read
    assert learnt.predict(say([3, 4, 5, 6, 7, 8])).mean > 5 * learnt.predict(say([0, 1, 2, 8])).mean


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small trained artifact."""
    folder = tmp_path_factory.mktemp("trained")
    record = record_to(folder / "log.sqlite3")
    for i in range(80):
        end(record, fake_request(20 + i % 5, [i % 11, 1]), seat(i), Outcome.STOP, float(i))
    record.close()
    train_from_log(folder / "log.sqlite3", folder / "model")
    return folder / "model"


def test_what_a_gateway_publishes_is_followed(tmp_path, trained):
    """The shipped model until there is one; then the published, and the next; no bad one ever."""
    now = [0.0]
    root = tmp_path / "gateway.models"
    following = Following(root, "served", clock=lambda: now[0])
    ask = Prompt.of("one word please")
    assert following.name == "default"
    fitted = load_predictor(str(trained))
    published.publish(root, "served", fitted, {"rows": 80})
    following.predict(ask)
    assert following.name == "default", "it is not looked for at every prediction"
    now[0] += LOOK_EVERY_S
    following.predict(ask)
    assert following.name == "learnt-v1"
    published.publish(root, "served", fitted, {"rows": 81})
    pointer = published.folder_of(root, "served") / published.POINTER
    sound = pointer.read_text()
    pointer.write_text("{broken")
    now[0] += LOOK_EVERY_S
    following.predict(ask)
    assert following.name == "learnt-v1"
    pointer.write_text(sound)
    now[0] += LOOK_EVERY_S
    following.predict(ask)
    assert following.name == "learnt-v2"


def test_an_artifact_that_is_trained_anew_is_followed(tmp_path, trained):
    """`train --output` over the old one takes effect; one that is gone leaves the last in force."""
    now = [0.0]
    place = tmp_path / "mine"
    shutil.copytree(trained, place)
    following = Following(place, "served", clock=lambda: now[0])
    before = following._predictor
    manifest = place / artifact.MANIFEST
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    now[0] += LOOK_EVERY_S
    assert following.predict(Prompt.of("x")).mean > 0
    assert following._predictor is not before
    shutil.rmtree(place)
    now[0] += LOOK_EVERY_S
    assert following.predict(Prompt.of("x")).mean > 0
    place.mkdir()
    manifest.write_text("{}")
    with pytest.raises(ArtifactError):
        Following(place, "served")


def hinting(**extra) -> SimpleNamespace:
    """Make a request with `vllm_xargs`."""
    return SimpleNamespace(sampling_params=SimpleNamespace(extra_args=extra or None))


@pytest.mark.parametrize(
    ("extra", "lengths"),
    [
        ({"lengthwise_output_tokens": 40}, (40,)),
        ({"lengthwise_output_tokens": [30, 10.5]}, (10.5, 30)),
        ({"nvext": {"agent_hints": {"osl": 40}}}, (40,)),
        ({"nvext": '{"agent_hints": {"osl": 40, "priority": 3}}'}, (40,)),
        ({"lengthwise_output_tokens": 7, "nvext": {"agent_hints": {"osl": 40}}}, (7,)),
    ],
)
def test_both_spellings_of_a_stated_length_are_read(extra, lengths):
    """Ours first, then Dynamo's, as an object (in-process) or as its JSON text (over HTTP)."""
    assert hinted_prediction(hinting(**extra)).lengths == lengths


@pytest.mark.parametrize(
    "extra",
    [
        {},
        *(
            {"lengthwise_output_tokens": bad}
            for bad in (0, -1, "9", True, float("inf"), 1e308, [], [3, 0], [1e308] * 3)
        ),
        {"lengthwise_output_tokens": [1.0] * 2000},
        *(
            {"nvext": bad}
            for bad in (7, "{", "[]", "[" * 4000, "[" * 5000, {"agent_hints": 4}, {}, None)
        ),
        *({"nvext": {"agent_hints": {"osl": bad}}} for bad in (None, "40", -3, float("nan"))),
        {"nvext": '{"agent_hints": {"osl": 1' + "0" * 400 + "}}"},
        {"nvext": '{"agent_hints": {"osl": 5}' + " " * 5000 + "}"},
    ],
    ids=lambda extra: str(extra)[:50],
)
def test_what_is_no_length_is_no_hint(extra):
    """Whatever a client sends there, the request is predicted like any other."""
    assert hinted_prediction(hinting(**extra)) is None
    assert hinted_prediction(SimpleNamespace(sampling_params=None)) is None
    assert hinted_cap(hinting(lengthwise_max_tokens=9.5)) == 10
    assert hinted_cap(hinting(lengthwise_max_tokens=1e308)) is None
