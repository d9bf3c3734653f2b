"""What a published system is made of, as one declaration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lengthwise.core.policy import Policy


@dataclass(frozen=True, kw_only=True)
class System:
    """A composition of predictor and order, with its source and what is not modelled.

    `policy` builds the order from `parameters`. `reads_length`: whether the order depends on a
    prediction at all. `needs`: what each request must carry for the order to mean anything.
    """

    name: str
    summary: str
    source: str
    policy: Callable[..., Policy]
    reads_length: bool = True
    needs: tuple[str, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)
    not_modelled: str = "-"

    def build(self) -> Policy:
        """Make the policy with the declared parameters."""
        return self.policy(**self.parameters)

    def tuned(self, name: str, settings: Sequence[str]) -> System:
        """Return it under that name with `PARAMETER=VALUE`s of the operator's own.

        Raises ConfigError for a parameter that it does not declare or a value that it refuses.
        """
        own: dict[str, float] = {}
        for setting in settings:
            parameter, _, value = setting.partition("=")
            if parameter not in self.parameters:
                allowed = self.parameters or ("none",)
                raise ConfigError.unknown(f"parameter of {self.name}", parameter, allowed)
            if parameter in own:
                raise ConfigError(f"{name}: {parameter} is given twice")
            own[parameter] = _like(self.parameters[parameter], f"{name}: {parameter}", value)
        system = replace(self, name=name, parameters={**self.parameters, **own})
        try:
            system.build()
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{name}: {error}") from None
        return system


def _like(declared: float, what: str, value: str) -> float:
    """Read a value of the declared one's kind: a switch, a whole number or a number."""
    if isinstance(declared, bool):
        if value.lower() not in ("true", "false"):
            raise ConfigError(f"{what} must be true or false, not {value!r}")
        return value.lower() == "true"
    kind = int if isinstance(declared, int) else float
    try:
        return kind(value)
    except ValueError:
        words = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{what} must be {words}, not {value!r}") from None
