"""Alters stored blocks of level ``fast`` and decodes them, compiled, on every path.

    python -m weightvault.benchmarks.codecs.fuzz_prefix [--seconds 120] [--seed 0]

Ends after so many blocks or seconds, whichever comes first; start it again with another seed for
more. A block that decodes to anything but a ``FrameError`` or bytes of the promised length, that
touches memory beyond them, or that gives other bytes on another path is a finding.
``fuzz_codecs`` is guided by coverage instead, and a thousand times slower.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from ...codecs.blocks.blocks import BLOCK_SLACK, encode_block
from ...codecs.blocks.parallel import choose_effort
from ...codecs.buffers import Bytes, freeze
from ...codecs.delta.blocks import BlockJob, decode_part, encode_part
from ...codecs.delta.deltas import LAYOUTS, choose_wishes
from ...codecs.dtypes import BY_NAME, Dtype, find_dtype
from ...codecs.errors import FrameError
from ...codecs.simd import paths

_DTYPES = ("BF16", "F16", "F32", "F64", "I16", "F8_E4M3", "Q4_K", "Q6_K", "Q8_0")
_ELEMENTS = (60, 700, 3000)
_GUARD = 64
_MOST_CHANGES = 4


@dataclass(frozen=True, slots=True)
class Seed:
    """A sound block, of ``raw_bytes``, with its base."""

    dtype: Dtype
    stored: Bytes
    base: Bytes
    raw_bytes: int


def make_seeds(rng: np.random.Generator) -> list[Seed]:
    """Returns blocks of every dtype and several lengths, alone and against a base."""
    seeds = []
    for name in _DTYPES:
        dtype = find_dtype(name)
        for elements in _ELEMENTS:
            base, raw = _sample(rng, name, elements)
            room = np.zeros(2 * raw.size + BLOCK_SLACK + 4096, np.uint8)
            used = encode_block(raw, dtype, None, choose_effort("fast", "planes"), room)
            seeds.append(Seed(dtype, freeze(room[:used].copy()), base, raw.size))
            for codec in ("difference", "xor-context"):
                wishes = choose_wishes(codec, "fast", 0, dtype.item_bytes > 2)
                effort = choose_effort("fast", "planes")
                job = BlockJob(dtype, effort, wishes, LAYOUTS[codec], thorough=False)
                used = encode_part(raw, base, 0, job, room)
                seeds.append(Seed(dtype, freeze(room[:used].copy()), base, raw.size))
    return seeds


def _sample(rng: np.random.Generator, name: str, elements: int) -> tuple[Bytes, Bytes]:
    values = rng.normal(0, 0.02, elements).astype(np.float32)
    moved = values + rng.normal(0, 1e-3, elements).astype(np.float32)
    if name == "BF16":
        pair = [(v.view(np.uint32) >> 16).astype(np.uint16) for v in (values, moved)]
    elif name in ("F16", "F32", "F64"):
        pair = [v.astype(f"f{BY_NAME[name].item_bytes}") for v in (values, moved)]
    elif name in BY_NAME:
        pair = [np.round(v * 900).astype(f"i{BY_NAME[name].item_bytes}") for v in (values, moved)]
    else:
        size = 12 * find_dtype(name).group_bytes
        one = rng.binomial(255, 0.4, size).astype(np.uint8)
        pair = [one, one ^ (rng.random(size) < 0.1)]
    base, raw = (freeze(np.ascontiguousarray(one).view(np.uint8)) for one in pair)
    return base, raw


def alter(rng: np.random.Generator, stored: Bytes) -> Bytes:
    """Returns a copy with up to four bytes changed, most of them near the front, and perhaps its
    end cut off.
    """
    changed = stored.copy()
    for _ in range(int(rng.integers(1, _MOST_CHANGES + 1))):
        most = changed.size if rng.random() < 0.4 else min(changed.size, 120)
        changed[rng.integers(most)] = rng.integers(256)
    if rng.random() < 0.2:
        changed = changed[: rng.integers(1, changed.size + 1)]
    return freeze(changed)


def decode(seed: Seed, stored: Bytes) -> bytes | None:
    """Decodes a block on the path in use; None for one that is refused."""
    room = np.full(seed.raw_bytes + _GUARD, 0xA5, np.uint8)
    out = room[: seed.raw_bytes]
    try:
        decode_part(stored, seed.dtype, seed.base, out)
    except FrameError:
        return None
    finally:
        assert bool((room[seed.raw_bytes :] == 0xA5).all()), "memory beyond a block was written"
    return out.tobytes()


def main() -> None:
    """Runs one slice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    seeds, start = make_seeds(rng), time.monotonic()
    done = refused = 0
    while done < arguments.blocks and time.monotonic() - start < arguments.seconds:
        seed = seeds[rng.integers(len(seeds))]
        stored = alter(rng, seed.stored)
        results = set()
        for path in paths.available_paths():
            paths.force_path(path)
            results.add(decode(seed, stored))
        assert len(results) == 1, f"paths disagree on {seed.dtype.name}: {stored.tobytes().hex()}"
        done += 1
        refused += results == {None}
    paths.force_path(None)
    print(f"{done} altered blocks on {len(paths.available_paths())} paths, {refused} refused")


if __name__ == "__main__":
    main()
