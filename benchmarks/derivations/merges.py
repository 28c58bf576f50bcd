"""Makes merges of fine-tunes: means, weighted sums, soups and task arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from ..support.weights import read_bf16
from .reduced import Case

_BF16 = ml_dtypes.bfloat16
Floats = np.ndarray


def merged_copies(corpus: Path) -> Iterator[Case]:
    """Yields the copies, after their base and three fine-tunes."""
    folders = ("base-bf16", "tuned-a-bf16", "tuned-b-bf16", "tuned-frozen-embeddings-bf16")
    paths = tuple(corpus / "minilm" / folder / "model.safetensors" for folder in folders)
    tensors = [{n: w.view(_BF16) for n, w in read_bf16(path).items()} for path in paths]
    for label, merge in _MERGES.items():
        words = {
            name: np.asarray(merge(*(each[name] for each in tensors))).astype(_BF16).view(np.uint16)
            for name in tensors[0]
        }
        yield "merges", f"merged-{label}", words, paths


def _wide(values: Floats) -> Floats:
    return values.astype(np.float32)


def _task(base: Floats, one: Floats, other: Floats, _: Floats) -> Floats:
    moved = (one - base) + (other - base)
    return base + moved * _BF16(0.5)


_MERGES: dict[str, Callable[..., Floats]] = {
    "mean": lambda base, a, b, c: (_wide(a) + _wide(b)) / 2,
    "sum-in-bf16": lambda base, a, b, c: a * _BF16(0.3) + b * _BF16(0.7),
    "uneven": lambda base, a, b, c: _wide(a) * np.float32(0.35) + _wide(b) * np.float32(0.65),
    "soup": lambda base, a, b, c: (_wide(a) + _wide(b) + _wide(c)) / np.float32(3),
    "task-arithmetic": _task,
    "half-back": lambda base, a, b, c: _wide(base) + np.float32(0.5) * (_wide(b) - _wide(base)),
}
