"""Prompts with answers: ShareGPT's list of conversations, one request a conversation."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lengthwise.errors import BadInputError
from lengthwise.workloads.datasets import list_entries
from lengthwise.workloads.recording import BadRow, Draft

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader

HUMAN, MODEL = ("human", "user"), ("gpt", "chatgpt", "assistant", "bard", "bing")


def fill_sharegpt(
    draft: Draft, stream: BufferedReader[Any], count_tokens: Callable[[str], int]
) -> None:
    """Read the first prompt of each conversation and the answer to it.

    A file that was cut off gives what is whole. Conversations without such a pair are left out,
    and a note counts them, as for prompts alone.
    """
    try:
        text = stream.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{draft.source}: {error}") from None
    draft.timestamp_ms = None
    prompts: list[str] = []
    answers: list[str] = []
    lacking = 0
    for place, entry in enumerate(list_entries(text, draft.source, draft.notes), start=1):
        turns = entry.get("conversations") if isinstance(entry, dict) else None
        if not isinstance(turns, list):
            draft.unreadable.append(BadRow(place, "no list of conversations"))
            continue
        pair = _first_pair(turns)
        if pair is None:
            lacking += 1
            continue
        draft.places.append(place)
        # JSON can spell half a character, which no file can hold.
        prompts.append(pair[0].encode("utf-8", "replace").decode())
        answers.append(pair[1].encode("utf-8", "replace").decode())
        draft.input_length.append(count_tokens(pair[0]))
        draft.output_length.append(count_tokens(pair[1]))
    draft.extend_extra("prompt", prompts, 0)
    draft.extend_extra("answer", answers, 0)
    if lacking:
        draft.notes.append(
            f"{lacking:,} conversations have no prompt with an answer and were left out"
        )
    draft.notes.append("tokens of prompts and answers are estimated from their text")


def _first_pair(turns: list[Any]) -> tuple[str, str] | None:
    """First human turn with text and the model's turn right after it, if both carry text."""
    for turn, after in pairwise(turns):
        if not (isinstance(turn, dict) and turn.get("from") in HUMAN):
            continue
        if not (isinstance(after, dict) and after.get("from") in MODEL):
            return None
        prompt, answer = turn.get("value"), after.get("value")
        if not (isinstance(prompt, str) and isinstance(answer, str)):
            return None
        return (prompt, answer) if prompt.strip() and answer.strip() else None
    return None
