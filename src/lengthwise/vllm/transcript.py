"""From token ids back to a conversation: all that vLLM's scheduler is given of a prompt.

The chat template has been applied in front of it. Its marks are special tokens, which cut the ids
into pieces; a piece that is, or begins with, the name of a role says who speaks (ChatML, Llama 3,
Gemma, Phi). What names no role counts as the user's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lengthwise.predictors.base import Message, Prompt

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

ROLES = {"system": "system", "user": "user", "assistant": "assistant", "model": "assistant"}
#: Predictors read the head and the tail of a text; the middle of a very long one is left out.
END_TOKENS = 4096


class Transcript:
    """Reads prompts of one tokenizer: anything with `decode` and `all_special_ids`."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special: Collection[int] = frozenset(tokenizer.all_special_ids)

    def read(self, ids: Sequence[int], *, model: str = "", max_tokens: int | None = None) -> Prompt:
        """Return the conversation; of one user message where no role is marked."""
        if len(ids) > 2 * END_TOKENS:
            ids = [*ids[:END_TOKENS], *ids[-END_TOKENS:]]
        messages: list[Message] = []
        role = "user"
        for piece in self._pieces(ids):
            text = self.tokenizer.decode(piece)
            first, _, rest = text.lstrip().partition("\n")
            if first.strip() in ROLES:
                role, text = ROLES[first.strip()], rest
            if text.strip():
                messages.append(Message(role, text.strip()))
                role = "user"
        return Prompt(messages=tuple(messages), model=model, max_tokens=max_tokens)

    def _pieces(self, ids: Sequence[int]) -> list[list[int]]:
        pieces: list[list[int]] = [[]]
        for token in ids:
            if token in self.special:
                pieces.append([])
            else:
                pieces[-1].append(token)
        return [piece for piece in pieces if piece]
