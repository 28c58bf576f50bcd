"""Writes the golden frames that are missing: ``python tests/codecs/make_golden.py``.

A golden frame is never written again. What it decodes to is in it: its header holds the digest.
Names are ``v<format version>-<codec>-<what is in it>.frame``; a delta stands against the frame of
its ``BASE``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from weightvault.codecs.frame import CODEC_IDS, VERSION
from weightvault.codecs.pipeline import decode_tensor, encode_tensor

GOLDEN = Path(__file__).parent / "golden"
BASE = "v1-planes-bf16.frame"


def _weights(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, count).astype(np.float32)


def _bf16(values: np.ndarray) -> np.ndarray:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def codec_of(name: str) -> str:
    """Returns the codec that a golden frame's name begins with, after its version."""
    return max((codec for codec in CODEC_IDS if name.startswith(f"{codec}-")), key=len)


def _samples() -> Iterator[tuple[str, np.ndarray, str, dict[str, Any]]]:
    """Yields what follows the codec in the name, the tensor, its dtype, and how to encode it."""
    rng = np.random.default_rng(2)
    weights = _weights(2500, 1)
    scales = np.repeat(np.float32(2) ** rng.integers(-3, 4, 40), 512)
    groups = np.ldexp(np.float32(1), np.frexp(_weights(20_480, 6) * scales)[1])
    pruned = np.where(rng.random(4000) < 0.7, 0, _weights(4000, 3)).astype(np.float32)
    small = np.round(rng.normal(0, 2, 3000)).astype(np.int32)
    yield "raw-random", rng.integers(0, 256, 301, np.uint8), "U8", {}
    yield "raw-empty", np.zeros(0, np.uint8), "U8", {}
    yield "constant-f32", np.full(1000, 0.5, np.float32), "F32", {}
    yield "zstd-text", np.frombuffer(b"weights and measures; " * 40, np.uint8), "U8", {}
    yield "planes-bf16", _bf16(_weights(3000, 5)), "BF16", {}
    yield "planes-f16", weights.astype(np.float16), "F16", {}
    yield "planes-f32", weights, "F32", {}
    yield "planes-f64", weights.astype(np.float64), "F64", {}
    yield "planes-i32", small, "I32", {}
    yield "planes-i8", small.astype(np.int8), "I8", {}
    yield "planes-palette", rng.choice(_bf16(weights[:3]), 4000), "BF16", {}
    yield "planes-sparse", _bf16(pruned), "BF16", {}
    yield "planes-odd", np.frombuffer(_bf16(weights).tobytes()[:-1], np.uint8), "BF16", {}
    yield "planes-by-previous", _bf16(np.round(_weights(9000, 8) * 5_000)), "BF16", {"level": "max"}
    yield "planes-by-group", groups.astype(np.float32), "F32", {"level": "max"}
    fast = {"level": "fast"}
    yield "planes-bf16-prefix", _bf16(_weights(3000, 20)), "BF16", fast
    yield "planes-f16-prefix", _weights(9000, 21).astype(np.float16), "F16", fast
    yield "planes-f32-prefix", _weights(3000, 22), "F32", fast
    yield from _multiples()
    yield "bitx-bf16", _bf16(_weights(3000, 5) * np.float32(1.01)), "BF16", {"base": BASE}
    yield from _deltas()


def _multiples() -> Iterator[tuple[str, np.ndarray, str, dict[str, Any]]]:
    """Yields integers of up to 8 bits times a scale for each 96, or divided by it, and a few
    others."""
    rng = np.random.default_rng(12)
    integers = np.clip(np.round(rng.normal(0, 40, (30, 96))), -127, 127).astype(np.float32)
    scales = np.abs(_weights(30, 13)).reshape(30, 1)
    scales = _bf16(scales).astype(np.uint32) << 16
    times, over = integers * scales.view(np.float32), integers / scales.view(np.float32)
    over[:, 5] = -0.0
    over[3, 7:9] = np.nan, 1e30
    # Rounded to nearest: half of what is cut off is added before.
    cut = _bf16((times.view(np.uint32) + np.uint32(0x8000)).view(np.float32)).reshape(-1)[40:]
    yield "multiples-bf16", cut, "BF16", {"columns": 96}
    yield "multiples-f16", times.astype(np.float16), "F16", {"columns": 96}
    yield "multiples-f32-over", over, "F32", {"columns": 96}


def _deltas() -> Iterator[tuple[str, np.ndarray, str, dict[str, Any]]]:
    """Yields tensors with a base among the golden frames, as ``_samples`` does."""
    rng = np.random.default_rng(9)
    values = _weights(3000, 5)
    moved = values + _weights(3000, 10) * np.repeat(np.array([0.001, 0.01, 0.1], np.float32), 1000)
    rare = np.where(rng.random(3000) < 0.03, moved, values).astype(np.float32)
    tuned = values + _weights(3000, 23) * np.float32(0.05)
    small = np.frombuffer(decode_tensor((GOLDEN / "v1-planes-i8.frame").read_bytes()), np.int8)
    step = np.round(_weights(3000, 24) * 80).astype(np.int8)
    f16, f32, f64 = (
        _weights(2500, 1).astype(kind) for kind in (np.float16, np.float32, np.float64)
    )
    against = {"base": BASE}
    yield "difference-bf16", _bf16(moved), "BF16", against
    yield "difference-bf16-columns", _bf16(moved), "BF16", against | {"columns": 100}
    yield (
        "difference-bf16-odd",
        np.frombuffer(_bf16(moved).tobytes()[:-1], np.uint8),
        "BF16",
        {
            "base": BASE,
            "rows": [(0, 0, 5999)],
        },
    )
    longer = np.concatenate([_bf16(moved)[:1500], _bf16(_weights(700, 11)), _bf16(moved)[1500:]])
    rows = [(0, 0, 3000), (4400, 3000, 3000)]
    yield "difference-bf16-rows", longer, "BF16", against | {"rows": rows}
    yield "difference-f16", f16 * np.float16(1.01), "F16", {"base": "v1-planes-f16.frame"}
    yield "difference-f32", f32 + f32[::-1] / 1000, "F32", {"base": "v1-planes-f32.frame"}
    yield "difference-f32-moved", f32 * np.float32(1.4), "F32", {"base": "v1-planes-f32.frame"}
    yield "difference-f64", f64 + f64[::-1] / 1000, "F64", {"base": "v1-planes-f64.frame"}
    fast = {"level": "fast"}
    yield "difference-bf16-prefix", _bf16(tuned), "BF16", against | fast
    yield (
        "difference-f32-prefix",
        f32 + f32[::-1] / 900,
        "F32",
        {"base": "v1-planes-f32.frame"} | fast,
    )
    yield "difference-i8-prefix", small + step, "I8", {"base": "v1-planes-i8.frame"} | fast
    yield "sparse-bf16", _bf16(rare), "BF16", against
    yield "identical-bf16", _bf16(values), "BF16", against
    yield "xor-context-bf16", _bf16(moved), "BF16", against
    yield from _texts()


def _texts() -> Iterator[tuple[str, np.ndarray, str, dict[str, Any]]]:
    config = b'{\n  "architectures": [\n    "BertModel"\n  ],\n  "hidden_size": 384\n}\n'
    edited = b"weights, and " + b"weights and measures; " * 40 + b"the end"
    yield "zstd-dictionary-config", np.frombuffer(config, np.uint8), "U8", {}
    base = {"base": "v1-zstd-text.frame", "rows": [(0, 0, 880)]}
    yield "zstd-patch-longer", np.frombuffer(edited, np.uint8), "U8", base


def write_missing() -> list[str]:
    """Writes every golden frame of this version that is not there yet; returns their names."""
    GOLDEN.mkdir(exist_ok=True)
    written = []
    for name, tensor, dtype, how in _samples():
        path = GOLDEN / f"v{VERSION}-{name}.frame"
        if path.exists():
            continue
        options: dict[str, Any] = dict(how)
        base = options.pop("base", None)
        if base is not None:
            options["base"] = decode_tensor((GOLDEN / base).read_bytes())
        path.write_bytes(encode_tensor(tensor, dtype, codec=codec_of(name), **options))
        written.append(path.name)
    return written


if __name__ == "__main__":
    print("\n".join(write_missing()) or "nothing is missing")
