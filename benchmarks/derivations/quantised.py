"""Quantises weights as libraries do, with numpy: FP8 and integers with scales, codes of four bits.

Each function gives the tensors that a library stores for one matrix, (rows, columns) float32: names
after the matrix's own, safetensors dtypes, arrays. The formulas are those of the libraries' public
sources; real files agree with them where the corpus has some (`operations.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable

import ml_dtypes
import numpy as np

from ...dedup.derivations.operations.scaled.codebook import NF4_VALUES as _NF4

Stored = dict[str, tuple[str, np.ndarray]]
_BF16 = ml_dtypes.bfloat16
_E4M3 = ml_dtypes.float8_e4m3fn
_ONE = np.float32(1)
_AWQ = (0, 4, 1, 5, 2, 6, 3, 7)
_FP4_SIZES = (0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4)
_FP4 = (*_FP4_SIZES, *(-size for size in _FP4_SIZES))
GROUP = 128


def fp8_per_tensor(w: np.ndarray) -> Stored:
    """As vLLM: the factor is what torch gives for 448 / peak, its inverse is stored."""
    factor = _ONE / np.abs(w).max() * np.float32(448)
    codes = (w * factor).clip(-448, 448).astype(_E4M3)
    scale = np.asarray(_ONE / factor, np.float32).reshape(1)
    return {".weight": ("F8_E4M3", codes), ".weight_scale": ("F32", scale)}


def fp8_per_row(w: np.ndarray) -> Stored:
    """As compressed-tensors: peaks / 448, and a division."""
    scales = np.abs(w).max(1, keepdims=True) / np.float32(448)
    codes = (w / scales).clip(-448, 448).astype(_E4M3)
    return {".weight": ("F8_E4M3", codes), ".weight_scale": ("F32", scales)}


def fp8_per_row_inverse(w: np.ndarray) -> Stored:
    """As torchao: `448. / peaks` in torch, of which the inverse is stored."""
    factors = _ONE / np.abs(w).max(1, keepdims=True) * np.float32(448)
    codes = (w * factors).clip(-448, 448).astype(_E4M3)
    return {".weight": ("F8_E4M3", codes), ".weight_scale": ("F32", _ONE / factors)}


def fp8_per_block(w: np.ndarray) -> Stored:
    """As DeepSeek: tiles of 128 by 128."""
    rows, columns = w.shape
    high, wide = -(-rows // 128), -(-columns // 128)
    padded = np.zeros((high * 128, wide * 128), np.float32)
    padded[:rows, :columns] = w
    peaks = np.abs(padded.reshape(high, 128, wide, 128)).max((1, 3))
    scales = peaks / np.float32(448)
    spread = scales.repeat(128, 0).repeat(128, 1)[:rows, :columns]
    return {
        ".weight": ("F8_E4M3", (w / spread).clip(-448, 448).astype(_E4M3)),
        ".weight_scale_inv": ("F32", scales),
    }


def int8_per_row(w: np.ndarray) -> Stored:
    """As compressed-tensors, in bfloat16."""
    narrow = w.astype(_BF16)
    scales = np.abs(narrow).max(1, keepdims=True) / _BF16(127.5)
    return {
        ".weight": ("I8", _rint(narrow / scales, -128, 127).astype(np.int8)),
        ".weight_scale": ("BF16", scales),
    }


def int8_per_tensor(w: np.ndarray) -> Stored:
    """As compressed-tensors, in bfloat16."""
    narrow = w.astype(_BF16)
    scale = (np.abs(narrow).max() / _BF16(127.5)).reshape(1)
    return {
        ".weight": ("I8", _rint(narrow / scale, -128, 127).astype(np.int8)),
        ".weight_scale": ("BF16", scale),
    }


def int8_per_group(w: np.ndarray) -> Stored:
    """As compressed-tensors, in bfloat16, groups of 128."""
    narrow = w.astype(_BF16).reshape(w.shape[0], -1, GROUP)
    scales = np.abs(narrow).max(2, keepdims=True) / _BF16(127.5)
    return {
        ".weight": ("I8", _rint(narrow / scales, -128, 127).astype(np.int8).reshape(w.shape)),
        ".weight_scale": ("BF16", scales[:, :, 0]),
    }


def int4_packed(w: np.ndarray) -> Stored:
    """As compressed-tensors' pack-quantized, in bfloat16, groups of 128."""
    narrow = w.astype(_BF16).reshape(w.shape[0], -1, GROUP)
    scales = np.abs(narrow).max(2, keepdims=True) / _BF16(7.5)
    codes = (_rint(narrow / scales, -8, 7) + 8).reshape(w.shape)
    return {
        ".weight_packed": ("I32", _pack(codes, range(8))),
        ".weight_scale": ("BF16", scales[:, :, 0]),
        ".weight_shape": ("I64", np.array(w.shape, np.int64)),
    }


def bitsandbytes_int8(w: np.ndarray) -> Stored:
    """Rows of float16 times what torch gives for 127 / peak."""
    half = w.astype(np.float16).astype(np.float32)
    peaks = np.abs(half).max(1)
    codes = np.rint(half * (_ONE / peaks * np.float32(127))[:, None]).astype(np.int8)
    return {
        ".weight": ("I8", codes),
        ".SCB": ("F32", peaks),
        ".weight_format": ("U8", np.zeros(1, np.uint8)),
    }


def bitsandbytes_nf4(w: np.ndarray) -> Stored:
    """NF4, the peaks of groups as they are."""
    stored, _ = _nf4(w)
    return stored


def bitsandbytes_fp4(w: np.ndarray) -> Stored:
    """FP4, the peaks of groups as they are."""
    stored, _ = _nf4(w, "fp4")
    return stored


def bitsandbytes_nested(w: np.ndarray) -> Stored:
    """NF4, the peaks of groups as codes of a table, by blocks of 256."""
    stored, peaks = _nf4(w)
    offset = peaks.mean(dtype=np.float32)
    lowered = peaks - offset
    table = _dynamic_map()
    blocks = np.abs(np.pad(lowered, (0, -lowered.size % 256)).reshape(-1, 256)).max(1)
    wanted = lowered / blocks.repeat(256)[: lowered.size]
    codes = np.abs(table[None] - wanted[:, None]).argmin(1).astype(np.uint8)
    state = {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": float(offset)}
    return stored | {
        ".weight.absmax": ("U8", codes),
        ".weight.nested_absmax": ("F32", blocks),
        ".weight.nested_quant_map": ("F32", table),
        ".weight.quant_state.bitsandbytes__nf4": ("U8", _state(w.shape, state)),
    }


def mlx_4bit(w: np.ndarray) -> Stored:
    """MLX, affine groups of 64 in float32, stored as bfloat16."""
    groups = w.reshape(-1, 64)
    low, high = groups.min(1), groups.max(1)
    scales = np.maximum((high - low) / np.float32(15), np.float32(1e-7))
    is_low = np.abs(low) > np.abs(high)
    edge = np.where(is_low, low, high)
    scales = np.where(is_low, scales, -scales)
    whole = np.rint(edge / scales)
    scales = np.where(whole != 0, edge / np.where(whole != 0, whole, 1), scales)
    bias = np.where(whole != 0, edge, np.float32(0)).astype(np.float32)
    codes = _rint((groups - bias[:, None]) / scales.astype(np.float32)[:, None], 0, 15)
    shape = w.shape[0], w.shape[1] // 64
    return {
        ".weight": ("U32", _pack(codes.reshape(w.shape), range(8)).view(np.uint32)),
        ".scales": ("BF16", scales.astype(_BF16).reshape(shape)),
        ".biases": ("BF16", bias.astype(_BF16).reshape(shape)),
    }


def gptq_4bit(w: np.ndarray) -> Stored:
    """GPTQ's words, rounded to nearest, groups of 128: neighbours of the inputs in a word."""
    scales, zeros, codes = _with_zeros(w)
    turned = codes.T.reshape(w.shape[1] // 8, 8, w.shape[0]).transpose(0, 2, 1)
    return {
        ".qweight": ("I32", _pack(turned.reshape(-1, 8), range(8)).reshape(-1, w.shape[0])),
        ".qzeros": ("I32", _pack((zeros.T - 1) & 15, range(8))),
        ".scales": ("F16", np.ascontiguousarray(scales.T)),
        ".g_idx": ("I32", (np.arange(w.shape[1]) // GROUP).astype(np.int32)),
    }


def awq_4bit(w: np.ndarray) -> Stored:
    """AWQ's words, rounded to nearest, groups of 128: neighbours of the outputs in a word."""
    scales, zeros, codes = _with_zeros(w)
    return {
        ".qweight": ("I32", _pack(codes.T, _AWQ)),
        ".qzeros": ("I32", _pack(zeros.T, _AWQ)),
        ".scales": ("F16", np.ascontiguousarray(scales.T)),
    }


FORMATS: dict[str, Callable[[np.ndarray], Stored]] = {
    "fp8 per tensor": fp8_per_tensor,
    "fp8 per row": fp8_per_row,
    "fp8 per row inverse": fp8_per_row_inverse,
    "fp8 per block": fp8_per_block,
    "int8 per row": int8_per_row,
    "int8 per tensor": int8_per_tensor,
    "int8 per group": int8_per_group,
    "int4 packed": int4_packed,
    "bnb int8": bitsandbytes_int8,
    "bnb nf4": bitsandbytes_nf4,
    "bnb fp4": bitsandbytes_fp4,
    "bnb nf4 nested": bitsandbytes_nested,
    "mlx 4bit": mlx_4bit,
    "gptq 4bit": gptq_4bit,
    "awq 4bit": awq_4bit,
}

IN_BF16 = ("int8 per row", "int8 per tensor", "int8 per group", "int4 packed", "mlx 4bit")
"""Those that compute in bfloat16, or from it."""


def _rint(values: np.ndarray, low: int, high: int) -> np.ndarray:
    return np.rint(values.astype(np.float32)).clip(low, high).astype(np.int64)


def _pack(codes: np.ndarray, order: range | tuple[int, ...]) -> np.ndarray:
    """Packs eight neighbours of the last axis into an int32, code k at place order[k]."""
    shifts = np.array([4 * place for place in order], np.uint64)
    groups = codes.astype(np.uint64).reshape(*codes.shape[:-1], -1, 8)
    return (groups << shifts).sum(-1, dtype=np.uint64).astype(np.uint32).view(np.int32)


def _with_zeros(w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns float16 scales and zero points, (rows, groups), and codes of 4 bits."""
    parts = w.reshape(w.shape[0], -1, GROUP)
    low, high = np.minimum(parts.min(2), 0), np.maximum(parts.max(2), 0)
    scales = ((high - low) / np.float32(15)).astype(np.float16)
    wide = scales.astype(np.float32)
    zeros = _rint(-low / wide, 0, 15)
    codes = (np.rint(parts / wide[:, :, None]) + zeros[:, :, None]).clip(0, 15)
    return scales, zeros, codes.reshape(w.shape).astype(np.int64)


def _nf4(w: np.ndarray, kind: str = "nf4") -> tuple[Stored, np.ndarray]:
    """Returns what is stored of a matrix but nested scales, and the peaks of its groups of 64."""
    groups = np.ascontiguousarray(w, np.float32).reshape(-1, 64)
    peaks = np.abs(groups).max(1)
    scaled = groups * (_ONE / peaks)[:, None]
    table = np.array(_NF4 if kind == "nf4" else _FP4, np.float32)
    codes = np.zeros(scaled.shape, np.uint8)
    nearest = np.full(scaled.shape, np.inf, np.float32)
    for code, value in enumerate(table):
        away = np.abs(scaled - value)
        codes[away < nearest] = code
        nearest = np.minimum(away, nearest)
    pairs = codes.reshape(-1, 2)
    return {
        ".weight": ("U8", (pairs[:, 0] << 4 | pairs[:, 1]).reshape(-1, 1)),
        ".weight.absmax": ("F32", peaks),
        ".weight.quant_map": ("F32", table),
        f".weight.quant_state.bitsandbytes__{kind}": ("U8", _state(w.shape, {"quant_type": kind})),
    }, peaks


def _state(shape: tuple[int, ...], more: dict[str, object]) -> np.ndarray:
    state = {"blocksize": 64, "dtype": "float32", "shape": list(shape), **more}
    return np.frombuffer(json.dumps(state).encode(), np.uint8)


def _dynamic_map() -> np.ndarray:
    """The table of bitsandbytes' nested scales."""
    found = [0.0, 1.0]
    for i in range(7):
        edges = np.linspace(0.1, 1, 2**i + 1, dtype=np.float32)
        means = (edges[:-1] + edges[1:]) / np.float32(2)
        found += [sign * 10.0 ** (i - 6) * float(mean) for mean in means for sign in (1, -1)]
    return np.sort(np.array(found, np.float32))
