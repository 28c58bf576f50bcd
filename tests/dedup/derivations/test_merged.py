"""Weights of merges and adapters are found from values, and the formula that gives every bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np
import pytest

from weightvault.dedup.derivations.guesses import adapters, merged
from weightvault.dedup.derivations.guesses.kinds import Guess, Kind, Match, Pool, View
from weightvault.dedup.derivations.guesses.tensors import Companions, StoredTensor, Target
from weightvault.dedup.derivations.predict import Prediction
from weightvault.dedup.derivations.recipe import Piece

SHAPE = (64, 96)
BF16 = ml_dtypes.bfloat16


class Memory:
    """A reader of tensors, and a pool of all but the first of them."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.kept: dict[object, object] = {}
        self.others: list[StoredTensor] = []
        self._arrays = {bytes([i]) * 32: array for i, array in enumerate(arrays)}
        self.tensors = [
            StoredTensor("w", "BF16", SHAPE, (Piece(digest, array.nbytes),))
            for digest, array in self._arrays.items()
        ]

    def add(self, name: str, dtype: str, array: np.ndarray) -> None:
        """Adds a tensor that is like nothing."""
        digest = bytes([len(self._arrays)]) * 32
        self._arrays[digest] = array
        self.others.append(StoredTensor(name, dtype, array.shape, (Piece(digest, array.nbytes),)))

    def raw(self, tensor: StoredTensor, first: int, stop: int) -> np.ndarray:
        array = self._arrays[tensor.pieces[0].digest]
        return array.reshape(-1)[first:stop].view(np.uint8)

    def values(self, tensor: StoredTensor) -> Callable[[np.ndarray], np.ndarray]:
        array = self._arrays[tensor.pieces[0].digest]
        return lambda places: array.reshape(-1)[places].astype(np.float32)

    def items(self, tensor: StoredTensor, places: np.ndarray) -> np.ndarray:
        return self.raw(tensor, 0, tensor.elements).reshape(-1, 2)[places]

    def all_tensors(self) -> Iterator[StoredTensor]:
        return iter([*self.tensors[1:], *self.others])

    def matches(self, target: Target, view: View) -> Iterator[Match]:
        return (Match(tensor, None, 0.01) for tensor in self.tensors[1:] if view.admits(tensor))

    def load(self, digest: bytes, _: int) -> np.ndarray:
        return self._arrays[digest].reshape(-1).view(np.uint8)


def make_family() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    base = rng.normal(0, 0.05, SHAPE)
    moves = [rng.normal(0, 0.002, SHAPE) for _ in range(3)]
    return [values.astype(BF16) for values in (base, *(base + move for move in moves))]


def guesses(memory: Memory, kind: Kind = merged.KIND) -> list[Guess]:
    target = Target(
        memory.tensors[0], memory.values(memory.tensors[0]), Companions(lambda: ()), memory
    )
    pool: Pool = memory
    return [guess for _, guess in kind.guesses(target, pool)]


def wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)


MERGES = {
    "mean": lambda base, a, b, c: (wide(a) + wide(b)) / 2,
    "bf16 sum": lambda base, a, b, c: a * BF16(0.3) + b * BF16(0.7),
    "uneven": lambda base, a, b, c: wide(c) * np.float32(0.35) + wide(b) * np.float32(0.65),
    "soup": lambda base, a, b, c: (wide(a) + wide(b) + wide(c)) / np.float32(3),
    "task": lambda base, a, b, c: base + ((a - base) + (b - base)) * BF16(0.5),
    "moved on": lambda base, a, b, c: wide(base) + np.float32(1.5) * (wide(a) - wide(base)),
}


@pytest.mark.parametrize("kind", MERGES)
def test_a_merge_is_computed_to_the_bit(kind: str):
    family = make_family()
    target = np.asarray(MERGES[kind](*family)).astype(BF16)
    memory = Memory([target, *family])
    check(memory, target, guesses(memory))


def check(memory: Memory, target: np.ndarray, found: list[Guess]) -> None:
    """The guess gives the target."""
    (guess,) = found
    recipe = guess.recipe(0, target.reshape(-1).view(np.uint8))
    assert recipe is not None
    out = np.empty(target.nbytes, np.uint8)
    Prediction(recipe, "BF16", target.nbytes, memory.load).fill(0, out)
    assert (out.view(np.uint16) == target.reshape(-1).view(np.uint16)).mean() > 0.999


def test_another_tune_is_no_merge_and_is_not_asked_for_again():
    family = make_family()
    rng = np.random.default_rng(5)
    other = (wide(family[0]) + rng.normal(0, 0.002, SHAPE)).astype(BF16)
    memory = Memory([other, *family])
    assert all(guesses(memory) == [] for _ in range(3))
    memory.matches = None  # type: ignore[assignment,method-assign]
    assert guesses(memory) == []


def test_values_that_are_not_finite_do_not_count():
    rng = np.random.default_rng(1)
    sources = rng.normal(0, 1, (3, 500)).astype(np.float32)
    target = 0.25 * sources[0] + 0.75 * sources[2]
    sources[1, 7], target[9], sources[0, 11] = np.nan, np.inf, -np.inf
    weights = merged.solve(target, sources)
    assert weights is not None
    np.testing.assert_allclose(weights, [0.25, 0, 0.75], atol=1e-5)
    assert next(merged.round_weights(weights)) == (0.25, 0.0, 0.75)


def test_one_source_alone_is_no_merge():
    assert list(merged.round_weights(np.array([1.0, 0.0, 0.0]))) == []


@pytest.mark.parametrize(("alpha", "narrow"), [(16, True), (8, False), (1, True)])
def test_a_merged_adapter_is_found_by_its_matrices(alpha: float, narrow: bool):
    base, target, sides = make_adapter(alpha, narrow=narrow)
    memory = Memory([target, base])
    for name, matrix in sides.items():
        memory.add(name, "F32", matrix)
    check(memory, target, guesses(memory, adapters.KIND))


def test_what_an_adapter_was_merged_into_is_not_computed_from_the_sum():
    base, target, sides = make_adapter(16, narrow=True)
    memory = Memory([base, target])
    for name, matrix in sides.items():
        memory.add(name, "F32", matrix)
    assert guesses(memory, adapters.KIND) == []


def make_adapter(
    alpha: float, *, narrow: bool
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """A matrix, the same with an adapter merged into it, and the adapter."""
    rng = np.random.default_rng(7)
    base = rng.normal(0, 0.05, SHAPE).astype(BF16)
    right = rng.normal(0, 0.05, (8, SHAPE[1])).astype(np.float32)
    left = rng.normal(0, 0.02, (SHAPE[0], 8)).astype(np.float32)
    change = (left @ right) * np.float32(alpha / 8)
    change = wide(change.astype(BF16)) if narrow else change
    target = (wide(base) + change).astype(BF16)
    return base, target, {"x.lora_A.w": right, "x.lora_B.w": left}


def test_an_adapter_of_something_else_is_none():
    rng = np.random.default_rng(8)
    base = rng.normal(0, 0.05, SHAPE).astype(BF16)
    tuned = (wide(base) + rng.normal(0, 0.002, SHAPE)).astype(BF16)
    memory = Memory([tuned, base])
    memory.add("x.lora_A.w", "F32", rng.normal(0, 1, (8, SHAPE[1])).astype(np.float32))
    memory.add("x.lora_B.w", "F32", rng.normal(0, 1, (SHAPE[0], 8)).astype(np.float32))
    assert guesses(memory, adapters.KIND) == []
