"""An interrupted training as data: weights and moments in safetensors, the rest in JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from lengthwise.errors import ArtifactError, ConfigError
from lengthwise.proxy.publish import published

if TYPE_CHECKING:
    from pathlib import Path

    import torch

STATE, TENSORS = "state.json", "state.safetensors"


@dataclass(kw_only=True)
class Place:
    """Where a training stands: the next epoch and batch, and the mean loss of each whole epoch.

    `spent`: loss summed over the batches of the present epoch.
    """

    epoch: int = 0
    batch: int = 0
    spent: float = 0.0
    losses: list[float] = field(default_factory=list)


def save(directory: Path, model: Any, optimizer: Any, place: Place, fingerprint: str) -> None:
    """Write a checkpoint, whole or not at all, in place of the one before."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in moments.items()}
    with published(directory) as partial:
        # One buffer may stand under two names (tied weights): safetensors wants each its own.
        save_file({n: t.detach().cpu().clone() for n, t in tensors.items()}, partial / TENSORS)
        state = {"fingerprint": fingerprint, **vars(place)}
        (partial / STATE).write_text(json.dumps(state) + "\n", "utf-8")


def load(directory: Path, model: Any, optimizer: Any, fingerprint: str) -> Place:
    """Put model and optimizer where the checkpoint stands; return that.

    Raises ConfigError if it is of another training, ArtifactError if it cannot be read.
    """
    try:
        state = json.loads((directory / STATE).read_text("utf-8"))
        if state.pop("fingerprint") != fingerprint:
            raise ConfigError(
                f"{directory} is of a training with other rows or options: give those again, or "
                "remove it to begin anew"
            )
        place = Place(**state)
        tensors = load_file(directory / TENSORS)
        weights = {n[6:]: t for n, t in tensors.items() if n.startswith("model.")}
        model.load_state_dict(weights)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ArtifactError(f"{directory}: not a checkpoint ({str(error)[:200]})") from None
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, kind = name.split(".")
            moments.setdefault(int(number), {})[kind] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return place
