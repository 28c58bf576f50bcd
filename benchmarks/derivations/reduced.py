"""Makes copies of models that lack something: pruned ones, trimmed vocabularies, nested models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from ..support.weights import read_bf16

Arrays = Mapping[str, np.ndarray]
Case = tuple[str, str, dict[str, np.ndarray], tuple[Path, ...]]
"""Group, name, the tensors of the copy as bf16 words, and the files that it is computed from."""


def reduced_copies(corpus: Path) -> Iterator[Case]:
    """Yields the copies."""
    base = corpus / "minilm" / "base-bf16" / "model.safetensors"
    tuned = corpus / "minilm" / "tuned-a-bf16" / "model.safetensors"
    dense, after = read_bf16(base), read_bf16(tuned)
    for name, choose in _PRUNINGS.items():
        yield "pruned", f"pruned-{name}", _prune(dense, choose), (base,)
    yield "pruned", "tuned-pruned", _prune(after, _PRUNINGS["magnitude"]), (base,)


def _prune(tensors: Arrays, choose: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """Sets what is chosen by magnitude to zero, in all matrices."""
    pruned = {}
    for name, words in tensors.items():
        if words.ndim == 2:
            cut = choose(np.abs(words.view(ml_dtypes.bfloat16).astype(np.float32)))
            words = np.where(cut, np.uint16(0), words)
        pruned[name] = words
    return pruned


def _lowest(scores: np.ndarray, each: int) -> np.ndarray:
    """Chooses the lower half of every `each` neighbours."""
    rows = scores.reshape(-1, each)
    order = np.argsort(rows, axis=1, kind="stable")
    cut = np.zeros(rows.shape, bool)
    np.put_along_axis(cut, order[:, : each // 2], True, axis=1)
    return cut.reshape(scores.shape)


def _random(scores: np.ndarray) -> np.ndarray:
    return np.random.default_rng(scores.size).random(scores.shape) < 0.5


def _wanda(scores: np.ndarray) -> np.ndarray:
    norms = np.random.default_rng(scores.size).lognormal(0, 0.7, scores.shape[1])
    return _lowest(scores * norms, scores.shape[1])


_PRUNINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "magnitude": lambda scores: _lowest(scores, scores.size),
    "rows": lambda scores: _lowest(scores, scores.shape[1]),
    "random": _random,
    "2-of-4": lambda scores: _lowest(scores, 4),
    "wanda": _wanda,
}
