"""Families of tensors to find again: real weights with real and realistic updates.

Centres are tensors of all-MiniLM-L6-v2 and of a corpus's models. Members are made as training
makes them: a corpus's fine-tunes and checkpoints are real; the rest are steps of AdamW's size
(about the same for every weight, sparse where embeddings are concerned), merged low-rank updates,
and later checkpoints of such a run, all rounded to bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..support.weights import round_to_bf16

Words = NDArray[np.uint16]

# Learning rate times steps that stay correlated, as absolute movement; 2e-5 over some hundred steps
# gives about 1e-4, 1e-4 about 5e-4 (the corpus's fine-tunes measure 0.8e-4 and 4e-4).
_MOVEMENTS = (3e-5, 1e-4, 3e-4, 6e-4)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A tensor with the family it is of, None for one that has no relatives; `words` are bfloat16
    in its shape. `source`: "real", "realistic" or "alone"."""

    family: int | None
    words: Words
    source: str


def make_families(centres: list[NDArray[np.float32]], seed: int) -> Iterator[Labelled]:
    """Yields for each centre a family of 5 to 20 members, the centre itself one of them."""
    rng = np.random.default_rng(seed)
    for number, centre in enumerate(centres):
        yield Labelled(number, round_to_bf16(centre), "real")
        for _ in range(int(rng.integers(4, 20))):
            update = _UPDATES[int(rng.integers(len(_UPDATES)))](centre, rng)
            yield Labelled(number, round_to_bf16(centre + update), "realistic")


def make_strangers(shape: tuple[int, ...], seed: int) -> Iterator[Labelled]:
    """Yields tensors of one shape that are alike in kind and not related, of all kinds that
    models have besides weights."""
    rng = np.random.default_rng(seed)
    rows, columns = shape
    waves = np.arange(columns)[None] / 10.0 ** rng.uniform(1, 4, 3)[:, None, None]
    for i in range(3):
        row = rng.normal(0, 1, columns)
        yield from (
            _stranger(1 + rng.normal(0, 0.02, shape)),
            _stranger(rng.normal(0, 1e-4, shape)),
            _stranger(np.tile(row, (rows, 1))),
            _stranger(np.sin(np.arange(rows)[:, None] * waves[i] + i)),
            _stranger(np.where(rng.random(shape) < 0.03, rng.normal(0, 1, shape), 0)),
            _stranger(np.full(shape, rng.normal())),
        )


def _stranger(values: NDArray[np.float64]) -> Labelled:
    return Labelled(None, round_to_bf16(values.astype(np.float32)), "alone")


def _adamw(centre: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    scale = float(rng.choice(_MOVEMENTS))
    return rng.normal(0, scale, centre.shape).astype(np.float32)


def _sparse_rows(centre: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    rows = rng.random(centre.shape[0]) < 0.3
    return _adamw(centre, rng) * rows[:, None]


def _low_rank(centre: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    rank, scale = 8, float(rng.choice(_MOVEMENTS))
    left = rng.normal(0, 1, (centre.shape[0], rank))
    right = rng.normal(0, scale / np.sqrt(rank), (rank, centre.shape[1]))
    return (left @ right).astype(np.float32)


_UPDATES = (_adamw, _adamw, _sparse_rows, _low_rank)
