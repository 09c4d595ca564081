"""The figures, as pure functions of arrays, and their bootstrap intervals over people.

AU arrays are (N, 17) intensities 0..5; error arrays are (N,) sums over an image's pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Interval", "au_mse", "au_pcc", "bootstrap", "unexplained_change"]


class Interval(NamedTuple):
    """A figure with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """As tables show it."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def au_mse(read: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean squared error an AU, (17,) (Table 1), over the rows in which the judge found a face (the others are NaN)."""
    read, target = _where_read(read, target)
    return ((read - target) ** 2).mean(axis=0)


def au_pcc(read: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pearson's correlation an AU, (17,) (Table 1), over the same rows; 0 where one of the two does not vary."""
    read, target = _where_read(read, target)
    x, y = read - read.mean(axis=0), target - target.mean(axis=0)
    scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.divide((x * y).sum(axis=0), scale, out=np.zeros(x.shape[1]), where=scale > 1e-12)


def _where_read(read: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = ~(np.isnan(read).any(axis=1) | np.isnan(target).any(axis=1))
    return read[known], target[known]


def unexplained_change(edit_error: np.ndarray, source_error: np.ndarray) -> float:
    """Σ‖edited - target‖² / Σ‖source - target‖²: 0 is perfect, 1 as good as not editing."""
    return float(edit_error.sum() / source_error.sum())


def bootstrap(
    figure: Callable[[np.ndarray], float], people: np.ndarray, *, draws: int = 1000, seed: int = 0
) -> Interval:
    """The figure on all rows, and its 2.5 % and 97.5 % quantiles when people are drawn with replacement.

    Args:
        figure: row indices (with repetitions) to a number.
        people: who each row shows, (N,); all rows of a person are drawn together.
        draws: number of resamplings.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    _, person = np.unique(people.astype(str), return_inverse=True)
    rows = np.split(np.argsort(person, kind="stable"), np.cumsum(np.bincount(person))[:-1])
    values = [figure(np.concatenate([rows[p] for p in rng.integers(len(rows), size=len(rows))])) for _ in range(draws)]
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(figure(np.arange(len(people))), float(low), float(high))
