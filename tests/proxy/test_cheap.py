"""Training the cheap tier: it learns what the shipped model cannot know, and how sure it is."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from lengthwise.cli import cli
from lengthwise.errors import ArtifactError, BadInputError, ConfigError
from lengthwise.predictors import load_predictor, tuned_file
from lengthwise.predictors.base import Message, Prompt
from lengthwise.proxy import cheap, ngrams
from lengthwise.proxy.answers import Answer
from lengthwise.proxy.evaluation import evaluate
from lengthwise.proxy.forests import OBJECTIVES
from lengthwise.proxy.isotonic import rising_knots
from tests.proxy.worlds import answers, write

pytest.importorskip("lightgbm", reason="training needs the extra 'learn'")


@pytest.fixture(scope="module")
def model():
    """Train on 700 made-up answers."""
    return cheap.fit(answers(700))


def test_a_few_hundred_rows_teach_words_nobody_knew(model):
    """On new prompts the order is nearly that of the words; the shipped model knows nothing."""
    fresh = answers(400, seed=9)
    learnt, _ = evaluate(model, fresh, resamples=10)
    shipped, _ = evaluate(load_predictor("default"), fresh, resamples=10)
    # Who knows which words are long, and no more, reaches 0.5: half of all pairs are of one kind.
    assert learnt["kendall_tau"] > 0.45
    assert abs(shipped["kendall_tau"]) < 0.2


def test_the_promised_quantiles_hold_on_new_rows():
    """p50 and p90 cover what they say, within what 1,500 rows can tell."""
    found, _ = evaluate(cheap.fit(answers(1500)), answers(1500, seed=4), resamples=5)
    assert found["coverage_p50"] == pytest.approx(0.5, abs=0.08)
    assert found["coverage_p90"] == pytest.approx(0.9, abs=0.035)


def test_the_order_of_rows_does_not_matter_to_what_is_predicted():
    """Shuffled rows give predictions that agree closely; the same rows give the same bytes."""
    rows = answers(300)
    one, same = cheap.fit(rows), cheap.fit(rows)
    shuffled = cheap.fit(random.Random(1).sample(rows, len(rows)))
    prompts = [row.prompt for row in answers(50, seed=2)]
    assert [one.predict(p) for p in prompts] == [same.predict(p) for p in prompts]
    p50 = [[m.predict(p).quantile(0.5) for p in prompts] for m in (one, shuffled)]
    assert np.corrcoef(np.log(p50))[0, 1] > 0.97


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_speaks_tokens(objective):
    """A ranker and a classifier too answer with lengths of the right size, in order."""
    model = cheap.fit(answers(500), objective=objective)
    long = model.predict(Prompt.of("zorgle alpha beta gamma delta")).quantile(0.5)
    short = model.predict(Prompt.of("quax alpha beta gamma delta")).quantile(0.5)
    assert 20 < short < 100 < long < 800


def test_answers_that_were_cut_off_count_as_longer_than_they_are():
    """With a cap at 300 the long words still mean about 400 tokens; believed as they are, 300."""
    rows = answers(800, cap=300)
    model = cheap.fit(rows)
    believed = cheap.fit([type(r)(prompt=r.prompt, output_tokens=r.output_tokens) for r in rows])
    long = Prompt.of("zorgle alpha beta gamma delta")
    assert model.predict(long).quantile(0.9) > 1.15 * believed.predict(long).quantile(0.9)


def test_a_named_model_has_its_own_level():
    """The same words from a chattier model are predicted longer; an unknown one at the middle."""
    rows = answers(300, model="terse")
    rows += [
        type(r)(prompt=Prompt(messages=r.prompt.messages, model="chatty"),
                output_tokens=4 * r.output_tokens) for r in answers(300, seed=5)
    ]  # fmt: skip
    model = cheap.fit(rows)
    said = {
        m: model.predict(Prompt.of("quax alpha", model=m)).mean for m in ("terse", "x", "chatty")
    }
    assert said["terse"] < said["x"] < said["chatty"]
    assert said["chatty"] / said["terse"] == pytest.approx(4, rel=0.3)


def test_a_cap_that_one_model_runs_into_is_not_taken_for_its_level():
    """Two models answer alike, and two thirds of one's answers were cut: the same is expected."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(800):
        tokens, capped = int(np.exp(rng.normal(5, 0.8))), n % 2 == 0
        cut = capped and tokens > 100
        prompt = Prompt.of(f"hi {n}", model="capped" if capped else "free")
        rows.append(
            Answer(prompt=prompt, output_tokens=min(tokens, 100 if cut else 10**6), cut=cut)
        )
    levels = cheap.fit(rows).model_levels
    assert abs(levels["capped"] - levels["free"]) < 0.2


def test_without_text_only_history_counts():
    """The tier that reads no text gives the same answer to all first prompts of one length."""
    model = cheap.fit(answers(300), with_text=False)
    assert model.own is None
    texts = ("zorgle alpha beta", "mipqua alpha beta", "In one word: why?")
    assert len({len(text) for text in texts}) == 1
    assert len({model.predict(Prompt.of(text)) for text in texts}) == 1


@pytest.mark.parametrize(("tier", "told"), [("cheap", True), ("history", False)])
def test_the_card_says_whose_prompts_can_be_recognised(tmp_path, tier, told):
    """Who hands a model on must know that it tells whether a prompt was among its rows."""
    rows, out = tmp_path / "rows.jsonl", tmp_path / "m"
    write(rows, answers(120))
    words = ["train", "--dataset-path", str(rows), "--tier", tier, "--output", str(out)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert ("prompts again, by their hashes" in (out / "README.md").read_text()) == told
    assert (json.loads((out / "card.json").read_text()).get("remembered_prompts", 0) > 0) == told


def test_without_text_what_is_stated_narrows_nothing(tmp_path):
    """Its quantiles were taken without looking at that; in the artifact, too."""
    rng = np.random.default_rng(0)
    rows = [
        Answer(prompt=Prompt.of(f"hi {n % 10}"), output_tokens=int(rng.integers(1, 150)))
        for n in range(300)
    ]
    tuned_file.save(cheap.fit(rows, with_text=False), {}, tmp_path / "m")
    model = load_predictor(str(tmp_path / "m"))
    p90 = [model.predict(row.prompt).quantile(0.9) for row in rows]
    within = np.mean([row.output_tokens <= q for row, q in zip(rows, p90, strict=True)])
    assert 0.86 <= within <= 0.96


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (answers(1), "too few"),
        (answers(60, cap=1), "every answer was cut off"),
        ([type(r)(prompt=r.prompt, output_tokens=7) for r in answers(60)], "nothing to learn"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_said(rows, said):
    """One row, only cut rows, one length: an error, not a model."""
    with pytest.raises(BadInputError, match=said):
        cheap.fit(rows)


def test_an_unknown_objective_is_named():
    """The nearest right name is given."""
    with pytest.raises(ConfigError, match="did you mean 'ranking'"):
        cheap.fit(answers(60), objective="rankin")


def test_the_ridge_by_conjugate_gradients_is_the_ridge():
    """Against the normal equations, solved directly."""
    words = [row.prompt.messages[0].content.split() for row in answers(120)]
    y = np.random.default_rng(0).normal(size=120)
    bags = ngrams.Bags(words)
    line = ngrams.fit(bags, y)
    dense = np.zeros((120, ngrams.BUCKETS))
    dense[bags.of, bags.at] = np.sqrt(line.idf_squared)[bags.at]
    dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
    dual = np.linalg.solve(dense @ dense.T + ngrams.RIDGE * np.eye(120), y)
    assert ngrams.scores(line, bags) == pytest.approx(dense @ (dense.T @ dual), abs=2e-3)
    assert ngrams.scores(line, bags)[7] == pytest.approx(line.score(words[7]))


def test_many_rows_have_words_enough_for_more_buckets():
    """Two words that share a bucket among few rows are told apart among many; folds keep it."""
    few, many = (ngrams.Bags([["zorgle"]] * rows) for rows in (10, ngrams.MANY_ROWS))
    assert (few.buckets, many.buckets) == (ngrams.BUCKETS, ngrams.MANY_BUCKETS)
    fold = many.take(np.arange(100))
    assert len(ngrams.fit(fold, np.ones(100)).weight) == ngrams.MANY_BUCKETS


def test_what_the_conversation_tells_is_not_credited_to_its_words():
    """Words that always come with long answers before weigh little beside those answers."""
    alone = answers(600)
    told = []
    for row in alone:
        (message,) = row.prompt.messages
        before = Message("assistant", "lorem " * row.output_tokens)
        messages = (Message("user", message.content[::-1]), before, message)
        told.append(replace(row, prompt=Prompt(messages=messages)))

    assert weight(alone) > 3
    assert abs(weight(told)) < 0.2 * weight(alone)


def weight(rows):
    """How much longer the line makes a long word's answer, root tokens."""
    own = cheap.fit(rows).own
    return own.score(["zorgle"]) - own.score(["quax"])


def test_among_many_rows_words_are_not_credited_with_what_the_surface_tells(monkeypatch):
    """The longer word stands for longer answers: trees see that, and the line leaves it to them."""
    rows = answers(600)
    among_few = weight(rows)
    monkeypatch.setattr(ngrams, "MANY_ROWS", len(rows))
    assert abs(weight(rows)) < 0.5 * among_few


def test_the_line_is_what_its_artifact_will_hold():
    """Weights are of half precision from the start, also where lengths are absurd."""
    bags = ngrams.Bags([["zorgle", "quax"]] * 100 + [["quax"]] * 100)
    line = ngrams.fit(bags, np.repeat([1e7, -1e7], 100))
    kept = line.weight.astype(np.float16).astype(np.float64)
    assert np.all(np.isfinite(kept))
    assert np.array_equal(kept, line.weight)


def test_a_model_from_before_there_were_powers_adds_logs(model, tmp_path):
    """Without the array its trees add to a log-length; a power that is none is refused."""
    needed, arrays = tuned_file.parts_of(model)
    assert model.power == cheap.POWER
    assert tuned_file.of_parts(needed, arrays, tmp_path, name="new").power == cheap.POWER
    old = {name: array for name, array in arrays.items() if name != "power"}
    assert tuned_file.of_parts(needed, old, tmp_path, name="old").power == 0.0
    for wrong in (np.array([1.5]), np.array([np.nan]), np.array([])):
        with pytest.raises(ArtifactError):
            tuned_file.of_parts(needed, arrays | {"power": wrong}, tmp_path, name="wrong")


def test_a_fitted_forest_is_as_fast_as_a_loaded_one(model):
    """Its arrays lie in one piece each, so that a step down copies none of them."""
    for forest in model.forests:
        for array in (forest.roots, forest.feature, forest.threshold, forest.left, forest.value):
            assert array.flags.c_contiguous


def test_only_a_regression_adds_powers():
    """What a ranker or a quantile says is no mean of lengths, and stays on its own scale."""
    assert cheap.fit(answers(100), objective="ranking").power == 0.0
    assert cheap.fit(answers(100), objective="quantile").power == 0.0


def test_a_rising_line_pools_what_falls():
    """By hand: 1, 3, 2 becomes 1, 2.5, 2.5; ties in the score are one place."""
    at, values = rising_knots(np.array([0.0, 1.0, 2.0, 2.0]), np.array([1.0, 3.0, 2.0, 2.5]))
    assert np.all(np.diff(at) > 0)
    assert values.tolist() == pytest.approx([1.0, 2.5])


def test_train_and_evaluate_as_an_operator_would(tmp_path):
    """Rows to a directory with a card; the directory serves `evaluate` and `predict`."""
    rows, out = tmp_path / "rows.jsonl", tmp_path / "deep" / "proxy"
    write(rows, answers(400))
    run = CliRunner().invoke
    done = run(cli, ["train", "--dataset-path", str(rows), "--output", str(out)])
    assert done.exit_code == 0, done.output
    card = json.loads((out / "card.json").read_text())
    assert card["data"]["rows"] == 400
    assert sum(card["split"][part] for part in ("train", "validation", "test")) == 400
    assert card["metrics"]["kendall_tau"] > 0.4
    assert "Kendall tau" in (out / "README.md").read_text()
    result, plot = tmp_path / "new" / "out.json", tmp_path / "plot.png"
    words = ["evaluate", "--predictor", str(out), "--dataset-path", str(rows), "--split", "test"]
    done = run(cli, [*words, "--save-result", str(result), "--save-plot", str(plot)])
    assert done.exit_code == 0, done.output
    found = json.loads(result.read_text())
    assert found["rows"] == card["split"]["test"]
    assert found["kendall_tau"] == pytest.approx(card["metrics"]["kendall_tau"])
    assert found["model_bytes"] < 2 * 2**20
    assert plot.stat().st_size > 10_000
    again = run(cli, ["train", "--dataset-path", str(rows), "--output", str(out), "--seed", "1"])
    assert again.exit_code == 0
    assert [p.name for p in out.parent.iterdir()] == ["proxy"]


def test_a_directory_that_is_no_model_is_left_alone(tmp_path):
    """Publishing never replaces somebody's files."""
    rows = tmp_path / "rows.jsonl"
    write(rows, answers(50))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    done = CliRunner().invoke(cli, ["train", "--dataset-path", str(rows), "--output", str(mine)])
    assert isinstance(done.exception, ConfigError)
    assert (mine / "thesis.txt").exists()


def test_a_tampered_model_is_refused(model, tmp_path):
    """One flipped byte, a foreign kind: refused by name; whole, it predicts as before."""
    tuned_file.save(model, {}, tmp_path / "m")
    prompt = Prompt.of("zorgle alpha")
    assert load_predictor(str(tmp_path / "m")).predict(prompt) == model.predict(prompt)
    arrays = tmp_path / "m" / "arrays.safetensors"
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(ArtifactError, match="SHA-256"):
        load_predictor(str(tmp_path / "m"))
