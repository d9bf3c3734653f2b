"""Counts what an engine writes, without parsing it: tokens so far, usage, how it ended.

Works on the bytes that pass by. A string value of the answer cannot fake a match, since JSON
escapes the quotes inside it.
"""

from __future__ import annotations

import re

_DELTA = re.compile(rb'"(?:content|text|reasoning_content|reasoning|arguments)":\s?"(?!")')
_COMPLETION_TOKENS = re.compile(rb'"completion_tokens":\s*(\d{1,9})')
_PROMPT_TOKENS = re.compile(rb'"prompt_tokens":\s*(\d{1,9})')
# llama.cpp sends this at the end of every stream, asked for or not. It is of one answer, and so is
# its usage where several were asked for; the usage of others is of all answers together.
_PREDICTED_N = re.compile(rb'"predicted_n":\s*(\d{1,9})')
_MS_PER_TOKEN = re.compile(rb'"predicted_per_token_ms":\s*(\d{1,9}(?:\.\d{1,12})?)')
_CUT = re.compile(rb'"finish_reason":\s*"length"')
_ENDED = re.compile(rb'"finish_reason":\s*"|^data:\s*\[DONE\]', re.MULTILINE)
# An error in the middle of a stream, as vLLM (both spellings), SGLang, llama.cpp and TGI write it,
# or in place of an answer; at the beginning of a line, where no text of the model can stand.
_FAILED = re.compile(
    rb'^(?:data:\s*)?\{\s*"(?:error"\s*:\s*(?:\{|"[^"])|object"\s*:\s*"error")|^error:|^event:\s*error',
    re.MULTILINE,
)
_MAX_EVENT_BYTES = 1 << 20


class Tally:
    """What a request's answers have come to. Lengths are tokens; usage, where sent, beats counting.

    `answers` is how many were asked for; all lengths are of all of them together.

    `ended` is set where the engine said so, `failed` where it wrote an error instead of the rest.
    """

    __slots__ = (
        "_each", "_pending", "answers", "cut", "deltas", "ended", "failed", "prompt_tokens",
        "s_per_token", "usage",
    )  # fmt: skip

    def __init__(self, answers: int = 1) -> None:
        self.answers = answers
        self._each: list[int] = []
        self.deltas = 0
        self.cut = False
        self.ended = False
        self.failed = False
        self.usage: int | None = None
        self.prompt_tokens: int | None = None
        self.s_per_token: float | None = None
        self._pending = b""

    @property
    def output_tokens(self) -> int:
        """Output so far: the engine's own count if it gave one, else the content deltas."""
        return self.usage if self.usage is not None else self.deltas

    def feed(self, chunk: bytes) -> int:
        """Take in a piece of a stream and return how many content deltas it completed."""
        pending = self._pending + chunk
        end = pending.rfind(b"\n")
        if end < 0:
            self._pending = pending if len(pending) <= _MAX_EVENT_BYTES else b""
            return 0
        whole, self._pending = pending[: end + 1], pending[end + 1 :]
        new = len(_DELTA.findall(whole))
        self.deltas += new
        if b'"usage"' in whole or b'"timings"' in whole or b'"length"' in whole:
            self._read_end(whole)
        if not self.ended and _ENDED.search(whole):
            self.ended = True
        if b"error" in whole and _FAILED.search(whole):
            self.failed = True
        return new

    def close(self) -> None:
        """Take in what stands after the last line end: the stream is over."""
        self.feed(b"\n")

    def read_answer(self, body: bytes) -> None:
        """Take in a whole answer that was not streamed."""
        self._read_end(body)
        self.failed = _FAILED.match(body.lstrip()) is not None

    def _read_end(self, text: bytes) -> None:
        if found := _PREDICTED_N.findall(text):
            # With `timings_per_token` it stands in every event, and counts up.
            lasts = [
                line for line in text.split(b"\n") if b'"usage"' in line or _ENDED.search(line)
            ]
            self._each += map(int, _PREDICTED_N.findall(b"\n".join(lasts)))
            each = sum(self._each) / len(self._each) if self._each else int(found[-1])
            self.usage = round(each * self.answers)
        elif found := _COMPLETION_TOKENS.findall(text):
            self.usage = int(found[-1])
        if found := _PROMPT_TOKENS.findall(text):
            self.prompt_tokens = int(found[-1])
        if found := _MS_PER_TOKEN.findall(text):
            self.s_per_token = float(found[-1]) / 1000
        if _CUT.search(text):
            self.cut = True
