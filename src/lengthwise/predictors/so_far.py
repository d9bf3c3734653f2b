"""Numbers that describe an answer that is being written: how much, and what it looks like."""

from __future__ import annotations

import re
from math import log, log1p
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from lengthwise.core.prediction import Prediction

Array = np.ndarray[Any, np.dtype[Any]]

#: Characters of the text so far that are read: its head says what was promised, its end where it
#: stands.
HEAD_CHARS, TAIL_CHARS = 400, 4000
#: Characters in which lines and fences are counted, so that no text takes long.
COUNTED_CHARS = 100_000
CLOSING_CHARS = 400
_ITEM = re.compile(r"^\s*(?:\*\*)?(\d{1,3})[.):]", re.MULTILINE)
_BULLET = re.compile(r"^\s*[-*\u2022] ", re.MULTILINE)
_NUMBER = re.compile(r"\b(\d{1,2})\b")
_CLOSING = (
    frozenset({"in conclusion", "overall,", "in summary", "to summarize", "in short"}),
    frozenset({"let me know", "i hope", "feel free", "good luck", "happy to help"}),
    frozenset({"finally,", "lastly,", "remember", "ultimately", "in addition"}),
    frozenset({"sincerely", "best regards", "the end", "references"}),
)
NAMES = (
    "log_attained",
    "log_first_p50", "log_first_p90", "log_first_p10",
    "log_rest_mean", "log_rest_p50", "share_alive",
    "chars_per_token", "fence_open", "fences", "lines", "paragraphs", "headings", "bullets",
    "last_item", "promised", "item_share", "ends_line", "ends_sentence", "ends_colon",
    "log_since_line", "log_since_paragraph", "log_mean_paragraph",
    *(f"closing_{i}" for i in range(len(_CLOSING))),
)  # fmt: skip
COUNT = len(NAMES)


def features_so_far(
    first: Prediction, text: str, attained: int, *, chars: int | None = None
) -> Array:
    """Describe an answer of which `attained` (>= 1) tokens are written, shape (COUNT,).

    Of `text` the first `chars` characters are written (None: all); no others are looked at.
    """
    rest = first.remaining(attained)
    size = len(text) if chars is None else chars
    head, tail = text[: min(HEAD_CHARS, size)], text[max(0, size - TAIL_CHARS) : size]
    counted = text[max(0, size - COUNTED_CHARS) : size]
    # Not in the tail alone: a fence that was opened before it would turn open and closed around.
    fences = counted.count("```")
    end = tail.rstrip()
    paragraphs = tail.count("\n\n")
    items = _ITEM.findall(tail)
    item = float(items[-1]) if items else 0.0
    numbers = _NUMBER.findall(head.split("\n", 1)[0])
    promised = float(numbers[-1]) if numbers else 0.0
    closing = tail[-CLOSING_CHARS:].lower()
    return np.array(
        [
            log(attained),
            log(first.quantile(0.5)),
            log(first.quantile(0.9)),
            log(first.quantile(0.1)),
            log(rest.mean),
            log(rest.quantile(0.5)),
            first.p_longer(attained),
            size / attained,
            float(fences % 2),
            float(fences),
            float(counted.count("\n")),
            float(paragraphs),
            float(tail.count("\n#")),
            float(len(_BULLET.findall(tail))),
            item,
            promised,
            item / promised if promised else 0.0,
            1.0 if tail.endswith("\n") else 0.0,
            1.0 if end[-1:] in '.!?)"' and end else 0.0,
            1.0 if end.endswith(":") else 0.0,
            log1p(len(tail) - 1 - tail.rfind("\n")),
            log1p(len(tail) - 1 - tail.rfind("\n\n")),
            log1p(len(tail) / (paragraphs + 1)),
            *(float(any(word in closing for word in words)) for words in _CLOSING),
        ]
    )
