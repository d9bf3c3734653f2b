"""How an encoder is fine-tuned: what can be chosen, the defaults of each tier, what is allowed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any, Literal

from lengthwise.errors import ConfigError
from lengthwise.predictors.encoder import MAX_TOKENS, MIN_TOKENS, Window

Tier = Literal["neural", "ssjf"]
Precision = Literal["float32", "bfloat16"]

#: Name of the base model that a package brings, so that no network is needed.
MINILM = "minilm"
OBJECTIVES: dict[Tier, tuple[str, ...]] = {
    "neural": ("regression", "classes", "ordinal", "ranking", "pairwise", "quantile"),
    "ssjf": ("regression", "classes", "ordinal", "quantile"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole fine-tuning run, but for its rows.

    `head_learning_rate` holds for what stands on the encoder, `frozen_learning_rate` for it after
    epoch `freeze_after`, from which on the encoder stays as it is. `warmup`: share of the steps in
    which rates rise; they then fall in a line to 0.
    """

    tier: Tier
    objective: str
    epochs: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    max_length: int
    head_tokens: int
    base_model: str = MINILM
    multi_round: bool = False
    freeze_after: int | None = None
    frozen_learning_rate: float = 1e-4
    warmup: float = 0.0
    weight_decay: float = 0.01
    precision: Precision = "float32"
    device: str = "cpu"
    seed: int = 0

    @property
    def window(self) -> Window:
        """What is read of a request."""
        return Window(
            max_tokens=self.max_length,
            head_tokens=self.head_tokens,
            multi_round=self.multi_round,
        )

    def fingerprint(self, *parts: object) -> str:
        """Name this run on these rows: what went on from another one's checkpoint is no run."""
        said = json.dumps([asdict(self), *(str(part) for part in parts)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the operator chose; None leaves it to the tier."""

    objective: str | None = None
    base_model: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    max_length: int | None = None
    head_tokens: int | None = None
    multi_round: bool | None = None
    precision: Precision | None = None
    device: str | None = None

    def given(self) -> list[str]:
        """Name what was chosen."""
        return [one.name for one in fields(self) if getattr(self, one.name) is not None]


def recipe_of(tier: Tier, wishes: Wishes, *, seed: int = 0) -> Recipe:
    """Fill in what was left open, and check. Raises ConfigError naming value and range.

    ssjf's defaults are the paper's (arXiv 2404.08509, as released): 6 epochs in batches of 16 at
    1e-5, the encoder frozen after epoch 3, the last 512 tokens. Its released code means 1e-4 from
    then on, but its schedule puts 1e-5 back after one step; here it is what the paper says.
    """
    chosen = {name: getattr(wishes, name) for name in wishes.given()}
    defaults: dict[str, Any]
    if tier == "ssjf":
        defaults = {
            "objective": "classes",
            "epochs": 6,
            "batch_size": 16,
            "learning_rate": 1e-5,
            "max_length": 512,
            "freeze_after": 3,
        }
    else:
        defaults = {
            "objective": "regression",
            "epochs": 3,
            "batch_size": 32,
            "learning_rate": 1e-4,
            "max_length": 128,
            "warmup": 0.1,
        }
    whole = {**defaults, **chosen}
    most, rate = int(whole["max_length"]), float(whole["learning_rate"])
    whole.setdefault("head_tokens", 1 if tier == "ssjf" else max(1, 3 * most // 4))
    whole["head_learning_rate"] = rate if tier == "ssjf" else 10 * rate
    found = Recipe(tier=tier, seed=seed, **whole)
    _check(found)
    return found


def _check(recipe: Recipe) -> None:
    allowed = OBJECTIVES[recipe.tier]
    if recipe.objective not in allowed:
        raise ConfigError.unknown(f"objective of tier {recipe.tier}", recipe.objective, allowed)
    for name, low, high in (
        ("epochs", 1, 1000),
        ("batch_size", 2, 4096),
        ("max_length", MIN_TOKENS, MAX_TOKENS),
        ("head_tokens", 1, recipe.max_length),
    ):
        value = getattr(recipe, name)
        if not low <= value <= high:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} {value} is not {low} to {high}")
    if not (isfinite(recipe.learning_rate) and 0 < recipe.learning_rate <= 1):
        raise ConfigError(f"--learning-rate {recipe.learning_rate} is not above 0 and at most 1")
