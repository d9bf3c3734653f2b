"""Losses of one batch: outputs (rows, outputs) against labels (rows,)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from lengthwise.proxy.neural.aims import Aim
    from lengthwise.proxy.neural.recipe import Recipe

#: Lengths nearer than this, in standard deviations of the log, say nothing of an order.
MARGIN = 0.05


def loss_of(recipe: Recipe, aim: Aim) -> Callable[[Any, Any], Any]:
    """Choose the loss of an objective."""
    if recipe.objective == "classes":
        weights = torch.tensor(aim.class_weights, dtype=torch.float32, device=recipe.device)
        return lambda said, label: functional.cross_entropy(said, label, weight=weights)
    if recipe.objective == "quantile":  # of one half: the absolute error (SSJF's L1)
        return lambda said, label: functional.l1_loss(said[:, 0], label)
    if recipe.objective == "pairwise":
        return lambda said, label: pairwise(said[:, 0], label)
    if recipe.objective == "ranking":
        return lambda said, label: listwise(said[:, 0], label)
    if recipe.tier == "neural" and recipe.objective == "regression":
        return lambda said, label: (
            functional.mse_loss(said[:, 0], label) + pairwise(said[:, 0], label)
        )
    return lambda said, label: functional.mse_loss(said[:, 0], label)


def pairwise(said: Any, label: Any) -> Any:
    """Logistic loss over the pairs of a batch that differ in length (RankNet, Burges 2005)."""
    longer = label[:, None] - label[None, :] > MARGIN
    ahead = said[:, None] - said[None, :]
    return (functional.softplus(-ahead) * longer).sum() / longer.sum().clamp(min=1)


def listwise(said: Any, label: Any) -> Any:
    """Negative log-likelihood of the order, longest first (ListMLE, Xia 2008), a row."""
    ordered = said[torch.argsort(label, descending=True, stable=True)]
    behind = torch.logcumsumexp(ordered.flip(0), dim=0).flip(0)
    return (behind - ordered).mean()
