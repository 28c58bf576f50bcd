"""Sources for the block types of GGUF, the same everywhere: made of integers alone."""

import numpy as np
from numpy.typing import NDArray

BLOCK = 256
_LEAST = np.float32(2.0**-149)


def make_integers(count: int, seed: int = 1) -> list[int]:
    """Returns 32-bit integers of a linear congruential generator (Knuth's MMIX constants)."""
    state, found = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        found.append(state >> 32)
    return found


def make_weights(blocks: int, seed: int = 1) -> NDArray[np.float32]:
    """Returns (blocks * 256,) float32 like weights: bell-shaped, of another size in each block."""
    numbers = np.array(make_integers(blocks * BLOCK, seed), np.uint64)
    bells = np.full(numbers.size, -510, np.int64)
    for shift in (0, 8, 16, 24):
        bells += ((numbers >> np.uint64(shift)) & np.uint64(255)).astype(np.int64)
    sizes = np.array([2.0 ** -(11 + i % 11) for i in range(blocks)], np.float32)
    return (bells.reshape(blocks, -1).astype(np.float32) * sizes[:, None]).ravel()


def make_edges() -> NDArray[np.float32]:
    """Returns blocks of 256 float32 that no trained tensor has: nothing, constants, infinities,
    NaNs, subnormals, the largest floats, single outliers, runs of equal and of opposite values."""
    plain = make_weights(1, seed=7)
    ramp = np.arange(BLOCK, dtype=np.float32)
    signs = np.where(ramp % 2, -1, 1).astype(np.float32)
    blocks = [
        np.zeros(BLOCK, np.float32),
        np.full(BLOCK, -0.0, np.float32),
        *(np.full(BLOCK, value, np.float32) for value in (1.5, -0.1, 3e-16, 1e-38, 65519.9, 3e38)),
        *(_with(plain, value) for value in (np.inf, -np.inf, np.nan, 3.4e38, -7e4, -0.0)),
        np.where(ramp < 128, np.inf, -np.inf).astype(np.float32),
        np.full(BLOCK, np.nan, np.float32),
        ramp * _LEAST,
        signs * _LEAST,
        signs * np.float32(3.4e38),
        plain * np.float32(2.0**-120),
        plain * np.float32(1e-12),
        plain * np.float32(1e15),
        np.where(ramp == 77, np.float32(2), np.float32(0)),
        np.where(ramp < 16, plain, np.float32(0)),
        np.where(ramp < 40, plain, plain * np.float32(1e-5)),
        abs(plain),
        -abs(plain),
        ramp - np.float32(100),
        signs,
    ]
    return np.concatenate(blocks).astype(np.float32)


def _with(plain: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    changed = plain.copy()
    changed[[3, 40, 200]] = value
    return changed
