"""Trains a small language model for real and yields its checkpoints, the same on every run.

A multilayer perceptron tells the next of 256 symbols from the eight before it (Bengio et al.,
JMLR 3, 2003), on text that a random Markov chain of second order makes. Adam with a learning rate
that falls by a cosine, as most runs have. Some 0.7 million weights, a minute on one core.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Weights = dict[str, Floats]

SYMBOLS, CONTEXT, WIDTH, HIDDEN = 256, 8, 48, 320
_BATCH = 64
_TEXT = 200_000
_RATE, _FIRST, _SECOND = 4e-4, 0.9, 0.999


def train_checkpoints(count: int, steps: int, seed: int = 1) -> Iterator[Weights]:
    """Yields `count` checkpoints, float32 by name, one for each `steps` steps of one run."""
    rng = np.random.default_rng(seed)
    text, weights = _make_text(rng), _make_weights(rng)
    first = {name: np.zeros_like(value) for name, value in weights.items()}
    second = {name: np.zeros_like(value) for name, value in weights.items()}
    for step in range(1, count * steps + 1):
        starts = rng.integers(0, _TEXT - CONTEXT - 1, _BATCH)
        window = text[starts[:, None] + np.arange(CONTEXT + 1)]
        gradients = _gradients(weights, window[:, :-1], window[:, -1])
        rate = _RATE * 0.5 * (1 + np.cos(np.pi * step / (count * steps + steps)))
        for name, gradient in gradients.items():
            first[name] += np.float32(1 - _FIRST) * (gradient - first[name])
            second[name] += np.float32(1 - _SECOND) * (gradient**2 - second[name])
            mean = first[name] / np.float32(1 - _FIRST**step)
            spread = np.sqrt(second[name] / np.float32(1 - _SECOND**step)) + np.float32(1e-8)
            weights[name] -= np.float32(rate) * mean / spread
        if step % steps == 0:
            yield {name: value.copy() for name, value in weights.items()}


def to_bf16(values: Floats) -> NDArray[np.uint16]:
    """Returns the words of float32 values rounded to BF16, to nearest, ties to even."""
    words = values.view(np.uint32)
    return ((words + np.uint32(0x7FFF) + (words >> np.uint32(16) & np.uint32(1))) >> 16).astype(
        "<u2"
    )


def _make_text(rng: np.random.Generator) -> NDArray[np.intp]:
    """Symbols of which each is one of four that may follow the two before it."""
    followers = rng.integers(0, SYMBOLS, (SYMBOLS, 16, 4))
    choices = rng.choice(4, _TEXT, p=[0.6, 0.25, 0.1, 0.05])
    text = np.zeros(_TEXT, np.intp)
    for i in range(2, _TEXT):
        text[i] = followers[text[i - 1], text[i - 2] % 16, choices[i]]
    return text


def _make_weights(rng: np.random.Generator) -> Weights:
    shapes = {
        "embedding.weight": (SYMBOLS, WIDTH),
        "layers.0.weight": (CONTEXT * WIDTH, HIDDEN),
        "layers.1.weight": (HIDDEN, HIDDEN),
        "layers.2.weight": (HIDDEN, HIDDEN),
        "head.weight": (HIDDEN, SYMBOLS),
    }
    made = {n: rng.normal(0, shape[0] ** -0.5, shape) for n, shape in shapes.items()}
    made |= {f"layers.{i}.bias": np.zeros(HIDDEN) for i in range(3)}
    return {name: value.astype(np.float32) for name, value in made.items()}


def _gradients(weights: Weights, before: NDArray[np.intp], after: NDArray[np.intp]) -> Weights:
    """The gradients of the mean cross-entropy of `after`, (n,), given `before`, (n, CONTEXT)."""
    rows = len(after)
    inputs = [weights["embedding.weight"][before].reshape(rows, -1)]
    for i in range(3):
        inputs.append(
            np.tanh(inputs[-1] @ weights[f"layers.{i}.weight"] + weights[f"layers.{i}.bias"])
        )
    scores = inputs[-1] @ weights["head.weight"]
    shares = np.exp(scores - scores.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    shares[np.arange(rows), after] -= 1
    error = shares / np.float32(rows)
    found = {"head.weight": inputs[-1].T @ error}
    error = error @ weights["head.weight"].T
    for i in reversed(range(3)):
        error = error * (1 - inputs[i + 1] ** 2)
        found[f"layers.{i}.weight"] = inputs[i].T @ error
        found[f"layers.{i}.bias"] = error.sum(0)
        error = error @ weights[f"layers.{i}.weight"].T
    embedding = np.zeros_like(weights["embedding.weight"])
    np.add.at(embedding, before, error.reshape(rows, CONTEXT, WIDTH))
    return found | {"embedding.weight": embedding}
