"""Merges: steps and low-rank products against torch and exact fractions, and digests that never
change."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from operation_samples import any_bits, as_values, digest, run, weights

from weightvault.dedup.derivations.operations.errors import InvalidRecipe
from weightvault.dedup.derivations.operations.floats.formats import read_floats
from weightvault.dedup.derivations.operations.merges import elementwise, low_rank
from weightvault.dedup.derivations.operations.merges.elementwise import (
    ADD,
    CONSTANT,
    DIVIDE,
    FUSED,
    MULTIPLY,
    OPERAND,
    SUBTRACT,
    pack_steps,
    weighted_sum,
)
from weightvault.dedup.derivations.operations.values import Values

COUNT = 70_000
GOLDEN_KEYS = ("steps", "fused", "low rank")
GOLDEN = {
    "steps": "5072c982315a2446",
    "fused": "ce45f6bf67f0c68d",
    "low rank": "da033eaa35a95a32",
}
TASK = [(OPERAND, 0), (OPERAND, 1), (OPERAND, 0), (SUBTRACT, 0), (CONSTANT, 0.75)]
TASK += [(MULTIPLY, 0), (ADD, 0)]
EMA = [(OPERAND, 1), (CONSTANT, 0.001), (OPERAND, 0), (CONSTANT, 0.999), (MULTIPLY, 0), (FUSED, 0)]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_torch_gives_the_same_merges(dtype: str):
    torch = pytest.importorskip("torch")
    kind = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[dtype]
    operands = [weights(dtype, COUNT, seed) for seed in (1, 2, 3)]
    a, b, c = (torch.from_numpy(values.raw.copy()).view(kind) for values in operands)
    thirds = [(OPERAND, 0), (OPERAND, 1), (ADD, 0), (OPERAND, 2), (ADD, 0), (CONSTANT, 3)]
    for steps, wanted in (
        (weighted_sum([0.5, 0.25, 0.25]), a * 0.5 + b * 0.25 + c * 0.25),
        (TASK, a + (b - a) * 0.75),
        ([*thirds, (DIVIDE, 0)], (a + b + c) / 3),
    ):
        got = run(elementwise.OPERATION, operands, dtype, COUNT, pack_steps(dtype, steps))
        np.testing.assert_array_equal(got, wanted.view(torch.uint8).numpy())


def test_fused_products_are_rounded_once():
    operands = [any_bits("F32", 4000, seed) for seed in (1, 2, 3)]
    close = [weights("F32", 4000, seed) for seed in (4, 5, 6)]
    steps = pack_steps("F32", [(OPERAND, 0), (OPERAND, 1), (OPERAND, 2), (FUSED, 0)])
    for given in (operands, close):
        got = run(elementwise.OPERATION, given, "F32", 4000, steps).view(np.float32)
        values = [each.raw.view(np.float32) for each in given]
        for a, b, c, found in zip(*values, got, strict=True):
            if not np.isfinite([a, b, c, found]).all():
                continue
            exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
            away = abs(Fraction(float(found)) - exact)
            for other in (np.nextafter(found, np.float32(np.inf)), np.nextafter(found, -np.inf)):
                if np.isfinite(other):
                    assert away <= abs(Fraction(float(np.float32(other))) - exact)


def test_numbers_that_are_none():
    values = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, 3e38, -3e38], np.float32)
    operands = [as_values(values, "F32"), as_values(values[::-1], "F32")]
    for kind in (ADD, SUBTRACT, MULTIPLY, DIVIDE):
        steps = pack_steps("F32", [(OPERAND, 0), (OPERAND, 1), (kind, 0)])
        got = run(elementwise.OPERATION, operands, "F32", 8, steps)
        nans = got.view(np.uint32)[np.isnan(got.view(np.float32))]
        assert set(nans.tolist()) == {0x7FC00000}


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_a_low_rank_product_is_summed_in_order(dtype: str):
    rows, columns, rank = 30, 70, 9
    base = weights(dtype, rows * columns, 1)
    right, left = weights("F32", rank * columns, 2), weights("F32", rows * rank, 3)
    a = right.raw.view(np.float32).reshape(rank, columns)
    b = left.raw.view(np.float32).reshape(rows, rank)
    sums = np.zeros((rows, columns), np.float32)
    for k in range(rank):
        sums += b[:, k : k + 1] * a[k]
    moved = read_floats(dtype, as_values(sums * np.float32(2), dtype).raw)
    wanted = as_values(read_floats(dtype, base.raw) + moved, dtype).raw
    parameters = low_rank.pack_low_rank(rank, columns, 2.0, change=dtype)
    operands = [base, right, left]
    got = run(low_rank.OPERATION, operands, dtype, rows * columns, parameters)
    np.testing.assert_array_equal(got, wanted)
    width = base.raw.size // (rows * columns)
    part = [Values(dtype, base.raw[width * 100 :]), right, left]
    got = run(low_rank.OPERATION, part, dtype, rows * columns - 100, parameters, 100)
    np.testing.assert_array_equal(got, wanted[width * 100 :])


def test_operands_that_are_too_short_count_as_zero():
    some = weights("F32", 10, 1)
    steps = pack_steps("F32", weighted_sum([1, 1]))
    got = run(elementwise.OPERATION, [some, weights("F32", 4, 2)], "F32", 10, steps)
    np.testing.assert_array_equal(got[16:], some.raw[16:])
    parameters = low_rank.pack_low_rank(4, 5, 1.0)
    got = run(low_rank.OPERATION, [some, weights("F32", 3, 2), some], "F32", 10, parameters, 1000)
    np.testing.assert_array_equal(got, some.raw)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [(OPERAND, 2)],
        [(OPERAND, 0.5)],
        [(OPERAND, float("nan"))],
        [(OPERAND, 0), (OPERAND, 1)],
        [(OPERAND, 0), (ADD, 0)],
        [(7, 0)],
        [(CONSTANT, 1)] * 17 + [(ADD, 0)] * 16,
        [(CONSTANT, 1)] + [(CONSTANT, 1), (ADD, 0)] * 128,
    ],
)
def test_steps_that_are_none_are_refused(steps: list[tuple[int, float]]):
    with pytest.raises(InvalidRecipe):
        elementwise.OPERATION.check(["F32", "F32"], "F32", pack_steps("F32", steps))


@pytest.mark.parametrize(
    ("dtypes", "dtype", "parameters"),
    [
        (["F32"] * 2, "F32", low_rank.pack_low_rank(4, 4, 1.0)),
        (["F32"] * 3, "I8", low_rank.pack_low_rank(4, 4, 1.0)),
        (["F32", "I8", "F32"], "F32", low_rank.pack_low_rank(4, 4, 1.0)),
        (["F32"] * 3, "F32", low_rank.pack_low_rank(1025, 4, 1.0)),
        (["F32"] * 3, "F32", low_rank.pack_low_rank(4, 0, 1.0)),
        (["F32"] * 3, "F32", b"\4" + low_rank.pack_low_rank(4, 4, 1.0)[1:]),
        (["F32"] * 3, "F32", b""),
    ],
)
def test_products_that_are_none_are_refused(dtypes: list[str], dtype: str, parameters: bytes):
    with pytest.raises(InvalidRecipe):
        low_rank.OPERATION.check(dtypes, dtype, parameters)


def golden(name: str) -> str:
    odd = [any_bits("F32", 3000, seed) for seed in (1, 2)]
    near = [weights("BF16", 3000, seed) for seed in (3, 4)]
    if name == "low rank":
        operands = [near[0], *odd[:1], near[1]]
        parameters = low_rank.pack_low_rank(7, 60, 0.3, "BF16", "BF16")
        return digest(run(low_rank.OPERATION, operands, "BF16", 3000, parameters))
    steps = TASK if name == "steps" else EMA
    every = [
        run(elementwise.OPERATION, given, "F32", 3000, pack_steps(arithmetic, steps))
        for given in (odd, near)
        for arithmetic in ("F32", "BF16", "F16")
    ]
    return digest(np.concatenate(every))


@pytest.mark.parametrize("name", GOLDEN)
def test_results_never_change(name: str):
    assert golden(name) == GOLDEN[name]
