"""The scale that trees add up on: a power of the length (Box and Cox 1964), 0 being its logarithm.

A regression of the logarithm spends itself on telling two tokens from six, which no queue notices,
and a regression of tokens on the few longest. The square root lies between: its errors matter about
as much as the time that they cost.
"""

from __future__ import annotations

from math import expm1, log1p


def raised(log_tokens: float, power: float) -> float:
    """Put a log-length on the scale: (tokens^power - 1) / power, itself for power 0."""
    return expm1(power * log_tokens) / power if power else log_tokens


def logged(score: float, power: float) -> float:
    """Take a score of the scale back to a log-length.

    Below one token, where trees that add may lead and powers end, it goes on as a straight line:
    what differs in score differs in length.
    """
    return log1p(power * score) / power if power and score > 0 else score
