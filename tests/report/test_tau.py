"""Kendall's tau at the size of a trace."""

from __future__ import annotations

import numpy as np
import pytest

from lengthwise.report.tau import kendall_tau


@pytest.mark.parametrize("seed", range(8))
def test_it_equals_the_count_over_all_pairs(seed):
    """With and without ties on either side."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4 + 60 * (seed % 3), 150).astype(float)
    y = rng.integers(0, 3 + 90 * (seed % 2), 150).astype(float)
    signs = np.sign(x[:, None] - x) * np.sign(y[:, None] - y)
    scale = np.sqrt((x[:, None] != x).sum() * (y[:, None] != y).sum())
    assert kendall_tau(np.column_stack((x, y))) == pytest.approx(signs.sum() / scale)


def test_agreement_and_reversal():
    """One and minus one, of very many."""
    up = np.arange(100_000.0)
    assert kendall_tau(np.column_stack((up, up**2))) == 1
    assert kendall_tau(np.column_stack((up, -up))) == -1
