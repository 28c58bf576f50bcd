"""Finds the scale, and the minimum, of a run of elements by trying several.

Source: make_qkx2_quants, make_qx_quants and make_q3_quants in ggml-quants.c of the ggml project.
Products and sums are rounded one by one, in the order of the elements.
"""

import numpy as np

from .....codecs.jit.cached import njit
from .arithmetic import TINY, round_within

_ZERO = np.float32(0)
_STEP = np.float32(0.1)


@njit(nogil=True, cache=True, error_model="numpy")
def fit_line(values, weights, high, first, steps, is_absolute, quants):
    """Fits value = scale x quant + minimum, quants 0 to ``high``.

    ``values``, ``weights``: (n,) float32. The quants are first those of the whole range; then
    1 + ``steps`` wider or narrower ranges are tried, from ``high + first`` quants to the range on,
    each with the line that suits its quants best by least squares. Which is best is measured by
    weighted errors, squared or absolute. ``quants``: (n,) uint8, written. Returns the scale and
    minus the minimum.
    """
    least = largest = values[0]
    sum_w = weights[0]
    sum_x = sum_w * values[0]
    for i in range(1, values.size):
        least = values[i] if values[i] < least else least
        largest = values[i] if values[i] > largest else largest
        sum_w += weights[i]
        sum_x += weights[i] * values[i]
    least = _ZERO if least > _ZERO else least
    if largest == least:
        quants[:] = 0
        return _ZERO, -least
    inverse = np.float32(high) / (largest - least)
    scale = np.float32(1) / inverse
    _take_quants(values, least, inverse, high, quants)
    best = _measure_error(values, weights, quants, scale, least, is_absolute)
    tried = np.empty_like(quants)
    for step in range(steps + 1):
        inverse = (first + _STEP * np.float32(step) + np.float32(high)) / (largest - least)
        _take_quants(values, least, inverse, high, tried)
        sum_l, sum_l2, sum_xl = _sum_products(values, weights, tried)
        divisor = sum_w * sum_l2 - sum_l * sum_l
        if divisor > _ZERO:
            new_scale = (sum_w * sum_xl - sum_x * sum_l) / divisor
            new_least = (sum_l2 * sum_x - sum_l * sum_xl) / divisor
            if new_least > _ZERO:
                new_least, new_scale = _ZERO, sum_xl / sum_l2
            error = _measure_error(values, weights, tried, new_scale, new_least, is_absolute)
            if error < best:
                quants[:] = tried
                # Steps after this one start from the better minimum.
                best, scale, least = error, new_scale, new_least
    return scale, -least


@njit(nogil=True, cache=True, error_model="numpy")
def _take_quants(values, least, inverse, high, quants):
    for i in range(values.size):
        quants[i] = round_within(inverse * (values[i] - least), 0, high)


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_products(values, weights, quants):
    sum_l = sum_l2 = sum_xl = _ZERO
    for i in range(values.size):
        quant = np.float32(quants[i])
        product = weights[i] * quant
        sum_l += product
        sum_l2 += product * quant
        sum_xl += product * values[i]
    return sum_l, sum_l2, sum_xl


@njit(nogil=True, cache=True, error_model="numpy")
def _measure_error(values, weights, quants, scale, least, is_absolute):
    total = _ZERO
    for i in range(values.size):
        apart = scale * np.float32(quants[i]) + least - values[i]
        total += weights[i] * (abs(apart) if is_absolute else apart * apart)
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def find_peak(values):
    """Returns the first element of the largest magnitude; 0 where that is below 1e-15."""
    largest = peak = _ZERO
    for i in range(values.size):
        if abs(values[i]) > largest:
            largest, peak = abs(values[i]), values[i]
    return _ZERO if largest < TINY else peak


@njit(nogil=True, cache=True, error_model="numpy")
def fit_scale(values, middle, quants):
    """Fits value = scale x (quant - ``middle``), quants 0 to 2 x ``middle`` - 1, with the squares
    of the values as weights.

    ``values``: (n,) float32. The peak is first given the quant 0; then 18 smaller or larger scales
    are tried, each followed by the one that suits its quants best. ``quants``: (n,) uint8, written.
    Returns the scale.
    """
    peak = find_peak(values)
    if peak == _ZERO:
        quants[:] = 0
        return _ZERO
    inverse = np.float32(-middle) / peak
    sum_xl, sum_l2 = _sum_squares(values, inverse, middle)
    scale = sum_xl / sum_l2 if sum_l2 != _ZERO else _ZERO
    best, chosen = scale * sum_xl, inverse
    for step in range(-9, 10):
        if step == 0:
            continue
        inverse = -(np.float32(middle) + _STEP * np.float32(step)) / peak
        sum_xl, sum_l2 = _sum_squares(values, inverse, middle)
        if sum_l2 > _ZERO and sum_xl * sum_xl > best * sum_l2:
            scale = sum_xl / sum_l2
            best, chosen = scale * sum_xl, inverse
    for i in range(values.size):
        quants[i] = round_within(chosen * values[i], -middle, middle - 1) + middle
    return scale


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_squares(values, inverse, middle):
    sum_xl = sum_l2 = _ZERO
    for i in range(values.size):
        quant = np.float32(round_within(inverse * values[i], -middle, middle - 1))
        weight = values[i] * values[i]
        sum_xl += weight * values[i] * quant
        sum_l2 += weight * quant * quant
    return sum_xl, sum_l2


@njit(nogil=True, cache=True, error_model="numpy")
def refine_scale(values, middle, quants):
    """Fits like `fit_scale`, but moves one quant after the other as long as that is better, in up
    to five rounds.

    ``quants``: (n,) uint8, written. Returns the scale.
    """
    peak = find_peak(values)
    if peak == _ZERO:
        quants[:] = 0
        return _ZERO
    inverse = np.float32(-middle) / peak
    sum_xl = sum_l2 = _ZERO
    for i in range(values.size):
        whole = round_within(inverse * values[i], -middle, middle - 1)
        quants[i] = whole + middle
        quant, weight = np.float32(whole), values[i] * values[i]
        sum_xl += weight * values[i] * quant
        sum_l2 += weight * quant * quant
    for _ in range(5):
        has_changed = False
        for i in range(values.size):
            quant, weight = np.float32(int(quants[i]) - middle), values[i] * values[i]
            product = weight * values[i]
            rest_xl = sum_xl - product * quant
            if not rest_xl > _ZERO:
                continue
            rest_l2 = sum_l2 - weight * quant * quant
            whole = round_within(values[i] * rest_l2 / rest_xl, -middle, middle - 1)
            if whole + middle == quants[i]:
                continue
            quant = np.float32(whole)
            rest_xl += product * quant
            rest_l2 += weight * quant * quant
            is_better = rest_xl * rest_xl * sum_l2 > sum_xl * sum_xl * rest_l2
            if rest_l2 > _ZERO and is_better:
                quants[i] = whole + middle
                sum_xl, sum_l2 = rest_xl, rest_l2
                has_changed = True
        if not has_changed:
            break
    return sum_xl / sum_l2 if sum_l2 > _ZERO else _ZERO
