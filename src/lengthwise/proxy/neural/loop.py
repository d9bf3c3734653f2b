"""The training loop: the same seed gives the same weights, interrupted and resumed or not."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lengthwise.proxy.neural import checkpoint
from lengthwise.proxy.neural.checkpoint import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lengthwise.proxy.neural.recipe import Recipe

Array = np.ndarray[Any, np.dtype[Any]]

#: Batches are dealt from so many batches' worth of rows of like length: less padding.
WINDOW_BATCHES = 32
CLIP_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What is trained on: token ids a row, labels (rows,), one-hots (rows, models) or None."""

    ids: list[list[int]]
    labels: Array
    models: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Who is told: `step` the steps done so far, `epoch` a line to show after each epoch."""

    step: Callable[[int], None]
    epoch: Callable[[str], None]


def steps_of(recipe: Recipe, rows: int) -> int:
    """Count the steps of a training."""
    return recipe.epochs * -(-rows // recipe.batch_size)


def train(
    model: Any,
    rows: Rows,
    loss_of: Callable[[Any, Any], Any],
    recipe: Recipe,
    *,
    directory: Path,
    fingerprint: str,
    resume: bool,
    watch: Watcher,
) -> list[float]:
    """Fit a model in place; return each epoch's mean loss.

    A checkpoint is kept in `directory` after each epoch and, on SIGINT or SIGTERM, after the
    present step, upon which KeyboardInterrupt is raised; with `resume` it is gone on from.
    """
    model.to(recipe.device).train()
    optimizer = _optimizer(model, recipe)
    place = Place()
    if resume:
        place = checkpoint.load(directory, model, optimizer, fingerprint)
    total = steps_of(recipe, len(rows.ids))
    each = total // recipe.epochs
    with interrupts_held() as is_interrupted:
        for epoch in range(place.epoch, recipe.epochs):
            _freeze(model, recipe, epoch)
            batches = batches_of(rows, recipe, epoch)
            for number in range(place.batch, each):
                _set_rates(optimizer, recipe, epoch, epoch * each + number, total)
                _seed(recipe.seed, epoch * each + number)
                place.spent += _step(
                    model, optimizer, rows, batches[number], loss_of=loss_of, recipe=recipe
                )
                place.batch = number + 1
                watch.step(epoch * each + number + 1)
                if is_interrupted():
                    break
            if place.batch == each:
                place.losses.append(place.spent / each)
                place.epoch, place.batch, place.spent = epoch + 1, 0, 0.0
                watch.epoch(f"epoch {epoch + 1} of {recipe.epochs}: loss {place.losses[-1]:.4f}")
            checkpoint.save(directory, model, optimizer, place, fingerprint)
            if is_interrupted():
                raise KeyboardInterrupt
    return place.losses


def batches_of(rows: Rows, recipe: Recipe, epoch: int) -> list[Array]:
    """Deal the rows of an epoch into batches, rows of like length together, by seed and epoch."""
    rng = np.random.default_rng([recipe.seed, epoch])
    order = rng.permutation(len(rows.ids))
    sizes = np.array([len(ids) for ids in rows.ids])
    window = WINDOW_BATCHES * recipe.batch_size
    batches: list[Array] = []
    for begin in range(0, len(order), window):
        some = order[begin : begin + window]
        some = some[np.argsort(sizes[some], kind="stable")]
        batches += [
            some[at : at + recipe.batch_size] for at in range(0, len(some), recipe.batch_size)
        ]
    return [batches[at] for at in rng.permutation(len(batches))]


def _step(
    model: Any,
    optimizer: Any,
    rows: Rows,
    batch: Array,
    *,
    loss_of: Callable[[Any, Any], Any],
    recipe: Recipe,
) -> float:
    longest = max(len(rows.ids[at]) for at in batch)
    ids = torch.zeros((len(batch), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for line, at in enumerate(batch):
        ids[line, : len(rows.ids[at])] = torch.tensor(rows.ids[at])
        mask[line, : len(rows.ids[at])] = 1
    models = None if rows.models is None else torch.tensor(rows.models[batch]).to(recipe.device)
    label = torch.tensor(rows.labels[batch]).to(recipe.device)
    low = recipe.precision == "bfloat16"
    with torch.autocast(torch.device(recipe.device).type, torch.bfloat16, enabled=low):
        said = model(ids.to(recipe.device), mask.to(recipe.device), models)
    loss = loss_of(said.float(), label)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if recipe.tier != "ssjf":  # the paper does not
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
    return float(loss.item())


def _optimizer(model: Any, recipe: Recipe) -> Any:
    encoder = list(model.encoder.parameters())
    known = {id(one) for one in encoder}
    head = [one for one in model.parameters() if id(one) not in known]
    return torch.optim.AdamW(
        [{"params": encoder}, {"params": head}],
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )


def _freeze(model: Any, recipe: Recipe, epoch: int) -> None:
    """Let the encoder stay as it is, from the recipe's epoch on."""
    frozen = recipe.freeze_after is not None and epoch >= recipe.freeze_after
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(not frozen)


def _set_rates(optimizer: Any, recipe: Recipe, epoch: int, step: int, total: int) -> None:
    rising = max(1.0, recipe.warmup * total)
    share = min((step + 1) / rising, (total - step) / max(1.0, total - rising + 1), 1.0)
    frozen = recipe.freeze_after is not None and epoch >= recipe.freeze_after
    head = recipe.frozen_learning_rate if frozen else recipe.head_learning_rate
    for group, rate in zip(optimizer.param_groups, (recipe.learning_rate, head), strict=True):
        group["lr"] = share * rate


def _seed(seed: int, step: int) -> None:
    """Draw each step's dropout anew, so that a resumed training draws the same."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))


@contextmanager
def interrupts_held() -> Iterator[Callable[[], bool]]:
    """Keep SIGINT and SIGTERM until somebody asks; a second one interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def hold(number: int, frame: Any) -> None:
        if asked.is_set():
            signal.default_int_handler(number, frame)
        asked.set()

    before = {kind: signal.signal(kind, hold) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
