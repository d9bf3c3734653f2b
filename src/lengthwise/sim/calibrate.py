"""Fits the cost of one iteration to what was measured: iterations, or a log of requests.

Both are linear in the four numbers of `Cost`. A measured iteration is one row. Of a request only
its decode span is known, first token to last; it is the sum of its iterations' times, so

    span = base_s x its iterations + prefill_s_per_token x prompt tokens that joined in the span
           + decode_s_per_request x tokens decoded by anybody in the span
           + context_s_per_token x their context

with everybody's tokens spread evenly over their own spans. What a request waited for before its
first token is not used: how much of it was queueing cannot be seen from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.errors import BadInputError
from lengthwise.sim.cost import Cost

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Columns of a design and fields of `Cost`, in the same order.
COSTS = ("base_s", "prefill_s_per_token", "decode_s_per_request", "context_s_per_token")
MIN_ROWS = 20
#: Tokens of one iteration, though their times were added up by different ways.
SAME_S = 1e-6
HELD_OUT = 0.2
#: How often the pace of a log's iterations is worked out anew.
ROUNDS = 3
#: Huber's constant: rows further off than so many robust deviations count less.
HUBER = 1.345
#: A number whose standard error is above this share of it is reported as poorly known.
POORLY_KNOWN = 0.5


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fitted costs and how far to trust them.

    Errors are relative, of the held-out rows: R2 of their times, median and 90th percentile of
    |predicted - measured| / measured. `warnings` name what the data do not say.
    """

    cost: Cost
    standard_error: dict[str, float]
    rows: int
    held_out: int
    r2: float
    median_error: float
    p90_error: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Requests:
    """A log of requests: times in seconds on one clock, lengths in tokens."""

    first_token_s: Floats
    finish_s: Floats
    prompt_tokens: Floats
    output_tokens: Floats


def fit_cost(design: Floats, measured_s: Floats, *, seed: int = 0) -> Fit:
    """Fit non-negative costs to rows of (iterations, prefill, decoded, context) and their times.

    Relative errors are minimised, outliers count less (Huber), a fifth of the rows is held out.
    Raises BadInputError for fewer than `MIN_ROWS` rows or times that are not positive.
    """
    rows = len(measured_s)
    _check_enough(rows)
    if not (np.isfinite(measured_s) & (measured_s > 0)).all():
        raise BadInputError("measured times must be finite and positive")
    if not (np.isfinite(design) & (design >= 0)).all():
        raise BadInputError("measured counts must be finite and at least 0")
    order = np.random.default_rng(seed).permutation(rows)
    held, kept = np.split(order, [max(1, round(HELD_OUT * rows))])
    relative = design / measured_s[:, None]
    values, weights = _robust(relative[kept])
    warnings = _unidentified(design[kept])
    errors = _standard_errors(relative[kept], values, weights)
    for name, value, error in zip(COSTS, values, errors, strict=True):
        if value > 0 and error > POORLY_KNOWN * value and not any(name in w for w in warnings):
            warnings.append(f"{name} is poorly known: {value:.3g}, standard error {error:.2g}")
    if values[0] <= 0:
        values[0] = measured_s.min() * 1e-6
        warnings.append("base_s was fitted as 0, which no engine has: a token value is written")
    off = np.abs(relative[held] @ values - 1)
    residual = design[held] @ values - measured_s[held]
    spread = ((measured_s[held] - measured_s[held].mean()) ** 2).sum()
    return Fit(
        cost=Cost(**dict(zip(COSTS, map(float, values), strict=True))),
        standard_error=dict(zip(COSTS, map(float, errors), strict=True)),
        rows=rows,
        held_out=len(held),
        r2=float(1 - (residual**2).sum() / spread) if spread > 0 else float("nan"),
        median_error=float(np.median(off)),
        p90_error=float(np.percentile(off, 90)),
        warnings=tuple(warnings),
    )


def fit_requests(requests: Requests, *, seed: int = 0) -> Fit:
    """Fit costs to the decode spans of a log; see the header. Raises as `fit_cost`.

    At first everybody's tokens are spread evenly over its span in seconds; then, `ROUNDS` times, in
    iterations, whose pace follows from the costs fitted before.
    """
    order = np.argsort(requests.first_token_s, kind="stable")
    first, finish = requests.first_token_s[order], requests.finish_s[order]
    prompt, steps = requests.prompt_tokens[order], requests.output_tokens[order] - 1
    usable = (steps > 0) & (finish - first > SAME_S)
    _check_enough(int(usable.sum()))
    start = first.min(initial=np.inf)
    begin, end = (first - start)[usable], (finish - start)[usable]
    steps, own = steps[usable], prompt[usable]
    prompts = np.concatenate(([0.0], np.cumsum(prompt)))

    def joined_by(t: Floats) -> Floats:
        return prompts[np.searchsorted(first - start, t + SAME_S, side="right")]

    times = np.unique(np.concatenate([begin, end]))
    clock = times
    for _ in range(1 + ROUNDS):
        warped = [np.interp(t, times, clock) for t in (begin, end)]
        spans = _Spans(warped[0], warped[1], steps, own)
        decoded, context = spans.until(warped[1]) - spans.until(warped[0])
        design = np.stack([steps, joined_by(end) - joined_by(begin), decoded, context], axis=1)
        fit = fit_cost(design, end - begin, seed=seed)
        running = np.searchsorted(begin, times[:-1], side="right")
        running = running - np.searchsorted(np.sort(end), times[:-1], side="right")
        tokens, contexts = np.diff(spans.until(clock), axis=1)
        each = np.divide(contexts, tokens, out=np.zeros_like(tokens), where=tokens > 1e-9)
        cost = fit.cost
        per = cost.base_s + running * (cost.decode_s_per_request + cost.context_s_per_token * each)
        decoding = np.diff(times) - cost.prefill_s_per_token * np.diff(joined_by(times))
        paces = np.maximum(decoding, 1e-3 * np.diff(times)) / per
        clock = np.concatenate(([0.0], np.cumsum(paces)))
    return fit


def _check_enough(rows: int) -> None:
    if rows < MIN_ROWS:
        raise BadInputError(f"{rows} usable rows are too few to fit four numbers and check them")


class _Spans:
    """How many tokens all have decoded until t, and the sum of their contexts.

    A request that decodes m of its tokens has read a context of m x prompt + m (m + 1) / 2. With m
    linear in t between its ends, the sums are polynomials whose coefficients change at the ends.
    """

    def __init__(self, begin: Floats, end: Floats, steps: Floats, prompt: Floats) -> None:
        pace = steps / (end - begin)
        # m = pace x (t - begin): (tokens; context) as coefficients of 1, t, t^2.
        m1, m0 = pace, -pace * begin
        tokens = np.stack([m0, m1, np.zeros_like(m0)])
        square = np.stack([m0 * m0, 2 * m0 * m1, m1 * m1])
        growing = np.stack([tokens, (prompt + 0.5) * tokens + square / 2])
        whole = np.zeros_like(growing)
        whole[:, 0] = np.stack([steps, steps * prompt + steps * (steps + 1) / 2])
        times = np.concatenate([begin, end])
        change = np.concatenate([growing, whole - growing], axis=2)
        order = np.argsort(times, kind="stable")
        self.times = times[order]
        sums = np.cumsum(change[:, :, order], axis=2)
        self.coefficients = np.concatenate([np.zeros((2, 3, 1)), sums], axis=2)

    def until(self, t: Floats) -> Floats:
        """Tokens decoded and context read until each t, as two rows."""
        at = self.coefficients[:, :, np.searchsorted(self.times, t, side="right")]
        values: Floats = at[:, 0] + at[:, 1] * t + at[:, 2] * t * t
        return values


def _robust(relative: Floats) -> tuple[Floats, Floats]:
    """Huber's weights by reweighting; the target of every relative row is 1."""
    weights = np.ones(len(relative))
    for _ in range(20):
        values = _non_negative(relative * weights[:, None], weights)
        off = np.abs(relative @ values - 1)
        scale = 1.4826 * np.median(off)
        if scale <= 1e-12:
            break
        weights = np.sqrt(np.minimum(1.0, HUBER * scale / np.maximum(off, 1e-300)))
    return values, weights


def _non_negative(matrix: Floats, target: Floats) -> Floats:
    """Non-negative least squares: of few columns, the best of all supports is the optimum."""
    columns = matrix.shape[1]
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    scaled = matrix / scale
    best, least = np.zeros(columns), float(target @ target)
    for size in range(1, columns + 1):
        for support in combinations(range(columns), size):
            part = scaled[:, support]
            found = np.linalg.lstsq(part, target, rcond=None)[0]
            residual = target - part @ found
            if (found >= 0).all() and residual @ residual < least * (1 - 1e-12):
                best, least = np.zeros(columns), float(residual @ residual)
                best[list(support)] = found
    solution: Floats = best / scale
    return solution


def _standard_errors(relative: Floats, values: Floats, weights: Floats) -> Floats:
    """Ordinary standard errors of the weighted rows, over the numbers that are not 0."""
    errors = np.zeros(len(values))
    support = np.flatnonzero(values > 0)
    part = relative[:, support] * weights[:, None]
    off = (relative @ values - 1) * weights
    variance = off @ off / max(1, len(off) - len(support))
    scale = np.linalg.norm(part, axis=0)
    inverse = np.linalg.pinv((part / scale).T @ (part / scale))
    errors[support] = np.sqrt(np.maximum(variance * np.diag(inverse), 0)) / scale
    return errors


def _unidentified(design: Floats) -> list[str]:
    """Name the numbers that no data of this kind can tell."""
    warnings: list[str] = []
    seen = [column for column in range(4) if design[:, column].any()]
    for column in range(4):
        others = [other for other in seen if other != column]
        if column not in seen:
            warnings.append(
                f"{COSTS[column]} is not identified: its counts are all 0; 0 is written"
            )
        elif others and _explained(design[:, others], design[:, column]) > 1 - 1e-4:
            warnings.append(
                f"{COSTS[column]} is not identified: its counts are a combination of the others', "
                "so only their sum is known (measure at several loads and lengths)"
            )
    return warnings


def _explained(others: Floats, column: Floats) -> float:
    """Share of a column's sum of squares that a combination of the others explains."""
    scaled = others / np.linalg.norm(others, axis=0)
    left = column - scaled @ np.linalg.lstsq(scaled, column, rcond=None)[0]
    return float(1 - (left @ left) / (column @ column))
