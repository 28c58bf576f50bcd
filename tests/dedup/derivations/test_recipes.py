"""Recipes: what is packed is parsed, and what does not fit is refused before any kernel runs."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightvault.dedup.derivations.operations.errors import InvalidRecipe
from weightvault.dedup.derivations.predict import Prediction
from weightvault.dedup.derivations.recipe import (
    Axes,
    Grid,
    Operand,
    Piece,
    Recipe,
    Rows,
    merge_runs,
    pack_recipe,
    parse_recipe,
)

GRID = "01010100010c01010103050200020401020202050101003c"
DIGESTS = [bytes([i]) * 32 for i in range(3)]

pieces = st.lists(
    st.builds(Piece, st.sampled_from(DIGESTS), st.integers(0, 1 << 25)), max_size=4
).map(tuple)
axes = st.permutations(range(3)).flatmap(
    lambda order: st.builds(Axes, st.tuples(*[st.integers(0, 9999)] * 3), st.just(tuple(order)))
)
runs = st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 1 << 20)), max_size=5).map(tuple)
operands = st.builds(
    Operand,
    st.sampled_from(["F32", "BF16", "Q4_K"]),
    pieces,
    st.integers(0, 1 << 40),
    st.tuples(st.integers(0, 64), st.integers(1, 64)),
    st.one_of(
        st.none(),
        axes,
        st.builds(Rows, st.integers(0, 1 << 20), runs),
        st.builds(Grid, st.integers(0, 1 << 20), runs, runs),
    ),
    st.sampled_from([None, "BF16", "F16"]),
)
recipes = st.builds(
    Recipe,
    st.integers(0, 99),
    st.integers(0, 9),
    st.lists(operands, max_size=3).map(tuple),
    st.binary(),
)


@given(recipes)
def test_a_packed_recipe_is_parsed_to_itself(recipe: Recipe):
    assert parse_recipe(pack_recipe(recipe), recipe.inputs) == recipe


@given(st.binary(max_size=200), st.integers(0, 3))
def test_other_bytes_are_refused_or_are_that_recipe(packed: bytes, count: int):
    inputs = tuple(DIGESTS[:count])
    try:
        recipe = parse_recipe(packed, inputs)
    except InvalidRecipe:
        return
    assert pack_recipe(recipe) == packed


@given(st.lists(st.integers(0, 30), max_size=40))
def test_runs_give_the_rows_back(rows: list[int]):
    taken = [row for first, count in merge_runs(rows) for row in range(first, first + count)]
    assert taken == rows


def cast_of(*operands: Operand) -> Recipe:
    return Recipe(1, 1, operands, b"\0")


@pytest.mark.parametrize(
    "operand",
    [
        Operand("F32", (Piece(DIGESTS[0], 396),)),
        Operand("F32", (Piece(DIGESTS[0], 399),)),
        Operand("I32", (Piece(DIGESTS[0], 400),), rounded="BF16"),
        Operand("F32", (Piece(DIGESTS[0], 400),), offset=1),
        Operand("F32", (Piece(DIGESTS[0], 400),), offset=1 << 40, ratio=(0, 1)),
        Operand("F32", (Piece(DIGESTS[0], 200),) * 2, offset=1),
        Operand("F32", (Piece(DIGESTS[0], 200), Piece(DIGESTS[0], 400))),
        Operand("F32", (Piece(DIGESTS[0], 400),), arrangement=Axes((10, 11), (1, 0))),
        Operand("F32", (Piece(DIGESTS[0], 400),), arrangement=Rows(10, ((5, 6), (0, 4)))),
        Operand("F32", (Piece(DIGESTS[0], 400),), arrangement=Rows(0, ((0, 10),))),
        Operand("F32", (Piece(DIGESTS[0], 400),), arrangement=Grid(10, ((0, 11),), ((0, 10),))),
        Operand("F32", (Piece(DIGESTS[0], 400),), arrangement=Grid(10, ((0, 10),), ((1, 10),))),
        Operand("F32", (Piece(DIGESTS[0], 400),), arrangement=Grid(10, ((0, 10),) * 9, ((0, 9),))),
        Operand("F32", (Piece(DIGESTS[0], 400),), arrangement=Grid(10, ((0, 10),), ())),
    ],
    ids=[
        "short",
        "odd",
        "rounded integers",
        "beyond",
        "far",
        "behind",
        "two lengths",
        "shape",
        "rows",
        "no rows",
        "rows of a grid",
        "columns",
        "too often",
        "no columns",
    ],
)
def test_operands_that_do_not_fit_are_refused(operand: Operand):
    def load(digest: bytes, raw_bytes: int) -> np.ndarray:
        return np.zeros(200 if operand.pieces[0].raw_bytes == 200 else raw_bytes, np.uint8)

    with pytest.raises(InvalidRecipe):
        Prediction(cast_of(operand), "BF16", 200, load).fill(0, np.empty(200, np.uint8))


def test_work_is_in_proportion_to_what_it_gives():
    many = Operand("F32", tuple(Piece(DIGESTS[0], 1 << 25) for _ in range(4)))
    with pytest.raises(InvalidRecipe, match="reads"):
        Prediction(cast_of(many), "BF16", 200, lambda *_: np.zeros(0, np.uint8))


@pytest.mark.parametrize("spread", [1, 40], ids=["near", "far"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_range_of_rows_and_columns_is_that_of_the_whole(spread: int, data: st.DataObject):
    rows, columns = 8 * spread, data.draw(st.integers(1, 60))
    words = np.arange(rows * columns, dtype=np.uint16)

    def some(most: int) -> list[int]:
        return data.draw(st.lists(st.integers(0, most - 1), min_size=1, max_size=40))

    taken, kept = some(rows), some(columns)
    whole = len(kept) == columns and kept == sorted(set(kept))
    shape = (columns, merge_runs(taken))
    arrangement = Rows(*shape) if whole else Grid(*shape, merge_runs(kept))
    expected = words.reshape(rows, columns)[taken][:, kept].reshape(-1)
    if expected.size > 2 * words.size:
        return
    piece = Piece(DIGESTS[0], words.nbytes)
    recipe = cast_of(Operand("BF16", (piece,), arrangement=arrangement))
    prediction = Prediction(recipe, "BF16", expected.nbytes, lambda *_: words.view(np.uint8))
    first = data.draw(st.integers(0, expected.size - 1))
    last = data.draw(st.integers(first + 1, expected.size))
    out = np.empty(2 * (last - first), np.uint8)
    prediction.fill(2 * first, out)
    assert out.tobytes() == expected[first:last].tobytes()


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
@pytest.mark.parametrize("arrangement", [None, Axes((20, 5), (1, 0))])
def test_elements_are_rounded_before_an_operation_reads_them(dtype: str, arrangement: Axes | None):
    values = np.random.default_rng(1).normal(0, 1, 100).astype(np.float32)
    operand = Operand("F32", (Piece(DIGESTS[0], 400),), 0, (1, 1), arrangement, dtype)
    out = np.empty(80, np.uint8)
    prediction = Prediction(cast_of(operand), "F32", 400, lambda *_: values.view(np.uint8))
    prediction.fill(40, out)
    narrow = values.astype(ml_dtypes.bfloat16 if dtype == "BF16" else np.float16)
    wanted = narrow.astype(np.float32)
    if arrangement is not None:
        wanted = wanted.reshape(20, 5).T.reshape(-1)
    np.testing.assert_array_equal(out.view(np.float32), wanted[10:30])


def test_a_grid_is_written_as_ever():
    piece = Piece(DIGESTS[1], 60)
    grid = Grid(5, ((0, 2), (4, 1)), ((1, 2), (0, 1)))
    recipe = cast_of(Operand("BF16", (piece,), 1, (1, 1), grid))
    assert pack_recipe(recipe).hex() == GRID
    words = np.arange(30, dtype=np.uint16)
    out = np.empty(16, np.uint8)
    Prediction(recipe, "BF16", 16, lambda *_: words.view(np.uint8)).fill(0, out)
    assert out.view(np.uint16).tolist() == [2, 0, 6, 7, 5, 21, 22, 20]
