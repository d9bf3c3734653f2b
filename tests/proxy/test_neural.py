"""Fine-tuning encoders: from rows to a served model, interrupted or not, and what is refused."""

from __future__ import annotations

import asyncio
import json
import signal
import threading

import numpy as np
import pytest
from click.testing import CliRunner

from lengthwise.cli import cli
from lengthwise.errors import BadInputError, ConfigError
from lengthwise.predictors import encoder, load_predictor, neural
from lengthwise.predictors.base import Prompt
from lengthwise.proxy.evaluation import evaluate
from lengthwise.proxy.neural.fit import fit
from lengthwise.proxy.neural.recipe import Wishes, recipe_of
from tests.faults.fake_engine import FakeEngine
from tests.gateway.rig import chat, metric, post, serving
from tests.proxy import encoders
from tests.proxy.worlds import answers, write

encoders.needs_torch()

import torch  # noqa: E402  # after the skip

from lengthwise.proxy.neural import checkpoint as checkpoints  # noqa: E402
from lengthwise.proxy.neural.loop import Watcher  # noqa: E402

SILENT = Watcher(step=lambda _: None, epoch=lambda _: None)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Make a tiny encoder."""
    return encoders.make(tmp_path_factory.mktemp("base") / "tiny")


def wishes(base, **more):
    """Choose a training that takes seconds."""
    return Wishes(**{"base_model": str(base), "max_length": 16, "learning_rate": 3e-3} | more)


def fitted(base, where, *, tier="neural", rows=None, watch=SILENT, resume=False, **more):
    """Fit to made-up answers, a quarter of them held out."""
    rows = answers(400) if rows is None else rows
    cut = 3 * len(rows) // 4
    recipe = recipe_of(tier, wishes(base, **more))
    return fit(
        rows[:cut],
        rows[cut:],
        recipe,
        checkpoint=where / "checkpoint",
        fingerprint=recipe.fingerprint(),
        resume=resume,
        watch=watch,
    )


def test_train_evaluate_and_predict_as_an_operator_would(base, tmp_path):
    """Rows to a directory that ranks new prompts, covers what it says, and needs no torch."""
    rows, out, fresh = tmp_path / "rows.jsonl", tmp_path / "proxy", tmp_path / "fresh.jsonl"
    write(rows, answers(900))
    write(fresh, answers(600, seed=5))
    run = CliRunner().invoke
    words = ["train", "--tier", "neural", "--dataset-path", str(rows), "--output", str(out)]
    words += ["--base-model", str(base), "--max-length", "16", "--learning-rate", "3e-3"]
    done = run(cli, words)
    assert done.exit_code == 0, done.output
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["fresh.jsonl", "proxy", "rows.jsonl"]
    card = json.loads((out / "card.json").read_text())
    assert (card["tier"], card["objective"], card["base_model"]) == ("neural", "regression", "tiny")
    assert len(card["training"]["losses"]) == 3
    assert "validation rows calibrated on" in (out / "README.md").read_text()
    result = tmp_path / "out.json"
    words = ["evaluate", "--predictor", str(out), "--dataset-path", str(fresh)]
    done = run(cli, [*words, "--save-result", str(result)])
    assert done.exit_code == 0, done.output
    found = json.loads(result.read_text())
    assert found["kendall_tau"] > 0.45
    assert found["coverage_p90"] == pytest.approx(0.9, abs=0.06)
    done = run(cli, ["predict", "--predictor", str(out)], input='{"prompt": "zorgle"}\n')
    assert json.loads(done.output)["p50"] > 100


def test_a_saved_model_says_what_the_fitted_one_said(base, tmp_path):
    """Written, loaded, asked for a model that nobody named: the same distribution."""
    model, files, losses = fitted(base, tmp_path)
    neural.save(model, {}, files, tmp_path / "m")
    again = load_predictor(str(tmp_path / "m"))
    prompt = Prompt.of("zorgle alpha beta", model="never-seen")
    assert again.predict(prompt).lengths == pytest.approx(model.predict(prompt).lengths)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [4, 10, 25])
def test_an_interrupted_training_goes_on_to_the_same_model(base, tmp_path, kind, at):
    """In an epoch, at its end, in the last: a checkpoint, nothing else, and the same bytes."""
    whole = fitted(base, tmp_path / "whole")

    def strike(step):
        if step == at:
            signal.raise_signal(kind)

    (tmp_path / "cut").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fitted(base, tmp_path / "cut", watch=Watcher(step=strike, epoch=lambda _: None))
    assert [p.name for p in (tmp_path / "cut").iterdir()] == ["checkpoint"]
    resumed = fitted(base, tmp_path / "cut", resume=True)
    assert resumed.losses == whole.losses
    assert resumed.files == whole.files
    assert resumed.model.weights.tolist() == whole.model.weights.tolist()


def test_the_interrupted_command_says_how_to_go_on(base, tmp_path, monkeypatch):
    """No output is left; the same command is refused, and with --resume it finishes."""
    rows, out = tmp_path / "rows.jsonl", tmp_path / "proxy"
    write(rows, answers(400))
    words = ["train", "--tier", "neural", "--dataset-path", str(rows), "--output", str(out)]
    words += ["--base-model", str(base), "--max-length", "16", "--epochs", "2"]
    kept = checkpoints.save

    def strike(*given):
        kept(*given)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(checkpoints, "save", strike)
    done = CliRunner().invoke(cli, words)
    monkeypatch.undo()
    assert done.exit_code == 1
    assert "--resume goes on" in done.output
    assert not out.exists()
    done = CliRunner().invoke(cli, words)
    assert isinstance(done.exception, ConfigError)
    assert "--resume" in str(done.exception)
    done = CliRunner().invoke(cli, [*words, "--batch-size", "16", "--resume"])
    assert "other rows or options" in str(done.exception)
    done = CliRunner().invoke(cli, [*words, "--resume"])
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["proxy", "rows.jsonl"]


@pytest.mark.parametrize(
    ("tier", "objective"),
    [
        *(("neural", one) for one in ("classes", "ordinal", "ranking", "pairwise", "quantile")),
        *(("ssjf", one) for one in ("regression", "classes", "ordinal", "quantile")),
    ],
)
def test_every_objective_speaks_tokens(base, tmp_path, tier, objective):
    """Whatever the encoder is asked for, short and long words mean their tens and hundreds."""
    model = fitted(base, tmp_path, tier=tier, objective=objective).model
    long = model.predict(Prompt.of("zorgle alpha beta gamma delta")).quantile(0.5)
    short = model.predict(Prompt.of("quax alpha beta gamma delta")).quantile(0.5)
    assert 20 < short < 100 < long < 800


def test_ssjf_s_proxy_is_told_the_model(base, tmp_path):
    """Same words, two models, one four times as chatty; an unknown one lies between."""
    rows = answers(300, model="terse")
    rows += [
        type(r)(
            prompt=Prompt(messages=r.prompt.messages, model="chatty"),
            output_tokens=4 * r.output_tokens,
        )
        for r in answers(300, seed=5)
    ]
    rows = [row for pair in zip(rows[:300], rows[300:], strict=True) for row in pair]
    model = fitted(base, tmp_path, tier="ssjf", objective="regression", rows=rows).model
    assert model.encoder.models == ("chatty", "terse")
    said = {
        m: model.predict(Prompt.of("quax alpha", model=m)).mean for m in ("terse", "x", "chatty")
    }
    assert said["terse"] < said["x"] < said["chatty"]


def test_ssjf_s_encoder_stands_still_after_the_third_epoch(base, tmp_path):
    """Its weights at the end are those of the end of epoch three; the head's are not."""
    from safetensors.torch import load_file

    states = []

    def step(number):  # in the first step of an epoch the checkpoint is of the one before
        if number % 19 == 1 and number > 1:
            states.append(load_file(tmp_path / "checkpoint" / "state.safetensors"))

    fitted(base, tmp_path, tier="ssjf", watch=Watcher(step=step, epoch=lambda _: None))
    third, last = states[2], states[-1]
    encoders_alike = [
        torch.equal(third[name], last[name]) for name in third if name.startswith("model.encoder.")
    ]
    assert all(encoders_alike)
    assert not torch.equal(third["model.fc2.weight"], last["model.fc2.weight"])


def test_ssjf_s_head_is_the_paper_s():
    """[CLS] to 128, the one-hot joins, 128, one output or five."""
    from types import SimpleNamespace

    from lengthwise.proxy.neural.heads import PaperHead

    states = torch.randn(3, 5, 8)
    encoder_of_8 = torch.nn.Module()
    encoder_of_8.config = SimpleNamespace(hidden_size=8)
    encoder_of_8.forward = lambda **_: SimpleNamespace(last_hidden_state=states)
    head = PaperHead(encoder_of_8, outputs=5, models=4)
    hot = torch.eye(4)[:3]
    ones = torch.ones(3, 5)
    by_hand = torch.relu(states[:, 0] @ head.cls.weight.T + head.cls.bias)
    by_hand = torch.relu(torch.cat((by_hand, hot), 1) @ head.fc1.weight.T + head.fc1.bias)
    by_hand = by_hand @ head.fc2.weight.T + head.fc2.bias
    assert torch.allclose(head(ones, ones, hot), by_hand, atol=1e-6)
    assert [tuple(one.weight.shape) for one in (head.cls, head.fc1, head.fc2)] == [
        (128, 8), (128, 132), (5, 128),
    ]  # fmt: skip


def test_the_losses_by_hand():
    """RankNet over the one pair that differs; ListMLE of two rows."""
    from lengthwise.proxy.neural.losses import listwise, pairwise

    said, label = torch.tensor([1.0, 0.0, 5.0]), torch.tensor([2.0, 1.0, 2.0])
    expected = (np.log1p(np.exp(-1.0)) + np.log1p(np.exp(-5.0))) / 2
    assert float(pairwise(said, label)) == pytest.approx(expected)
    order = torch.tensor([2.0, 1.0])
    assert float(listwise(torch.tensor([1.0, 0.0]), order)) == pytest.approx(
        np.log1p(np.exp(-1.0)) / 2
    )


def test_the_graph_says_what_torch_said(base):
    """The exported graph agrees with the model at every length; int8 nearly."""
    from lengthwise.proxy.neural import bases, export
    from lengthwise.proxy.neural.aims import Aim
    from lengthwise.proxy.neural.heads import MeanHead, Scored

    found, tokenizer = bases.load(str(base), max_length=16)
    aim = Aim(labels=np.zeros(1), scale=2.0, shift=5.0)
    model = MeanHead(found, outputs=1, models=0)
    window = encoder.Window(max_tokens=16, head_tokens=12)
    for quantised, near in ((False, 1e-5), (True, 0.1)):
        graph = export.graph_of(model, aim, models=0, quantised=quantised)
        files = {encoder.GRAPH: graph, encoder.TOKENIZER: tokenizer.to_str().encode()}
        runs = encoder.of_files(files, window, directory="test", name="test")
        for text in ("", "zorgle", "alpha beta gamma", "alpha " * 50):
            ids = torch.tensor([window.ids_of(tokenizer, Prompt.of(text))])
            with torch.no_grad():
                said = float(Scored(model, aim).eval()(ids, torch.ones_like(ids)))
            assert runs.score(Prompt.of(text)) == pytest.approx(said, abs=near)


def test_answers_that_were_cut_off_count_as_longer_than_they_are(base, tmp_path):
    """With a cap at 300 the p90 of the long words lies beyond it."""
    model = fitted(base, tmp_path, rows=answers(500, cap=300)).model
    long = model.predict(Prompt.of("zorgle alpha beta gamma delta"))
    assert long.quantile(0.9) > 330
    found, _ = evaluate(model, answers(300, seed=3), resamples=5)
    assert found["kendall_tau"] > 0.45


def test_a_base_model_that_cannot_be_had_is_named(base, tmp_path):
    """A directory without a model, and one that reads fewer tokens than asked for."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"--base-model .*empty: cannot be loaded"):
        fitted(tmp_path / "empty", tmp_path)
    with pytest.raises(ConfigError, match="reads at most 64 tokens"):
        fitted(base, tmp_path, max_length=128)


def test_too_few_rows_are_sent_to_the_cheap_tier(base, tmp_path):
    """An encoder is not moved by fifty rows."""
    with pytest.raises(BadInputError, match="--tier cheap needs fewer"):
        fitted(base, tmp_path, rows=answers(60))


class Watched:
    """A predictor that notes on which threads it was asked."""

    name = "watched"

    def __init__(self, predictor):
        self.predictor = predictor
        self.threads = set()

    def predict(self, prompt):
        """Pass on."""
        self.threads.add(threading.current_thread().name)
        return self.predictor.predict(prompt)


async def test_the_gateway_asks_the_encoder_beside_the_event_loop(base, tmp_path):
    """Forty requests at once, for models it never saw: all predicted, on the predictor's thread."""
    watched = Watched(fitted(base, tmp_path).model)
    async with FakeEngine(slots=8) as engine:
        async with serving(engine, predictor=watched, prediction_deadline_s=20.0) as gateway:
            asked = [post(gateway, chat(f"zorgle {n}")) for n in range(40)]
            assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
            for reason in ("timeout", "error", "invalid"):
                assert metric(gateway, "prediction_fallback_total", reason=reason) == 0
    assert watched.threads == {"predictor"}
