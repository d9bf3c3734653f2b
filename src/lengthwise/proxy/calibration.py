"""From scores to lengths and to how sure they are, by rows that the fit had not seen."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.predictors import targets
from lengthwise.predictors.stack import atom_shares
from lengthwise.predictors.tuned import scale_of
from lengthwise.proxy.isotonic import rising_knots

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, np.dtype[Any]]

ATOMS = 21
#: Rows behind each level of the spread, and the most levels.
ROWS_A_LEVEL, MAX_LEVELS = 150, 6
#: Expectation and maximisation (Dempster, Laird and Rubin 1977): at most so often, until it moves
#: no more than this.
EM_ROUNDS, EM_STEP = 100, 1e-3
LEAST_NOISE = 1e-3


def knots_of(raw: Array, y: Array, objective: str) -> tuple[Array, Array]:
    """Turn a score into a log-length: as it is for what says lengths, isotonic for the others."""
    if objective in ("regression", "quantile"):
        low, high = float(raw.min()) - 20, float(raw.max()) + 20
        return np.array([low, high]), np.array([low, high])
    return rising_knots(raw, y)


def undo_cuts(limit: Array, middle: Array, cut: Array) -> Array:
    """Put E[log n | log n > limit] where an answer was cut off (Tobin 1958). Shapes (rows,)."""
    return _expected(limit, middle, cut, noise_of(limit, middle, cut))[0]


def line_through_cuts(limit: Array, cut: Array, fit: Callable[[Array], Array]) -> Array:
    """Undo cuts by what `fit` says of all rows, fitted anew to what it leads to, and so on.

    What a first fit goes by: one to the lengths as they were cut would take them for the whole.
    `fit` takes log-lengths and says the log-lengths it expects. Shapes (rows,).
    """
    y, sigma = limit, 1.0
    for _ in range(EM_ROUNDS):
        before = y
        y, sigma = _expected(limit, fit(y), cut, sigma)
        if np.max(np.abs(y - before)) < EM_STEP:
            break
    return y


def noise_of(limit: Array, middle: Array, cut: Array) -> float:
    """Root mean square of log-length less its prediction, of answers as if none had been cut."""
    sigma = float(np.std((limit - middle)[~cut])) or 1.0
    for _ in range(EM_ROUNDS if cut.any() else 0):
        before = sigma
        sigma = _expected(limit, middle, cut, sigma)[1]
        if abs(sigma - before) < EM_STEP:
            break
    return sigma


def _expected(limit: Array, middle: Array, cut: Array, sigma: float) -> tuple[Array, float]:
    """Expect the lengths of cut answers by this noise; also the noise that this shows."""
    y, square = limit.copy(), np.square(limit - middle)
    z = (limit[cut] - middle[cut]) / sigma
    above = _above(z)
    y[cut] = middle[cut] + sigma * above
    square[cut] = sigma**2 * (1 + z * above)
    return y, max(float(np.sqrt(square.mean())), LEAST_NOISE)


def _above(z: Array) -> Array:
    """Mean of a standard normal above each z; between the points of a grid a line, for speed."""
    at, mean = _grid()
    return np.where(z > at[-1], z + 1 / np.maximum(z, 1.0), np.interp(z, at, mean))


@cache
def _grid() -> tuple[Array, Array]:
    at = np.linspace(-8, 8, 3201)
    return at, targets.beyond(at, np.zeros(len(at)), 1.0)


def drawn_beyond(limit: Array, middle: Array, cut: Array, seed: int) -> Array:
    """Draw a log-length past its limit where an answer was cut off: for spread. Shapes (rows,).

    Their means would scatter less than whole answers do.
    """
    y = limit.copy()
    if cut.any():
        sigma, rng = noise_of(limit, middle, cut), np.random.default_rng(seed)
        y[cut] = middle[cut] + targets.draw_beyond(limit[cut] - middle[cut], sigma, rng)
    return y


def worth_of(limit: Array, middle: Array, cut: Array) -> Array:
    """How much each answer tells of its length: a whole one 1, one cut early next to nothing.

    Of "longer than limit", the share of a whole answer's information on the mean of a normal
    (Tobin 1958). Shapes (rows,).
    """
    worth = np.ones(len(limit))
    if cut.any():
        z = (limit[cut] - middle[cut]) / noise_of(limit, middle, cut)
        above = _above(z)
        worth[cut] = np.clip(above * (above - z), 0.0, 0.99)
    return worth


def spread_of(middle: Array, y: Array, stated: Array, level: Array) -> tuple[Array, Array]:
    """Quantiles of log(length / prediction) held out, at several predicted levels.

    Shapes: (rows,) each; returns (levels,), (levels, ATOMS).
    """
    scaled = (y - middle) / np.array([scale_of(one) for one in stated])
    share = atom_shares(ATOMS)
    order = np.argsort(middle + level, kind="stable")
    parts = np.array_split(order, min(MAX_LEVELS, max(1, len(y) // ROWS_A_LEVEL)))
    at: dict[float, Array] = {}
    for part in parts:
        # With few rows a quantile must lie further out to cover as promised (split conformal).
        conformal = np.minimum(share * (len(part) + 1) / len(part), 1.0)
        at[float(np.median((middle + level)[part]))] = np.quantile(scaled[part], conformal)
    return np.array(sorted(at)), np.array([at[one] for one in sorted(at)])
