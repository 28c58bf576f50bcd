"""Finds the scales of many runs: side by side in the lanes of vectors where that is faster.

The functions take ``runs``: (m, elements) float32, and return (m,) float32 of each thing found.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ......codecs.buffers import freeze
from ......codecs.jit.cached import njit
from ......codecs.simd.paths import current_path
from ..iq4 import search_values_kernel
from ..k_minima import search_runs_kernel
from ..k_symmetric import search_symmetric_kernel
from .lines import fit_lines_q2, fit_lines_q4, fit_lines_q5
from .scales import fit_scales_iq4, fit_scales_q3, fit_scales_q6
from .vectors import LANES

Floats = NDArray[np.float32]


@njit(nogil=True, cache=True, error_model="numpy")
def _place_runs(source, first, rows):
    for lane in range(LANES):
        for i in range(source.shape[1]):
            rows[0, i, lane] = source[first + lane, i]


@njit(nogil=True, cache=True, error_model="numpy")
def _search_q2_kernel(source, scales, minima):
    rows = np.empty((3, 16, LANES), np.float32)
    for first in range(0, source.shape[0], LANES):
        _place_runs(source, first, rows)
        fit_lines_q2(rows, scales, minima, first)


@njit(nogil=True, cache=True, error_model="numpy")
def _search_q4_kernel(source, scales, minima):
    rows = np.empty((3, 32, LANES), np.float32)
    for first in range(0, source.shape[0], LANES):
        _place_runs(source, first, rows)
        fit_lines_q4(rows, scales, minima, first)


@njit(nogil=True, cache=True, error_model="numpy")
def _search_q5_kernel(source, scales, minima):
    rows = np.empty((3, 32, LANES), np.float32)
    for first in range(0, source.shape[0], LANES):
        _place_runs(source, first, rows)
        fit_lines_q5(rows, scales, minima, first)


@njit(nogil=True, cache=True, error_model="numpy")
def _search_q3_kernel(source, scales):
    rows = np.empty((4, 16, LANES), np.float32)
    for first in range(0, source.shape[0], LANES):
        _place_runs(source, first, rows)
        fit_scales_q3(rows, scales, first)


@njit(nogil=True, cache=True, error_model="numpy")
def _search_q6_kernel(source, scales):
    rows = np.empty((4, 16, LANES), np.float32)
    for first in range(0, source.shape[0], LANES):
        _place_runs(source, first, rows)
        fit_scales_q6(rows, scales, first)


@njit(nogil=True, cache=True, error_model="numpy")
def _search_iq4_kernel(source, scales):
    rows = np.empty((4, 32, LANES), np.float32)
    for first in range(0, source.shape[0], LANES):
        _place_runs(source, first, rows)
        fit_scales_iq4(rows, scales, first)


_LINES: dict[int, Callable[..., None]] = {
    3: _search_q2_kernel,
    15: _search_q4_kernel,
    31: _search_q5_kernel,
}
_SYMMETRIC: dict[int, Callable[..., None]] = {4: _search_q3_kernel, 32: _search_q6_kernel}


def search_lines(runs: Floats, high: int) -> tuple[Floats, Floats]:
    """Returns the scales and minus the minima (`searches.fit_line`); ``high`` as `k_minima.fit_run`
    has it."""
    if current_path() == "portable":
        scales, minima = np.empty(len(runs), np.float32), np.empty(len(runs), np.float32)
        search_runs_kernel(runs, high, scales, minima)
        return scales, minima
    scales, minima = _search_side_by_side(_LINES[high], runs, 2)
    return scales, minima


def search_symmetric(runs: Floats, middle: int) -> Floats:
    """Returns the scales; ``middle`` as `k_symmetric.fit_symmetric` has it."""
    if current_path() == "portable":
        scales = np.empty(len(runs), np.float32)
        search_symmetric_kernel(runs, middle, scales)
        return scales
    return _search_side_by_side(_SYMMETRIC[middle], runs, 1)[0]


def search_values(runs: Floats) -> Floats:
    """Returns the scales (`iq4.fit_values`)."""
    if current_path() == "portable":
        scales = np.empty(len(runs), np.float32)
        search_values_kernel(runs, scales)
        return scales
    return _search_side_by_side(_search_iq4_kernel, runs, 1)[0]


def _search_side_by_side(search: Callable[..., None], runs: Floats, things: int) -> list[Floats]:
    """Runs a kernel, over zeros after the last runs, too, where these do not fill the lanes: the
    plain searches take seconds to compile."""
    side = len(runs) - len(runs) % LANES
    found = [np.empty(side + LANES, np.float32) for _ in range(things)]
    search(freeze(runs[:side]), *found)
    if side < len(runs):
        last = np.zeros((LANES, runs.shape[1]), np.float32)
        last[: len(runs) - side] = runs[side:]
        search(freeze(last), *(each[side:] for each in found))
    return [each[: len(runs)] for each in found]
