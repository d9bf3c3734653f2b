"""Who must keep the predictors' contract: every name that reads prompts, and every tier, trained.

Found through the registries, so that whoever is added there is held to it. A tier whose extra is
absent is skipped by its name.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from lengthwise.predictors import load_predictor
from lengthwise.predictors.names import NAMED, Told
from lengthwise.proxy.neural.recipe import Wishes
from lengthwise.proxy.tiers import TIERS, fit_tier
from lengthwise.proxy.train_command import run_training
from lengthwise.proxy.training import TrainOptions
from tests.proxy import encoders
from tests.proxy.worlds import answers, with_text, write

NAMES = tuple(
    named.name if not named.parameter else f"{named.name}:default"
    for named in NAMED
    if named.told is Told.PROMPT
)
ROWS = 240
#: Tiers that are fitted in one go; tests/proxy/test_neural.py has the fits of the fine-tuned ones.
FITTED_AT_ONCE = [name for name, tier in TIERS.items() if not tier.is_fine_tuned]
_ROOT = Path(tempfile.mkdtemp(prefix="lengthwise-conformance-"))
atexit.register(shutil.rmtree, _ROOT, ignore_errors=True)


def rows(count=ROWS, **options):
    """Rows that any tier can be trained on: with the text of answers, of two models."""
    half = count // 2
    found = answers(half, model="terse", **options) + answers(count - half, model="chatty", seed=7)
    return with_text(found)


@cache
def fitted(tier_name):
    """Fit a tier once, for all who look at it. Skips, by its name, where its extra is absent."""
    tier = TIERS[tier_name]
    if not tier.is_installed:
        pytest.skip(f"tier {tier.name} is trained with the extra {tier.extra!r}")
    return fit_tier(tier, rows())


@cache
def saved(tier_name):
    """Directory of a fitted tier's artifact; to be copied before it is changed."""
    directory = _ROOT / tier_name
    if TIERS[tier_name].is_fine_tuned:
        fine_tune(tier_name, directory)
    else:
        TIERS[tier_name].save(fitted(tier_name), {"tier": tier_name}, directory)
    return directory


def fine_tune(tier_name, directory):
    """Fine-tune a tiny encoder as `lengthwise train` does. Skips where torch is absent."""
    encoders.needs_torch()
    base = _ROOT / "tiny"
    if not base.exists():
        encoders.make(base)
    path = _ROOT / "rows.jsonl"
    write(path, rows(400))
    wishes = Wishes(base_model=str(base), max_length=16, epochs=1)
    run_training(TrainOptions(dataset_path=path, output=directory, tier=tier_name, wishes=wishes))


def subject(which):
    """Load a named predictor, or a trained one (`tier:NAME`) from its artifact; anew each time."""
    kind, _, name = which.partition(":")
    return load_predictor(str(saved(name)) if kind == "tier" else which)


SUBJECTS = (*NAMES, *(f"tier:{name}" for name in TIERS))
