"""Finds how much of each source there is in a weighted mean of some of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# People choose weights that are multiples of 1 / n.
_SHARES = (2, 3, 20, 4, 6, 7, 8, 100)
_TOLERANCE = 0.03
_MOST = 6


def solve(target: NDArray[np.float32], sources: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Returns the weights, which sum up to 1, of sources (k, n) of which the target (n,) is nearest
    to the mean; None where there are none. What is not finite does not count."""
    usable = np.isfinite(target) & np.isfinite(sources).all(axis=0)
    first = sources[0, usable].astype(np.float64)
    # All are rounded to so many bits, whatever their size.
    scale = 1 / np.maximum(np.abs(first), np.abs(first).mean() / 64 + 1e-300)
    moved = (target[usable] - first) * scale
    others = (sources[1:, usable] - first) * scale
    try:
        found = np.linalg.lstsq(others.T, moved, rcond=1e-9)[0]
    except np.linalg.LinAlgError:
        return None
    return np.concatenate([[1 - found.sum()], found]) if np.isfinite(found).all() else None


def round_weights(weights: NDArray[np.float64]) -> Iterator[tuple[float, ...]]:
    """Yields what the weights may have been, the likeliest first: two of them at least."""
    seen: set[tuple[float, ...]] = set()
    ranked: list[tuple[float, int, tuple[float, ...]]] = []
    for place, share in enumerate(_SHARES):
        near = np.rint(weights * share) / share
        apart = float(np.abs(near - weights).max())
        rounded = tuple(near.tolist())
        is_new = rounded not in seen and np.count_nonzero(near) > 1
        if is_new and apart <= _TOLERANCE and abs(near.sum() - 1) < 1e-6:
            seen.add(rounded)
            # A finer share is nearer by chance.
            ranked.append((apart * share**0.5, place, rounded))
    yield from (rounded for _, _, rounded in sorted(ranked)[:_MOST])
