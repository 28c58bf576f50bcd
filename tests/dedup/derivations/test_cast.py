"""Casts: every pair of floats against torch, ml_dtypes and digests that never change."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from operation_samples import any_bits, digest, make_words, run

from weightvault.codecs.dtypes import find_dtype
from weightvault.dedup.derivations.operations.errors import InvalidRecipe
from weightvault.dedup.derivations.operations.floats.cast import (
    OPERATION,
    SATURATE,
    THROUGH_F32,
)
from weightvault.dedup.derivations.operations.floats.formats import NAMES
from weightvault.dedup.derivations.operations.values import Values

PAIRS = [(source, target) for source in NAMES for target in NAMES if source != target]
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in")

NARROW = ("F16", "BF16", "F8_E4M3", "F8_E5M2")
NUMPY = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}
GOLDEN = {
    "F64": "effee20d9e7d3561",
    "F32": "2c40214713844808",
    "F16": "c8c4df0f0c2e9de2",
    "BF16": "2ae8c1ecc75fbbf5",
    "F8_E4M3": "33f24c032f3075ad",
    "F8_E5M2": "3ca1c8923b0219aa",
}


def words(raw: np.ndarray, dtype: str) -> np.ndarray:
    return raw.view(f"<u{find_dtype(dtype).item_bytes}")


def midpoints(source: str) -> np.ndarray:
    """What lies halfway between two neighbours of a narrow float, and what is next to that."""
    found = []
    for name in NARROW:
        width = find_dtype(name).item_bytes
        every = np.arange(1 << 8 * width).astype(f"<u{width}")
        grid = run(OPERATION, [Values(name, every.view(np.uint8))], "F64", every.size, b"\0")
        finite = np.sort(grid.view(np.float64)[np.isfinite(grid.view(np.float64))])
        middle = (finite[1:] + finite[:-1]) / 2
        found += [middle, np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf)]
    return np.concatenate(found).astype(NUMPY[source])


def sample(source: str) -> Values:
    """All bit patterns of a narrow float; of a wide one many, and every midpoint."""
    width = find_dtype(source).item_bytes
    if width <= 2:
        every = np.arange(1 << 8 * width).astype(f"<u{width}")
        return Values(source, every.view(np.uint8))
    parts = [any_bits(source, 20_000, 3).raw, midpoints(source).view(np.uint8)]
    return Values(source, np.concatenate(parts))


def is_number(raw: np.ndarray, dtype: str) -> np.ndarray:
    return ~np.isnan(raw.view(NUMPY[dtype]).astype(np.float64))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_torch_gives_the_same(source: str, target: str):
    torch = pytest.importorskip("torch")
    types = {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
    }
    values = sample(source)
    tensor = torch.from_numpy(values.raw.copy()).view(types[source])
    wanted = tensor.to(types[target]).view(torch.uint8).numpy()
    # Older versions give NaN beyond the largest F8_E4M3, newer ones the largest.
    edge = torch.tensor([1e6]).to(torch.float8_e4m3fn).view(torch.uint8).item()
    saturate = SATURATE if target == "F8_E4M3" and edge == 0x7E else 0
    got = run(OPERATION, [values], target, tensor.numel(), bytes([saturate | THROUGH_F32]))
    # Torch's vector loops write other NaNs of BF16 than its plain ones.
    keep = is_number(wanted, target) if target == "BF16" else slice(None)
    np.testing.assert_array_equal(words(got, target)[keep], words(wanted, target)[keep])
    np.testing.assert_array_equal(is_number(got, target), is_number(wanted, target))


@pytest.mark.parametrize("target", NARROW)
def test_doubles_are_rounded_once(target: str):
    values = sample("F64")
    got = words(run(OPERATION, [values], target, values.raw.size // 8, b"\0"), target)
    if target == "F16":
        wanted = values.raw.view(np.float64).astype(np.float16)
    else:
        # ml_dtypes rounds BF16 twice, so the distance to both neighbours decides.
        wanted = nearest(values.raw.view(np.float64), target)
    keep = ~np.isnan(values.raw.view(np.float64))
    np.testing.assert_array_equal(got[keep], wanted.view(got.dtype)[keep])


def nearest(values: np.ndarray, target: str) -> np.ndarray:
    """Rounds by looking for the nearest of all finite numbers; ties go to the even code."""
    width = find_dtype(target).item_bytes
    positive = np.arange(1 << (8 * width - 1)).astype(f"<u{width}")
    grid = positive.view(NUMPY[target]).astype(np.float64)
    count = int(np.isfinite(grid).sum())
    step = grid[count - 1] - grid[count - 2]
    grid = np.append(grid[:count], grid[count - 1] + step)
    magnitude = np.minimum(np.abs(values), grid[-1])
    at = np.clip(np.searchsorted(grid, magnitude), 1, count)
    low, high = magnitude - grid[at - 1], grid[at] - magnitude
    code = np.where((low < high) | ((low == high) & (at % 2 == 1)), at - 1, at)
    beyond = 0x7F if target == "F8_E4M3" else count
    code = np.where(code == count, beyond, code)
    return (code | (np.signbit(values).astype(int) << (8 * width - 1))).astype(f"<u{width}")


def test_ml_dtypes_gives_the_same_f8_from_f32():
    values = sample("F32")
    for target in ("F8_E4M3", "F8_E5M2"):
        wanted = values.raw.view(np.float32).astype(NUMPY[target]).view(np.uint8)
        got = run(OPERATION, [values], target, values.raw.size // 4, b"\0")
        keep = is_number(wanted, target) | ~np.isnan(values.raw.view(np.float32))
        np.testing.assert_array_equal(got[keep], wanted[keep])


@pytest.mark.parametrize("source", NAMES)
def test_widening_and_back_changes_nothing(source: str):
    values = sample(source)
    wider = NAMES[: NAMES.index(source)] if source not in ("BF16", "F8_E4M3") else ("F64", "F32")
    count = values.raw.size // find_dtype(source).item_bytes
    for target in wider if source != "F8_E5M2" else ("F64", "F32", "F16"):
        there = run(OPERATION, [values], target, count, b"\0")
        back = run(OPERATION, [Values(target, there)], source, count, b"\0")
        keep = is_number(values.raw, source)
        expected = words(values.raw, source)
        np.testing.assert_array_equal(words(back, source)[keep], expected[keep])
        assert not is_number(back, source)[~keep].any()


def test_infinities_and_what_is_too_large():
    values = np.array([1e9, -1e9, np.inf, -np.inf, 464, 465, 448], np.float32).view(np.uint8)
    operand = [Values("F32", values)]
    plain = run(OPERATION, operand, "F8_E4M3", 7, b"\0")
    assert plain.tolist() == [0x7F, 0xFF, 0x7F, 0xFF, 0x7E, 0x7F, 0x7E]
    full = run(OPERATION, operand, "F8_E4M3", 7, bytes([SATURATE]))
    assert full.tolist() == [0x7E, 0xFE, 0x7E, 0xFE, 0x7E, 0x7E, 0x7E]
    wide = run(OPERATION, operand, "F8_E5M2", 4, b"\0")[:4]
    assert wide.tolist() == [0x7C, 0xFC, 0x7C, 0xFC]
    assert run(OPERATION, operand, "F8_E5M2", 7, bytes([SATURATE]))[:2].tolist() == [0x7B, 0xFB]


def test_every_nan_of_a_wider_float_becomes_the_one_of_bf16():
    for source in ("F64", "F32", "F16", "F8_E4M3", "F8_E5M2"):
        values = sample(source)
        count = values.raw.size // find_dtype(source).item_bytes
        got = words(run(OPERATION, [values], "BF16", count, b"\0"), "BF16")
        assert set(got[~is_number(values.raw, source)].tolist()) <= {0x7FC0}


def test_buffers_may_lie_anywhere():
    raw = any_bits("F32", 100, 5).raw
    room = np.zeros(401, np.uint8)
    room[1:] = raw
    there = np.zeros(201, np.uint8)
    OPERATION.predict([Values("F32", room[1:])], "F16", 0, b"\0", there[1:])
    wanted = run(OPERATION, [Values("F32", raw)], "F16", 100, b"\0")
    np.testing.assert_array_equal(there[1:], wanted)


def test_operands_of_another_length_are_cut_or_count_as_zero():
    values = any_bits("F32", 100, 5)
    for target in NAMES:
        whole = run(OPERATION, [values], target, 100, b"\0")
        width = find_dtype(target).item_bytes
        np.testing.assert_array_equal(
            run(OPERATION, [values], target, 40, b"\0"), whole[: 40 * width]
        )
        more = run(OPERATION, [values], target, 150, b"\0")
        np.testing.assert_array_equal(more, np.append(whole, np.zeros(50 * width, np.uint8)))


@pytest.mark.parametrize(
    ("dtypes", "target", "parameters"),
    [
        ([], "F32", b"\0"),
        (["F32", "F32"], "F16", b"\0"),
        (["I8"], "F16", b"\0"),
        (["F32"], "I8", b"\0"),
        (["F32"], "F16", b""),
        (["F32"], "F16", b"\0\0"),
        (["F32"], "F16", b"\4"),
        (["Q4_K"], "F16", b"\0"),
    ],
)
def test_recipes_that_are_none_are_refused(dtypes: list[str], target: str, parameters: bytes):
    with pytest.raises(InvalidRecipe):
        OPERATION.check(dtypes, target, parameters)


def golden(source: str) -> str:
    if source in ("F64", "F32"):
        near = (make_words(2000, 9) % np.uint64(1 << 22)).astype(np.float64) * 2.0**-20 - 2
        raw = np.concatenate([any_bits(source, 2000, 1).raw, near.astype(NUMPY[source]).view("u1")])
        values = Values(source, raw)
    else:
        values = sample(source)
    count = values.raw.size // find_dtype(source).item_bytes
    every = [
        run(OPERATION, [values], target, count, bytes([flags]))
        for target in NAMES
        for flags in (0, 3)
    ]
    return digest(np.concatenate(every))


@pytest.mark.parametrize("source", GOLDEN)
def test_results_never_change(source: str):
    assert golden(source) == GOLDEN[source]
