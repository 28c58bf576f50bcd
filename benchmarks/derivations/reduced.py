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
    for name, make in _CUTS.items():
        yield "rows", name, make(dense), (base,)
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


def _trim(tensors: Arrays, choose: Callable[[int], np.ndarray]) -> dict[str, np.ndarray]:
    """Takes half of the vocabulary's rows."""
    trimmed = dict(tensors)
    (name,) = (name for name in tensors if name.endswith("word_embeddings.weight"))
    trimmed[name] = tensors[name][choose(len(tensors[name]))]
    return trimmed


def _nest(tensors: Arrays) -> dict[str, np.ndarray]:
    """Takes the first 256 of 384, of rows and columns."""
    wide, kept = 384, 256
    nested = {}
    for name, words in tensors.items():
        sides = tuple(slice(kept if side == wide else None) for side in words.shape)
        nested[name] = np.ascontiguousarray(words[sides])
    return nested


def _prune_structures(tensors: Arrays) -> dict[str, np.ndarray]:
    """Takes out a third of the heads, and of the inner rows of the feed-forward layers."""
    rng = np.random.default_rng(1)
    heads = np.sort(rng.choice(12, 8, replace=False))
    of_heads = (heads[:, None] * 32 + np.arange(32)).reshape(-1)
    inner = np.sort(rng.choice(1536, 1024, replace=False))
    kept = dict(tensors)
    for name, words in tensors.items():
        if "attention.self" in name:
            kept[name] = words[of_heads]
        elif "attention.output.dense.weight" in name:
            kept[name] = np.ascontiguousarray(words[:, of_heads])
        elif "intermediate" in name:
            kept[name] = words[inner]
        elif "output.dense.weight" in name:
            kept[name] = np.ascontiguousarray(words[:, inner])
    return kept


def _fuse(tensors: Arrays) -> dict[str, np.ndarray]:
    """Stacks query, key and value projections."""
    fused = dict(tensors)
    for name in tensors:
        if "self.query" in name:
            parts = [fused.pop(name.replace("query", part)) for part in ("query", "key", "value")]
            fused[name.replace("query", "qkv")] = np.concatenate(parts)
    return fused


_CUTS: dict[str, Callable[[Arrays], dict[str, np.ndarray]]] = {
    "trimmed-prefix": lambda tensors: _trim(tensors, lambda rows: np.arange(rows // 2)),
    "trimmed-scattered": lambda tensors: _trim(
        tensors, lambda rows: np.sort(np.random.default_rng(2).permutation(rows)[: rows // 2])
    ),
    "nested": _nest,
    "heads-and-inner-rows": _prune_structures,
    "fused-qkv": _fuse,
}
