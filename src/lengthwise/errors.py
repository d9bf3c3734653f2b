"""One tree of errors: ours, the client's and the engine's are told apart by class.

LengthwiseError
├── ConfigError            the operator's: an option, a file, an absent extra     (exit 2)
│   ├── MissingExtraError  an optional dependency is not installed
│   ├── ArtifactError      a model artifact is absent, foreign or tampered with
│   └── NotFittedError     a proxy was asked before it was trained
├── BadInputError          the data's: a row or a file that cannot be read        (exit 2)
├── RequestError           the client's or the queue's, answered over HTTP        (status, code)
└── IllegalEventError      ours: an event that the scheduler's table does not know
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class LengthwiseError(Exception):
    """Everything this project raises on purpose."""


class ConfigError(LengthwiseError):
    """The operator asked for something that does not exist or is out of range."""

    @classmethod
    def unknown(cls, what: str, value: str, allowed: Iterable[str]) -> ConfigError:
        """Name the wrong value, the nearest right one and all that are allowed."""
        names = sorted(allowed)
        near = difflib.get_close_matches(value, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return cls(f"unknown {what} {value!r}{hint} (allowed: {', '.join(names)})")


class MissingExtraError(ConfigError):
    """A feature needs an optional dependency; the message is the command that installs it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra: pip install 'lengthwise[{extra}]'")
        self.extra = extra


class ArtifactError(ConfigError):
    """A model artifact is absent, of a foreign format, or does not match its manifest."""


class NotFittedError(ConfigError):
    """A proxy was asked to predict, or to be saved, before `fit`."""


class BadInputError(LengthwiseError):
    """A row or file that cannot be used; the message names file, line and reason."""


class RequestError(LengthwiseError):
    """One request cannot be served; carries what the HTTP answer needs."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (429, 503, 504)


class IllegalEventError(LengthwiseError):
    """The host sent the scheduler an event that its table does not allow: a bug in the host."""
