"""The pairs of tensors that the benchmark of deltas measures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..support.weights import round_to_bf16

Tensors = dict[str, np.ndarray]
_WORDS = {"BF16": np.uint16, "F32": np.uint32}
_MODELS = (
    ("tuned-a", "base-bf16", "tuned-a-bf16"),
    ("tuned-b", "base-bf16", "tuned-b-bf16"),
    ("frozen embeddings", "base-bf16", "tuned-frozen-embeddings-bf16"),
    ("checkpoints", "checkpoint-120-bf16", "checkpoint-180-bf16"),
)
_RARE = 0.005


@dataclass(frozen=True)
class Pair:
    """Tensors and their bases by name, as unsigned words in their shapes, of one dtype."""

    name: str
    dtype: str
    tensors: Tensors
    bases: Tensors

    @property
    def raw_bytes(self) -> int:
        """The length of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def joined(self) -> Pair:
        """Returns the same pair laid end to end, as one tensor."""
        both = (self.tensors, self.bases)
        tensor, base = (
            np.concatenate([one[name].ravel() for name in self.tensors]) for one in both
        )
        return Pair(self.name, self.dtype, {"all": tensor}, {"all": base})


def read_words(path: Path) -> Tensors:
    """Returns the tensors of a safetensors file as words."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in entry["data_offsets"])
            words = np.frombuffer(data[begin:end], _WORDS[entry["dtype"]])
            tensors[name] = words.reshape(entry["shape"])
    return tensors


def read_pairs(corpus: Path) -> Iterator[Pair]:
    """Yields the pairs of ``corpus``/minilm, and those made from them."""
    folder = corpus / "minilm"

    def read(model: str, file: str = "model") -> Tensors:
        return read_words(folder / model / f"{file}.safetensors")

    for name, base, tuned in _MODELS:
        yield Pair(name, "BF16", read(tuned), read(base))
    tensors, bases = read("tuned-a"), read("base")
    yield Pair("tuned-a in F32", "F32", tensors, bases)
    yield Pair("tuned-a in F16", "F16", _as_f16(tensors), _as_f16(bases))
    moments = (read(model, "optimizer") for model in ("checkpoint-180-bf16", "checkpoint-120-bf16"))
    yield Pair("optimiser state", "F32", *moments)
    yield _trained_in_bf16(bases)
    yield _rarely_changed(read("base-bf16"))


def _as_f16(tensors: Tensors) -> Tensors:
    halves = {name: words.view(np.float32).astype(np.float16) for name, words in tensors.items()}
    return {name: values.view(np.uint16) for name, values in halves.items()}


def _trained_in_bf16(bases: Tensors, steps: int = 60, rate: float = 2e-5) -> Pair:
    """Walks BF16 weights by Adam-like steps that are rounded away wherever they are less than
    half a unit in the last place.
    """
    rng = np.random.default_rng(1)
    before = {name: round_to_bf16(words.view(np.float32)) for name, words in bases.items()}
    after = dict(before)
    for name, words in before.items():
        drift = rng.normal(0, 1, words.shape).astype(np.float32)
        for _ in range(steps):
            step = np.tanh(drift + rng.normal(0, 0.5, words.shape).astype(np.float32))
            values = (after[name].astype(np.uint32) << 16).view(np.float32)
            after[name] = round_to_bf16(values - np.float32(rate) * step)
    return Pair("trained in BF16 (synthetic)", "BF16", after, before)


def _rarely_changed(bases: Tensors) -> Pair:
    """Gives one word in 200 any other value, in all tensors laid end to end."""
    rng = np.random.default_rng(2)
    base = np.concatenate([words.ravel() for words in bases.values()])
    changed = rng.random(base.size) < _RARE
    tensor = np.where(changed, rng.integers(0, 1 << 16, base.size, np.uint16), base)
    return Pair("0.5 % of words at random", "BF16", {"all": tensor}, {"all": base})


def patch_entropy(pair: Pair) -> float:
    """Returns the bytes that the places of changed words and random values for them take."""
    tensor, base = pair.tensors["all"], pair.bases["all"]
    share = float(np.mean(tensor != base))
    places = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    return tensor.size * (places + share * 8 * tensor.itemsize) / 8
