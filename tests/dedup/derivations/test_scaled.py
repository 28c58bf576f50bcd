"""Scaled codes: against the formulas that libraries use, in torch and numpy, and digests that never
change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operation_samples import any_bits, as_values, digest, integers, make_words, run, weights

from weightvault.dedup.derivations.operations.errors import InvalidRecipe
from weightvault.dedup.derivations.operations.floats.formats import read_floats
from weightvault.dedup.derivations.operations.scaled import (
    affine,
    codebook,
    group_scales,
    nested_scales,
    packing,
    quantise,
)
from weightvault.dedup.derivations.operations.scaled.group_scales import Grouping
from weightvault.dedup.derivations.operations.scaled.places import (
    EACH,
    Place,
    by_columns,
    by_rows,
    by_tiles,
)
from weightvault.dedup.derivations.operations.scaled.quantise import Scheme
from weightvault.dedup.derivations.operations.values import Values

ROWS, COLUMNS = 256, 320
COUNT = ROWS * COLUMNS
PLAIN = bytes(range(8))
AWQ = bytes([0, 4, 1, 5, 2, 6, 3, 7])
"""Where AWQ puts the k-th of eight codes."""
GOLDEN_KEYS = ("quantise", "packed", "fp8", "scales", "affine", "codebook", "nested")
GOLDEN = {
    "quantise": "a4962fe905cb01f6",
    "packed": "9bb09f3a746f9818",
    "fp8": "10da5ee491e452f3",
    "scales": "58cb12c46e3253a7",
    "affine": "ae40158377cd8bc5",
    "codebook": "88bebb218dc50a48",
    "nested": "df0b3e72ed9f7492",
}


def numbers(values: Values) -> np.ndarray:
    return read_floats(values.dtype, values.raw)


def scales_of(source: Values, axis: int, divisor: float, dtype: str = "F32") -> Values:
    peaks = np.abs(numbers(source).reshape(ROWS, COLUMNS)).max(axis=axis)
    return as_values(peaks / np.float32(divisor), dtype)


def torch_tensor(values: Values, torch: Any) -> Any:
    types = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    return torch.from_numpy(values.raw.copy()).view(types[values.dtype])


@pytest.mark.parametrize("axis", [0, 1])
def test_onnx_int8_by_row_and_column(axis: int):
    source = weights("F32", COUNT, 1)
    scales = scales_of(source, axis, 127)
    place = by_columns(COLUMNS) if axis == 0 else by_rows(COLUMNS)
    got = run(quantise.OPERATION, [source, scales], "I8", COUNT, Scheme(place=place).pack())
    spread = np.expand_dims(numbers(scales), axis)
    wanted = np.rint(numbers(source).reshape(ROWS, COLUMNS) / spread).clip(-128, 127)
    np.testing.assert_array_equal(got.view(np.int8), wanted.reshape(-1).astype(np.int8))


def test_uint8_with_a_zero_point_per_row():
    source = weights("F32", COUNT, 2)
    rule = Grouping(COLUMNS, group_scales.RANGE, 255.0)
    scales = run(group_scales.OPERATION, [source], "F32", ROWS, rule.pack())
    zeros = run(
        group_scales.OPERATION,
        [source],
        "U8",
        ROWS,
        Grouping(COLUMNS, group_scales.ZERO_POINT, 255.0).pack(),
    )
    values = numbers(source).reshape(ROWS, COLUMNS)
    low, high = np.minimum(values.min(1), 0), np.maximum(values.max(1), 0)
    wide = (high - low) / np.float32(255)
    np.testing.assert_array_equal(scales.view(np.float32), wide)
    np.testing.assert_array_equal(zeros, np.rint(0 - low / wide).clip(0, 255).astype(np.uint8))
    scheme = Scheme(place=by_rows(COLUMNS), zero=quantise.ZEROS, low=0, high=255)
    operands = [source, Values("F32", scales), Values("U8", zeros)]
    got = run(quantise.OPERATION, operands, "U8", COUNT, scheme.pack())
    wanted = (np.rint(values / wide[:, None]) + zeros[:, None]).clip(0, 255)
    np.testing.assert_array_equal(got, wanted.reshape(-1).astype(np.uint8))


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_compressed_tensors_int8_rounds_in_the_source_dtype(dtype: str):
    torch = pytest.importorskip("torch")
    source = weights(dtype, COUNT, 3)
    weight = torch_tensor(source, torch).reshape(ROWS, COLUMNS)
    scale = torch.clamp(weight.abs().amax(1, keepdim=True) / (255 / 2), min=1e-7)
    wanted = torch.clamp(torch.round(weight / scale), -128, 127).to(torch.int8)
    rule = Grouping(COLUMNS, constant=127.5, arithmetic=dtype)
    scales = run(group_scales.OPERATION, [source], dtype, ROWS, rule.pack())
    stored = scale.view(torch.uint8).numpy().reshape(-1)
    np.testing.assert_array_equal(scales, stored)
    scheme = Scheme(arithmetic=dtype, place=by_rows(COLUMNS))
    got = run(quantise.OPERATION, [source, Values(dtype, stored)], "I8", COUNT, scheme.pack())
    np.testing.assert_array_equal(got.view(np.int8), wanted.numpy().reshape(-1))


def test_fp8_by_tiles_as_deepseek_and_by_tensor_as_vllm():
    torch = pytest.importorskip("torch")
    edge = torch.tensor([1e6]).to(torch.float8_e4m3fn).view(torch.uint8).item()
    source = weights("BF16", COUNT, 4)
    weight = torch_tensor(source, torch).reshape(ROWS, COLUMNS).float()
    padded = torch.zeros(256, 384)
    padded[:, :COLUMNS] = weight
    peaks = padded.reshape(2, 128, 3, 128).abs().amax((1, 3))
    scale = peaks / 448.0
    spread = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[:, :COLUMNS]
    wanted = (weight / spread).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    operands = [source, Values("F32", scale.numpy().reshape(-1).view(np.uint8))]
    scheme = Scheme(place=by_tiles(COLUMNS, 128, 128))
    got = run(quantise.OPERATION, operands, "F8_E4M3", COUNT, scheme.pack())
    assert edge == 0x7E or wanted.max() < 0x7F
    np.testing.assert_array_equal(got, wanted.reshape(-1))
    factor = torch.finfo(torch.float8_e4m3fn).max / weight.abs().max()
    whole = (weight * factor).clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    one = Scheme(rule=quantise.MULTIPLY, scale=factor.item())
    got = run(quantise.OPERATION, [source], "F8_E4M3", COUNT, one.pack())
    np.testing.assert_array_equal(got, whole.reshape(-1))


def test_torch_takes_a_quotient_by_a_number_as_a_product():
    torch = pytest.importorskip("torch")
    source = weights("F32", COUNT, 5)
    weight = torch_tensor(source, torch).reshape(ROWS, COLUMNS)
    peaks = weight.abs().amax(1, keepdim=True)
    factor = 448.0 / peaks
    wanted = (weight * factor).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    operands = [source, Values("F32", peaks.numpy().reshape(-1).view(np.uint8))]
    scheme = Scheme(rule=quantise.BY_INVERSE_TIMES, constant=448.0, place=by_rows(COLUMNS))
    got = run(quantise.OPERATION, operands, "F8_E4M3", COUNT, scheme.pack())
    np.testing.assert_array_equal(got, wanted.reshape(-1))
    rule = Grouping(COLUMNS, group_scales.INVERSE_OF_PRODUCT, 448.0)
    scales = run(group_scales.OPERATION, [source], "F32", ROWS, rule.pack())
    np.testing.assert_array_equal(scales.view(np.float32), (1 / factor).numpy().reshape(-1))


def test_gptq_and_awq_words_from_scales_and_packed_zeros():
    group = 64
    source = weights("F16", COUNT, 6)
    values = numbers(source).reshape(ROWS, COLUMNS)
    parts = values.reshape(ROWS, COLUMNS // group, group)
    low, high = np.minimum(parts.min(2), 0), np.maximum(parts.max(2), 0)
    scales = ((high - low) / np.float32(15)).astype(np.float16).T.copy()
    wide = scales.astype(np.float32)
    zeros = np.rint(-low.T / wide).astype(np.int64)
    codes = np.rint(values / wide.T.repeat(group, 1)) + zeros.T.repeat(group, 1)
    codes = codes.clip(0, 15).astype(np.uint64).T
    scale_operand = Values("F16", scales.reshape(-1).view(np.uint8))

    def packed(array: np.ndarray, order: bytes) -> Values:
        shifts = np.frombuffer(order, np.uint8).astype(np.uint64) * np.uint64(4)
        words = (array.reshape(-1, 8).astype(np.uint64) << shifts).sum(1, dtype=np.uint64)
        return integers(words.astype(np.uint32).view(np.int32), "I32")

    # GPTQ: eight neighbours of a column of the input side, and zeros less one.
    columns = values.T.reshape(COLUMNS // 8, 8, ROWS)
    turned = as_values(columns.transpose(0, 2, 1), "F16")
    wanted = packed(codes.reshape(COLUMNS // 8, 8, ROWS).transpose(0, 2, 1), PLAIN)
    place = Place(2, 1, 0, ROWS * group, ROWS, 8 * ROWS, 8)
    scheme = Scheme(
        place=place,
        zero=quantise.PACKED_ZEROS,
        zero_constant=1,
        low=0,
        high=15,
        bits=4,
        order=PLAIN,
    )
    stored = packed((zeros - 1) & 15, PLAIN)
    operands = [turned, scale_operand, stored]
    got = run(quantise.OPERATION, operands, "I32", COUNT // 8, scheme.pack())
    # A zero of 0 wraps around to 15 in this layout, and stands for 16 then.
    fits = (zeros > 0).repeat(group, 0).reshape(COLUMNS // 8, 8, ROWS).all(1).reshape(-1)
    assert fits.mean() > 0.9
    np.testing.assert_array_equal(got.view(np.int32)[fits], wanted.raw.view(np.int32)[fits])
    # AWQ: eight neighbours of the output side, in an order of their own.
    turned = as_values(values.T, "F16")
    wanted = packed(codes, AWQ)
    place = Place(2, 1, 0, ROWS * group, ROWS, ROWS, 1)
    scheme = Scheme(place=place, zero=quantise.PACKED_ZEROS, low=0, high=15, bits=4, order=AWQ)
    operands = [turned, scale_operand, packed(zeros, AWQ)]
    got = run(quantise.OPERATION, operands, "I32", COUNT // 8, scheme.pack())
    np.testing.assert_array_equal(got, wanted.raw)


def test_bitsandbytes_int8_and_nf4_by_their_formulas():
    source = weights("F16", COUNT, 7)
    values = numbers(source).reshape(ROWS, COLUMNS)
    peaks = np.abs(values).max(1)
    factors = (np.float32(1) / peaks) * np.float32(127)
    scheme = Scheme(rule=quantise.BY_INVERSE_TIMES, constant=127.0, place=by_rows(COLUMNS))
    operands = [source, as_values(peaks, "F32")]
    got = run(quantise.OPERATION, operands, "I8", COUNT, scheme.pack())
    np.testing.assert_array_equal(
        got.view(np.int8), np.rint(values * factors[:, None]).reshape(-1).astype(np.int8)
    )
    groups = values.reshape(-1, 64)
    scaled = groups / np.abs(groups).max(1, keepdims=True)
    table = np.array(codebook.NF4_VALUES, np.float32)
    nearest = np.abs(scaled.reshape(-1, 1) - table).argmin(1).astype(np.uint8)
    parameters = codebook.pack_codebook(codebook.NF4, 64, codebook.DIVIDED)
    got = run(codebook.OPERATION, [source], "U8", COUNT // 2, parameters)
    np.testing.assert_array_equal(got, nearest[::2] << 4 | nearest[1::2])


def test_fp4_codes_by_magnitude():
    table = np.array([0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4], np.float32)
    values = np.concatenate([table, -table])
    values[8] = -0.001
    got = run(
        codebook.OPERATION, [as_values(values, "F32")], "U8", 8, codebook.pack_codebook(1, 16)
    )
    np.testing.assert_array_equal(got >> 4, np.arange(0, 16, 2))
    np.testing.assert_array_equal(got & 15, np.arange(1, 16, 2))


def test_mlx_groups_come_back_within_half_a_scale():
    source = weights("BF16", COUNT, 8)
    ask = [
        (affine.CODES, "U32", COUNT // 8),
        (affine.SCALES, "F32", COUNT // 64),
        (affine.BIASES, "F32", COUNT // 64),
    ]
    codes, scales, biases = (
        run(affine.OPERATION, [source], dtype, count, affine.pack_affine(gives, 4, 64))
        for gives, dtype, count in ask
    )
    scales, biases = scales.view(np.float32)[:, None], biases.view(np.float32)[:, None]
    found = packing.unpack_codes(codes, 4, PLAIN, 4).reshape(-1, 64) * scales + biases
    away = np.abs(found - numbers(source).reshape(-1, 64))
    # The end that is no multiple of the scale may be cut off by half of it more.
    assert (away <= np.abs(scales) * 1.01).all()
    assert (away <= np.abs(scales) * 0.501).mean() > 0.99


def test_scales_are_found_from_any_element_on():
    source = weights("F32", COUNT, 9)
    for place, count in (
        (by_rows(COLUMNS), ROWS),
        (by_columns(COLUMNS), COLUMNS),
        (by_tiles(COLUMNS, 128, 128), 6),
        (by_tiles(COLUMNS, 3, 7), 86 * 46),
    ):
        scales = as_values(1 + np.arange(count) / 64, "F32")
        parameters = Scheme(place=place).pack()
        whole = run(quantise.OPERATION, [source, scales], "I8", COUNT, parameters)
        for first, some in ((1, 5), (319, 4000), (40961, 30000), (COUNT - 3, 3)):
            part = Values("F32", source.raw[4 * first : 4 * (first + some)])
            got = run(quantise.OPERATION, [part, scales], "I8", some, parameters, first)
            np.testing.assert_array_equal(got, whole[first : first + some])
    each = Scheme(place=Place(EACH, COLUMNS)).pack()
    scales = as_values(1 + np.arange(ROWS) / 64, "F32")
    wanted = run(
        quantise.OPERATION, [source, scales], "I8", COUNT, Scheme(place=by_rows(COLUMNS)).pack()
    )
    # With the ratio 1 : group, elements from 700 on need scales from the third on.
    part = [Values("F32", source.raw[2800:]), Values("F32", scales.raw[8:])]
    got = run(quantise.OPERATION, part, "I8", COUNT - 700, each, 700)
    np.testing.assert_array_equal(got, wanted[700:])


@pytest.mark.parametrize("rule", range(5))
@pytest.mark.parametrize("arithmetic", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("dtype", ["I8", "U8", "F8_E4M3", "F8_E5M2"])
def test_any_bits_give_something(rule: int, arithmetic: str, dtype: str):
    low, high = (-128, 127) if dtype == "I8" else (0, 255)
    scheme = Scheme(arithmetic, rule, 127.0, place=by_rows(10), low=low, high=high)
    # Too few scales: the others count as zero.
    source, scales = any_bits("F32", 2000, 3), any_bits("F16", 150, 4)
    got = run(quantise.OPERATION, [source, scales], dtype, 2000, scheme.pack())
    again = run(quantise.OPERATION, [source, scales], dtype, 2000, scheme.pack())
    np.testing.assert_array_equal(got, again)
    values = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, 1, -1], np.float32)
    zero = Scheme(arithmetic, quantise.DIVIDE, scale=0.0, low=low, high=high)
    got = run(quantise.OPERATION, [as_values(values, "F32")], dtype, 8, zero.pack())
    if dtype in ("I8", "U8"):
        tops = [0, high, low, 0, 0, high, high, low]
        np.testing.assert_array_equal(got, np.array(tops).astype(np.uint8))
    else:
        top = 0x7E if dtype == "F8_E4M3" else 0x7B
        assert got.tolist() == [0x7F, top, top | 128, 0x7F, 0x7F, top, top, top | 128]


def test_groups_of_nothing_but_nan_or_zero():
    values = np.zeros(256, np.float32)
    values[64:128] = np.nan
    values[128], values[192:] = np.inf, -0.0
    source = as_values(values, "F32")
    scales = run(group_scales.OPERATION, [source], "F32", 4, Grouping(64, constant=2.0).pack())
    assert scales.view(np.float32).tolist() == [0, 0, np.inf, 0]
    floor = Grouping(64, constant=2.0, floor=0.5).pack()
    scales = run(group_scales.OPERATION, [source], "F32", 4, floor)
    assert scales.view(np.float32).tolist() == [0.5, 0.5, np.inf, 0.5]
    for kind in range(3):
        run(codebook.OPERATION, [source], "U8", 128, codebook.pack_codebook(kind, 64))
    codes = run(affine.OPERATION, [source], "U32", 32, affine.pack_affine(0, 4, 64))
    assert codes.size == 128


SCHEME = Scheme(place=by_rows(10)).pack()


@pytest.mark.parametrize(
    ("operation", "dtypes", "dtype", "parameters"),
    [
        (quantise, ["F32"], "I8", SCHEME),
        (quantise, ["F32", "I8"], "I8", SCHEME),
        (quantise, ["F32", "F32"], "I16", SCHEME),
        (quantise, ["F32", "F32"], "I8", SCHEME[:-1]),
        (quantise, ["F32", "F32"], "I8", b"\7" + SCHEME[1:]),
        (quantise, ["F32", "F32"], "I8", Scheme(place=Place(2, period=7, width=3)).pack()),
        (quantise, ["F32", "F32"], "I8", Scheme(place=Place(2, width=0)).pack()),
        (quantise, ["F32"], "U32", Scheme(bits=4, order=bytes(8)).pack()),
        (quantise, ["F32"], "U32", Scheme(bits=3, order=PLAIN).pack()),
        (quantise, ["F32"], "I8", Scheme(low=5, high=4).pack()),
        (group_scales, ["F32"], "I8", Grouping(4).pack()),
        (group_scales, ["F32"], "F32", Grouping(0).pack()),
        (group_scales, ["F32"], "F32", b""),
        (affine, ["F32"], "F32", affine.pack_affine(0, 4, 64)),
        (affine, ["F32"], "U32", affine.pack_affine(0, 4, 63)),
        (codebook, ["F32"], "U8", codebook.pack_codebook(9, 64)),
        (codebook, ["F32"], "U8", codebook.pack_codebook(0, 63)),
        (nested_scales, ["F32", "F32"], "U8", nested_scales.pack_nested(0, 64, 256)),
        (nested_scales, ["F32", "F32", "F32"], "U8", nested_scales.pack_nested(0, 0, 256)),
    ],
)
def test_recipes_that_are_none_are_refused(
    operation: Any, dtypes: list[str], dtype: str, parameters: bytes
):
    with pytest.raises(InvalidRecipe):
        operation.OPERATION.check(dtypes, dtype, parameters)


def golden(name: str) -> str:
    source = weights("BF16", COUNT, 11)
    odd = Values("F32", np.concatenate([any_bits("F32", 1000, 1).raw, numbers(source).view("u1")]))
    count = odd.raw.size // 4
    scales = Values("F32", np.abs(numbers(weights("F32", ROWS + 8, 12))).view(np.uint8))
    if name == "quantise":
        schemes = [
            Scheme(arithmetic, rule, 127.0, place=by_rows(COLUMNS))
            for arithmetic in ("F32", "BF16", "F16")
            for rule in range(5)
        ]
        every = [run(quantise.OPERATION, [odd, scales], "I8", count, s.pack()) for s in schemes]
    elif name == "packed":
        zeros = integers(make_words(ROWS + 8, 13) % np.uint64(16), "U8")
        scheme = Scheme(
            place=by_rows(COLUMNS), zero=quantise.ZEROS, low=0, high=15, bits=4, order=AWQ
        )
        every = [run(quantise.OPERATION, [odd, scales, zeros], "I32", count // 8, scheme.pack())]
    elif name == "fp8":
        scheme = Scheme(place=by_tiles(COLUMNS, 128, 128)).pack()
        kinds = ("F8_E4M3", "F8_E5M2")
        every = [run(quantise.OPERATION, [odd, scales], kind, count, scheme) for kind in kinds]
    elif name == "scales":
        rules = [Grouping(64, rule, 448.0, "BF16") for rule in range(5)]
        every = [run(group_scales.OPERATION, [odd], "F32", count // 64, r.pack()) for r in rules]
    elif name == "affine":
        asked = [affine.pack_affine(gives, 4, 64) for gives in range(3)]
        every = [
            run(affine.OPERATION, [odd], "F32" if i else "U32", count // 64, p)
            for i, p in enumerate(asked)
        ]
    elif name == "codebook":
        asked = [codebook.pack_codebook(kind, 64, way) for kind in range(3) for way in range(2)]
        every = [run(codebook.OPERATION, [odd], "U8", count // 2, p) for p in asked]
    else:
        table = as_values(np.sort(numbers(weights("F32", 256, 14))), "F32")
        asked = nested_scales.pack_nested(0.01, 64, 8)
        every = [run(nested_scales.OPERATION, [odd, scales, table], "U8", count // 64, asked)]
    return digest(np.concatenate(every))


@pytest.mark.parametrize("name", GOLDEN)
def test_results_never_change(name: str):
    assert golden(name) == GOLDEN[name]
