"""Learning from the log: better models only, published whole, whatever is killed when."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lengthwise.cli import train
from lengthwise.errors import ArtifactError, BadInputError, ConfigError
from lengthwise.predictors import load_predictor, published, request_log, tuned
from lengthwise.predictors.artifact import ARRAYS, MANIFEST
from lengthwise.predictors.base import Prompt
from lengthwise.predictors.recall import key_of
from lengthwise.predictors.request_log import Learnable, LogRow
from lengthwise.predictors.shipped import features_version, shipped
from lengthwise.proxy import cheap, learner
from lengthwise.proxy.learner import Score, beats, refit

pytest.importorskip("lightgbm")
WORDS = (
    *("sun", "rain", "code", "list", "story", "fact"),
    *("why", "how", "what", "long", "short", "plan"),
)
#: The engine's own habit, which the shipped model does not know: who asks for a plan gets a lot.
HABIT = {"plan": 6.0, "fact": 0.2}


@pytest.fixture(scope="module")
def base():
    """Load the shipped model once."""
    return shipped()


@pytest.fixture(scope="module")
def learnable(base):
    """Make 400 rows of an engine with a habit, predicted at the time by the shipped model."""
    rng = random.Random(3)
    prompts, tokens = [], []
    for _ in range(400):
        words = rng.choices(WORDS, k=rng.randint(3, 14))
        factor = np.prod([HABIT.get(w, 1.0) for w in set(words)])
        prompts.append(Prompt.of(" ".join(words)))
        tokens.append(max(1, round(60 * factor * rng.lognormvariate(0, 0.4))))
    said = [base.predict(p) for p in prompts]
    return Learnable(
        ids=np.arange(400),
        keys=np.array([key_of(p) for p in prompts]),
        features=np.array([tuned.features(p, base, None) for p in prompts], dtype=np.float32),
        output_tokens=np.minimum(np.array(tokens, dtype=float), 300),
        censored=np.array(tokens) > 300,
        p50=np.array([p.quantile(0.5) for p in said]),
        p90=np.array([p.quantile(0.9) for p in said]),
    )


def write_log(path, rows, version):
    """Put rows into a log file."""
    connection = request_log.open_for_writing(path)
    made = [
        LogRow(
            at=0.0,
            model="m",
            tenant="",
            policy="p",
            predictor="default",
            features_version=version,
            features=x.astype("<f4").tobytes(),
            p10=1.0,
            p50=p50,
            p90=p90,
            mean=p50,
            max_tokens=None,
            prompt_tokens=1,
            output_tokens=n,
            finish_reason="stop",
            censored=bool(cut),
            fallback=False,
            queue_ms=None,
            ttft_ms=None,
            e2el_ms=1.0,
            prompt=None,
            prompt_key=int(key),
        )
        for x, key, n, cut, p50, p90 in zip(
            rows.features,
            rows.keys,
            rows.output_tokens,
            rows.censored,
            rows.p50,
            rows.p90,
            strict=True,
        )
    ]
    request_log.insert(connection, made)
    connection.close()


def test_a_refit_that_ranks_and_fits_better_is_to_be_published(base, learnable):
    """The engine's level and what the features tell of its habit are learnt."""
    verdict = refit(learnable, base)
    assert verdict.published
    assert verdict.candidate.loss < verdict.serving.loss
    assert verdict.fitted.own is None


def test_shuffled_answers_are_not_published(base, learnable):
    """Where there is nothing to learn, what serves stays."""
    mixed = np.random.default_rng(0).permutation(400)
    shuffled = Learnable(
        ids=learnable.ids,
        keys=learnable.keys,
        features=learnable.features,
        output_tokens=learnable.output_tokens[mixed],
        censored=learnable.censored[mixed],
        p50=learnable.output_tokens[mixed],
        p90=2 * learnable.output_tokens[mixed],
    )
    assert not refit(shuffled, base).published


def test_only_what_ranks_as_well_and_is_closer_beats():
    """Ties and noise change nothing; a proxy that ranks nothing is beaten by one that does."""
    serving = Score(tau=0.3, loss=0.5)
    assert beats(Score(tau=0.3, loss=0.4), serving)
    assert beats(Score(tau=0.4, loss=0.6), serving)
    assert not beats(Score(tau=0.2, loss=0.1), serving)
    assert not beats(Score(tau=0.3, loss=0.5), serving)
    assert not beats(Score(tau=float("nan"), loss=0.1), serving)
    assert beats(Score(tau=0.1, loss=0.4), Score(tau=float("nan"), loss=0.5))


def test_one_percent_of_poison_costs_little(base, learnable):
    """Four absurd rows in 400 do not turn the order of the others."""
    poisoned = learnable.output_tokens.copy()
    poisoned[::100] = 1e6
    others = ~learnable.censored & (poisoned < 1e6)
    clean = cheap.fit_features(
        learnable.features, learnable.output_tokens, learnable.censored, base
    )
    dirty = cheap.fit_features(learnable.features, poisoned, learnable.censored, base)
    taus = []
    for model in (clean, dirty):
        said = np.array([model.predict_row(x).quantile(0.5) for x in learnable.features[others]])
        tokens = learnable.output_tokens[others]
        taus.append(learner.rank_arrays(said, tokens, np.zeros(len(said), dtype=bool)).tau)
    assert taus[1] >= taus[0] - 0.02


@pytest.mark.parametrize("wrong", [np.nan, -1.0, np.inf])
def test_a_row_that_is_no_length_is_refused(base, learnable, wrong):
    """What the log cannot hold by itself is not learnt from."""
    tokens = learnable.output_tokens.copy()
    tokens[3] = wrong
    with pytest.raises(BadInputError, match="NaN, an infinite or a negative"):
        cheap.fit_features(learnable.features, tokens, learnable.censored, base)


def test_what_is_published_is_loaded_and_the_last_two_are_kept(tmp_path, base, learnable):
    """Versions count up; names of models that differ only in signs have folders of their own."""
    fitted = refit(learnable, base).fitted
    assert published.load_current(tmp_path, "org/m") is None
    for expected in (1, 2, 3):
        assert published.publish(tmp_path, "org/m", fitted, {"rows": 400}) == expected
    loaded = published.load_current(tmp_path, "org/m")
    assert loaded.name == "learnt-v3"
    x = learnable.features[0]
    assert loaded.predict_row(x).lengths == pytest.approx(fitted.predict_row(x).lengths, rel=1e-4)
    folder = published.folder_of(tmp_path, "org/m")
    assert sorted(d.name for d in folder.iterdir()) == ["current.json", "v2", "v3"]
    assert published.folder_of(tmp_path, "org.m") != folder
    assert published.folder_of(tmp_path, "../..").parent == tmp_path


@pytest.mark.parametrize("name", ["current.json", f"v1/{MANIFEST}", f"v1/{ARRAYS}"])
def test_a_tampered_publication_is_refused_by_name(tmp_path, base, learnable, name):
    """One changed byte anywhere, and the file is named."""
    published.publish(tmp_path, "m", refit(learnable, base).fitted, {})
    where = published.folder_of(tmp_path, "m") / name
    content = bytearray(where.read_bytes())
    content[len(content) // 2] ^= 1
    where.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"v1|current\.json"):
        published.load_current(tmp_path, "m")


class FakeKill(BaseException):
    """Stands for SIGKILL: nothing of the publisher's runs after it."""


def test_publishing_killed_at_every_step_leaves_the_old_or_the_new(
    tmp_path, base, learnable, monkeypatch
):
    """Killed before each of its steps in turn: what is current is whole, and the next one works."""
    fitted = refit(learnable, base).fitted
    published.publish(tmp_path, "m", fitted, {"rows": 1})
    steps = 0
    while True:
        left = [steps]

        def killed(name, real, left=left):
            def call(*args, **options):
                if left[0] == 0:
                    raise FakeKill(name)
                left[0] -= 1
                return real(*args, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("rename", "replace", "mkdir", "write_text", "write_bytes"):
                real = getattr(Path, name)
                patch.setattr(Path, name, killed(name, real))
            patch.setattr(published, "_flush", killed("flush", published._flush))
            try:
                published.publish(tmp_path, "m", fitted, {"rows": 2})
                break
            except FakeKill:
                pass
        current = published.load_current(tmp_path, "m")
        assert current.manifest["rows"] in (1, 2)
        steps += 1
    assert steps >= 8
    assert published.load_current(tmp_path, "m").manifest["rows"] == 2


def start_learner():
    """Run the learner as the gateway does."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "lengthwise.proxy.learner"]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe)


def test_the_learner_killed_at_20_moments_publishes_nothing_half(tmp_path, base, learnable):
    """SIGKILL at moments spread over a whole job, then one job to the end."""
    log, models = tmp_path / "log.sqlite3", tmp_path / "models"
    write_log(log, learnable, features_version(base))
    job = json.dumps({"log": str(log), "models": str(models), "model": "m"}).encode() + b"\n"

    def whole_job():
        process = start_learner()
        began = time.monotonic()
        process.stdin.write(job)
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        spent = time.monotonic() - began
        process.stdin.close()
        process.wait(120)
        process.stdout.close()
        return answer, spent

    answer, job_s = whole_job()
    assert answer["version"] == 1
    for k in range(20):
        process = start_learner()
        timer = threading.Timer(job_s * (0.5 + k / 40), process.kill)
        timer.start()
        with contextlib.suppress(BrokenPipeError):  # killed before it could be told
            process.stdin.write(job)
            process.stdin.flush()
        process.wait(600)
        timer.join()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        assert published.load_current(models, "m") is not None
    answer, _ = whole_job()
    assert answer["version"] == published.load_current(models, "m").manifest["version"]


def test_the_learner_ends_with_its_parent(tmp_path):
    """The end of its standard input ends it."""
    process = start_learner()
    process.stdin.close()
    assert process.wait(120) == 0
    process.stdout.close()


def test_a_log_that_cannot_be_read_is_an_answer(tmp_path):
    """The learner says what is wrong and takes the next job."""
    process = start_learner()
    for _ in range(2):
        job = {"log": str(tmp_path / "none"), "models": str(tmp_path), "model": "m"}
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        assert "no such request log" in json.loads(process.stdout.readline())["error"]
    process.stdin.close()
    process.wait(120)
    process.stdout.close()


def test_train_from_a_log_makes_a_model_that_serves(tmp_path, base, learnable):
    """`train --from-log` fits to the log of a bench or a gateway; `serve --predictor` loads it."""
    log, output = tmp_path / "log.sqlite3", tmp_path / "out"
    write_log(log, learnable, features_version(base))
    words = ["--from-log", str(log), "--output", str(output)]
    result = CliRunner().invoke(train.command, words)
    assert result.exit_code == 0, result.output
    model = load_predictor(str(output))
    assert model.manifest["rows"] == 400
    assert model.predict(Prompt.of("a plan")).mean > model.predict(Prompt.of("a fact")).mean
    card = (output / "README.md").read_text()
    assert "The newest 400 answers of `m` in `log.sqlite3`" in card
    assert "| this model |" in card
    assert "prompts again, by their hashes" in card
    assert json.loads((output / "card.json").read_text())["data"]["rows"] == 400
    assert set(model.recall.keys.tolist()) == set(learnable.keys.tolist())


def test_a_log_of_too_few_rows_is_named_with_how_many_it_holds(tmp_path, base, learnable):
    """The fit of a part of them must not make the log look smaller than it is."""
    few = replace(learnable, **{f.name: getattr(learnable, f.name)[:21] for f in fields(learnable)})
    log = tmp_path / "log.sqlite3"
    write_log(log, few, features_version(base))
    words = ["--from-log", str(log), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(train.command, words)
    assert isinstance(result.exception, BadInputError)
    assert f"{log}, 21 rows of m, of which the newest fifth" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from-log", "LOG", "--model", "other"), "other"),
        (("--from-log", "LOG", "--objective", "ranking"), "regression"),
        (("--from-log", "LOG", "--dataset-path", "LOG"), "one of them"),
        ((), "one of them"),
        (("--dataset-path", "LOG", "--model", "m"), "--from-log"),
    ],
)
def test_options_of_train_that_contradict_are_named(tmp_path, base, learnable, words, said):
    """What cannot be meant is refused before any work."""
    log = tmp_path / "log.sqlite3"
    write_log(log, learnable, features_version(base))
    given = [str(log) if w == "LOG" else w for w in words]
    result = CliRunner().invoke(train.command, [*given, "--output", str(tmp_path / "out")])
    assert isinstance(result.exception, ConfigError)
    assert said in str(result.exception)
