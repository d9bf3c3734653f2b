"""What a scheduler inside transformers is made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lengthwise.vllm.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a scheduler is made with. `tokenizer` is called on the predictor's thread."""

    settings: Settings
    tokenizer: Callable[[], Any]
    given: Mapping[str, float | Sequence[float]]
    cap_tokens: int | None
    model: str
