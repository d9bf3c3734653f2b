"""A line over the features, beside the trees: what few rows can tell.

A few hundred rows fix the thresholds of trees by chance as much as by what is so; a line through
all features errs otherwise, and the mean of the two ranks better than either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lengthwise.errors import ArtifactError

if TYPE_CHECKING:
    from lengthwise.predictors.artifact import Arrays

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Weights, and the range in which each feature is read. Shapes: weight, low, high (n,)."""

    intercept: float
    weight: Array
    low: Array
    high: Array

    def say(self, x: Array) -> Array:
        """Return the log-length that it says of features, shape (..., n)."""
        said: Array = np.minimum(np.maximum(x, self.low), self.high) @ self.weight
        return self.intercept + said

    def arrays(self) -> Arrays:
        """Return what `of_arrays` reads."""
        return {
            "beside_weight": np.array([self.intercept, *self.weight], dtype="<f8"),
            "beside_reach": np.array([self.low, self.high], dtype="<f8"),
        }

    @classmethod
    def of_arrays(cls, arrays: Arrays, features: int) -> Beside | None:
        """Build from arrays, None if there is none. Raises ArtifactError if they do not fit."""
        if "beside_weight" not in arrays:
            return None
        weight, reach = arrays["beside_weight"], arrays["beside_reach"]
        sound = (
            weight.shape == (1 + features,)
            and reach.shape == (2, features)
            and bool(np.all(np.isfinite(weight)))
            and bool(np.all(np.isfinite(reach)))
            and bool(np.all(reach[0] <= reach[1]))
        )
        if not sound:
            raise ArtifactError("the line of this artifact does not fit its features")
        weight, reach = weight.astype(np.float64), reach.astype(np.float64)
        return cls(intercept=float(weight[0]), weight=weight[1:], low=reach[0], high=reach[1])
