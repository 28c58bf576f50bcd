"""Rows are found among those of other tensors, and what is not there leaves few runs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weightvault.dedup.derivations.guesses.row_hashes import (
    NOWHERE,
    fill_gaps,
    find_rows,
    hash_rows,
)


@given(st.integers(1, 40), st.integers(0, 1 << 30), st.integers(1, 30))
def test_equal_rows_are_found(width: int, seed: int, kinds: int):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (kinds, width), np.uint8)
    there = rows[rng.integers(0, kinds, 20)]
    wanted = rng.integers(0, kinds, 25)
    found = find_rows(hash_rows(rows[wanted]), hash_rows(there))
    for row, place in zip(rows[wanted], found, strict=True):
        equal = (there == row).all(axis=1)
        assert equal[place] if place != NOWHERE else not equal.any()


def test_repeated_rows_follow_each_other():
    there = hash_rows(np.array([[1], [0], [0], [0], [2]], np.uint8))
    wanted = hash_rows(np.array([[1], [0], [0], [0], [2], [0]], np.uint8))
    assert find_rows(wanted, there).tolist() == [0, 1, 2, 3, 4, 1]
    assert find_rows(wanted, there[:0]).tolist() == [NOWHERE] * 6


def test_gaps_go_on_where_the_row_before_ended():
    found = np.array([NOWHERE, NOWHERE, 7, NOWHERE, 9, NOWHERE])
    assert fill_gaps(found, 10).tolist() == [0, 1, 7, 8, 9, 9]
