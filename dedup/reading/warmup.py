"""Compiles the kernels that pushes and pulls need, before somebody waits for them.

Each is compiled at its first use, once for every processor, version and user. Tensors that are
coded here make that happen; where the kernels are in the cache (codecs/jit/cached.py), it takes a
moment.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np

from ...codecs.dtypes import BY_NAME, QUANTISED
from ...codecs.pipeline import decode_tensor, encode_tensor
from ..formats.cutting.content_chunks import cut_opaque
from ..model.sketch import make_query
from ..progress import Progress

# Every kernel has something to do, and none has much.
_VALUES = 1 << 14
_ROW = 128
_TEXT = b'{"model_type": "llama", "hidden_size": 2048}\n' * 4096

# What this process has prepared, with and without deltas.
_prepared: set[tuple[str, bool]] = set()

USUAL = ("BF16", "F16", "F32", "I8", "I64", "U8", "F8_E4M3", "Q8_0", "Q4_K", "Q6_K")
"""Dtypes of most models."""
EVERY = (*BY_NAME, *QUANTISED)
"""All of them."""


def prepare_kernels(
    dtypes: Iterable[str] = USUAL, progress: Progress | None = None, *, deltas: bool = True
) -> None:
    """Encodes and decodes a small tensor of each dtype, alone and, with `deltas`, against another,
    and cuts and sketches what a push does; what this process did already it does not do again."""
    progress = progress or Progress()
    known = [name for name in dict.fromkeys(dtypes) if name in BY_NAME or name in QUANTISED]
    left = [name for name in known if not {(name, deltas), (name, True)} & _prepared]
    if not left:
        return
    with progress.running("preparing kernels (once)", len(left), "kinds"):
        cut_opaque(io.BytesIO(_TEXT), 0, len(_TEXT))
        for name in left:
            _prepared.add((name, deltas))
            for raw, base in samples(name):
                make_query(memoryview(raw), name)
                decode_tensor(encode_tensor(raw, name))
                if deltas:
                    frame = encode_tensor(raw, name, base=base, columns=_ROW)
                    decode_tensor(frame, base=base)
            progress.advance(1)


def samples(name: str) -> list[tuple[bytes, bytes]]:
    """Returns tensors with bases, such as models have of a dtype."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.02, _VALUES).astype(np.float32)
    tuned = values + rng.normal(0, 1e-4, _VALUES).astype(np.float32)
    if name in QUANTISED:
        size = QUANTISED[name].group_bytes * (_VALUES // QUANTISED[name].group_elements)
        raw = rng.integers(0, 256, size, np.uint8)
        base = raw.copy()
        base[:: QUANTISED[name].group_bytes] ^= 1
        return [(raw.tobytes(), base.tobytes())]
    if name == "U8":
        edited = _TEXT.replace(b"2048", b"4096", 3)
        noise = rng.integers(0, 256, _VALUES, np.uint8).tobytes()
        return [(_TEXT, edited), (noise, noise[1:] + b"x")]
    return [(_store(values, name), _store(tuned, name))]


def _store(values: np.ndarray, name: str) -> bytes:
    floats = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
    if name in floats:
        return values.astype(floats[name]).tobytes()
    if name == "BF16":
        return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    return (values * 1000).astype(f"<i{BY_NAME[name].item_bytes}").tobytes()
