"""One row of the request log, from what a host knows of a request that ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from lengthwise.predictors.recall import key_of
from lengthwise.predictors.request_log import LogRow
from lengthwise.predictors.tuned import features

if TYPE_CHECKING:
    from lengthwise.core.prediction import Prediction
    from lengthwise.predictors.base import Prompt
    from lengthwise.predictors.stack import Stack

#: SQLite's integers have 64 bits.
_MOST: Final = 2**63 - 1


def make_row(
    prompt: Prompt | None,
    *,
    base: Stack | None,
    version: int,
    own: Prediction | None,
    with_prompt: bool,
    max_tokens: int | None,
    **known: Any,
) -> LogRow:
    """Make a row; features cost some 60 us, so it belongs into the writer's thread.

    `base` describes the prompt (None, or no prompt: a row without features), and `version` says
    what its features mean; `own` is what the predictor itself said; the prompt's text is in the row
    only with `with_prompt`. A cap that no 64 bits hold is no cap that an answer could meet: none.
    """
    vector = None if base is None or prompt is None else features(prompt, base, None)
    p10, p50, p90 = (None if own is None else own.quantile(q) for q in (0.1, 0.5, 0.9))
    return LogRow(
        features_version=None if vector is None else version,
        features=None if vector is None else vector.astype("<f4").tobytes(),
        p10=p10,
        p50=p50,
        p90=p90,
        mean=None if own is None else own.mean,
        max_tokens=None if max_tokens is None or max_tokens > _MOST else max_tokens,
        prompt_key=None if vector is None or prompt is None else key_of(prompt),
        prompt=_json(prompt) if with_prompt and prompt is not None else None,
        **known,
    )


def _json(prompt: Prompt) -> str:
    messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
    return msgspec.json.encode(messages).decode()
