"""Trains the dictionary of codec `zstd-dictionary`, or measures the one there is.

    python -m weightvault.benchmarks.codecs.train_dictionary FILE      writes a new one
    python -m weightvault.benchmarks.codecs.train_dictionary           measures the present one

Needs `transformers`. A dictionary that was released never changes: a better one is a new number in
FORMAT.md. Measured are configurations of kinds of models that a training leaves out, so it is for
the way a dictionary is made, and small files of the MiniLM repo, which it never sees.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import zstandard

from ..support.weights import find_minilm
from .small_files import make_configs, make_others

DICTIONARY_BYTES = 32 * 1024
# Configurations are many and much alike: without repeating them the others would leave no trace.
_REPEATS = 20
_LONGEST_CONFIG_BYTES = 6_000
_LONGEST_OTHER_BYTES = 20_000
_HELD_OUT = 80


def train(configs: Iterable[bytes]) -> bytes:
    """Returns a dictionary for files like these configurations and what lies beside them."""
    short = [data for data in configs if len(data) < _LONGEST_CONFIG_BYTES]
    others = [data for data in make_others() if len(data) < _LONGEST_OTHER_BYTES]
    samples: list[Any] = [*short, *others * _REPEATS]
    return zstandard.train_dictionary(DICTIONARY_BYTES, samples, level=19).as_bytes()


def total(files: Iterable[bytes], dictionary: bytes = b"") -> int:
    """Returns the bytes that zstd-19 makes of all files, each alone."""
    known = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    zstd = zstandard.ZstdCompressor(level=19, dict_data=known, write_dict_id=False)
    return sum(len(zstd.compress(data)) for data in files)


def measure() -> None:
    """Prints what dictionaries save."""
    configs = list(make_configs())
    kinds = sorted({kind for kind, _ in configs})
    held_out = set(random.Random(5).sample(kinds, _HELD_OUT))
    tested = [data for kind, data in configs if kind in held_out]
    dictionary = train(data for kind, data in configs if kind not in held_out)
    print(f"{len(tested)} configurations of other kinds: {sum(map(len, tested))} bytes,", end=" ")
    print(f"zstd-19 {total(tested)}, with a dictionary {total(tested, dictionary)}")
    paths = [p for p in find_minilm().rglob("*") if p.is_file() and p.stat().st_size <= 20_000]
    small = [path.read_bytes() for path in paths]
    shipped = Path(__file__).parents[2] / "codecs" / "dictionary-0.zdict"
    print(f"{len(small)} small files of MiniLM: {sum(map(len, small))} bytes,", end=" ")
    print(f"zstd-19 {total(small)}, with the shipped one {total(small, shipped.read_bytes())}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_bytes(train(data for _, data in make_configs()))
    else:
        measure()
