"""Small pairs of tensors of every dtype, in the ways that real ones differ."""

import numpy as np
from tensor_samples import sample_bytes

from weightvault.codecs.dtypes import BY_NAME

KINDS = ("tuned", "rare", "random", "same", "unrelated", "moved")


def sample_pair(kind: str, dtype: str, length: int, seed: int) -> tuple[bytes, bytes]:
    """Returns a tensor and its base, ``length`` bytes each.

    "tuned": every element moves by about the same amount, rows more or less than others. "rare":
    one element in 50 changes. "random": any bit pattern against any other. "same": no difference.
    "unrelated": weights of another tensor. "moved": all values grow by about a third.
    """
    rng = np.random.default_rng(seed)
    base = sample_bytes("random" if kind == "random" else "weights", dtype, length, seed)
    if kind == "same":
        return base, base
    if kind == "random":
        return rng.bytes(length), base
    if kind == "unrelated":
        return sample_bytes("weights", dtype, length, seed + 1), base
    size = BY_NAME[dtype].item_bytes
    words = np.frombuffer(base[: length - length % size], f"u{size}")
    changed = _change(kind, words, dtype, rng)
    return changed.tobytes() + rng.bytes(length % size), base


def _change(kind: str, words: np.ndarray, dtype: str, rng: np.random.Generator) -> np.ndarray:
    if kind == "rare":
        where = rng.random(words.size) < 0.02
        steps = rng.integers(-3, 4, words.size).astype(words.dtype)
        return np.where(where, words + steps, words)
    if not dtype.startswith(("BF16", "F16", "F32", "F64")):
        spread = 40 if kind == "moved" else 2
        return words + rng.normal(0, spread, words.size).astype(np.int64).astype(words.dtype)
    values = _widen(words, dtype)
    if kind == "moved":
        return _narrow(values * rng.normal(1.33, 0.02, values.size), dtype)
    scale = np.repeat(2.0 ** rng.integers(-3, 3, values.size // 100 + 1), 100)[: values.size]
    return _narrow(values + rng.normal(0, 1e-4, values.size) * scale, dtype)


def _widen(words: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        return (words.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return words.view(f"f{words.itemsize}").astype(np.float64)


def _narrow(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        bits = values.astype(np.float32).view(np.uint32)
        return ((bits + 0x8000) >> 16).astype(np.uint16)
    size = BY_NAME[dtype].item_bytes
    return values.astype(f"f{size}").view(f"u{size}")
