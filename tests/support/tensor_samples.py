"""Small tensors of every dtype, in the shapes of data that real stores hold."""

import numpy as np

from weightvault.codecs.dtypes import BY_NAME

DTYPES = sorted(BY_NAME)


def sample_bytes(kind: str, dtype: str, length: int, seed: int) -> bytes:
    """Returns ``length`` bytes: "weights", "random", "zeros", "few" values, "pruned" weights, or
    "runs".
    """
    rng = np.random.default_rng(seed)
    size = BY_NAME[dtype].item_bytes
    count = length // size + 1
    if kind == "random":
        return rng.bytes(length)
    if kind == "zeros":
        return bytes(length)
    if kind == "runs":
        return np.repeat(_weights(rng, dtype, count // 100 + 1), 100)[:count].tobytes()[:length]
    values = _weights(rng, dtype, count)
    if kind == "few":
        values = rng.choice(values[:3], count)
    elif kind == "pruned":
        values[rng.random(count) < 0.5] = 0
    return values.tobytes()[:length]


def _weights(rng: np.random.Generator, dtype: str, count: int) -> np.ndarray:
    """Bell-shaped values of ``dtype``, as unsigned integers."""
    values = rng.normal(0, 0.02, count)
    if dtype == "F64":
        return values.view(np.uint64)
    if dtype in ("F32", "F16"):
        return values.astype({"F32": "f4", "F16": "f2"}[dtype]).view(
            {"F32": "u4", "F16": "u2"}[dtype]
        )
    bits = values.astype("f4").view("u4")
    if dtype == "BF16":
        return (bits >> 16).astype(np.uint16)
    if dtype == "F8_E5M2":
        return (values.astype("f2").view("u2") >> 8).astype(np.uint8)
    size = BY_NAME[dtype].item_bytes
    return np.round(values * 1000).astype(f"i{size}").view(f"u{size}")
