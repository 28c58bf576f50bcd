"""Whether frames are the same on another processor, which may be an emulated one.

    python -m weightvault.benchmarks.codecs.other_processor write FRAMES
    python -m weightvault.benchmarks.codecs.other_processor check FRAMES [--save]

``write`` encodes tensors of several dtypes, alone and against a base, into the file FRAMES.
``check``, on the other processor, decodes each frame and encodes its tensor again: both must be
what the first processor had. Nothing is measured. --save writes results/other_processor.csv.

An Arm processor is had on Debian like this (emulated, compiling takes minutes):

    apt-get install debootstrap qemu-user-static
    debootstrap --arch=arm64 --foreign --variant=minbase --include=python3 bookworm ROOT
    for package in ROOT/var/cache/apt/archives/*.deb; do dpkg -x $package ROOT; done
    pip install --target SITE --python-version 3.11 --only-binary=:all: \\
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \\
        --platform manylinux_2_26_aarch64 --platform manylinux_2_17_aarch64 \\
        --platform manylinux2014_aarch64 numpy numba zstandard blake3 xxhash
    ln -s CHECKOUT PACKAGES/weightvault
    PYTHONPATH=PACKAGES:SITE NUMBA_CACHE_DIR=CACHE qemu-aarch64-static -L ROOT \\
        ROOT/usr/bin/python3 -m weightvault.benchmarks.codecs.other_processor check FRAMES
"""

from __future__ import annotations

import argparse
import platform
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...codecs.pipeline import decode_tensor, encode_tensor
from ...codecs.simd import paths
from ..support.machine import RESULTS, save_rows

_OUT = RESULTS / "other_processor.csv"
_ELEMENTS = 70_001
_LEVELS = ("fast", "default")


def make_tensors() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields dtypes with a tensor and its base, as bytes."""
    rng = np.random.default_rng(1)
    base = rng.normal(0, 0.02, _ELEMENTS).astype(np.float32)
    moved = base + rng.normal(0, 2e-5, _ELEMENTS).astype(np.float32)
    for dtype, kind in (("BF16", None), ("F16", np.float16), ("F32", np.float32)):
        pair = [
            (values.view(np.uint32) >> 16).astype(np.uint16)
            if kind is None
            else values.astype(kind)
            for values in (moved, base)
        ]
        yield dtype, pair[0].view(np.uint8), pair[1].view(np.uint8)
    small = [np.round(values * 900).astype(np.int8) for values in (moved, base)]
    yield "F8_E4M3", small[0].view(np.uint8), small[1].view(np.uint8)


def encode(dtype: str, raw: np.ndarray, base: np.ndarray | None, level: str) -> bytes:
    """Encodes one tensor."""
    return encode_tensor(raw, dtype, base=base, level=level, threads=1)


def write(place: Path) -> None:
    """Writes tensors, bases and frames."""
    kept: dict[str, np.ndarray] = {}
    for dtype, raw, base in make_tensors():
        kept[f"{dtype}|raw"], kept[f"{dtype}|base"] = raw, base
        for level in _LEVELS:
            for name, against in (("alone", None), ("delta", base)):
                frame = encode(dtype, raw, against, level)
                kept[f"{dtype}|{level}|{name}"] = np.frombuffer(frame, np.uint8)
    with zipfile.ZipFile(place, "w") as file:
        for key, data in kept.items():
            file.writestr(key, data.tobytes())


def check(place: Path) -> Iterator[dict[str, object]]:
    """Decodes and encodes everything; yields a row for each frame."""
    with zipfile.ZipFile(place) as file:
        kept = {key: np.frombuffer(file.read(key), np.uint8) for key in file.namelist()}
    for key in sorted(kept, key=lambda key: key.split("|")[1:]):
        dtype, level, *name = key.split("|")
        if not name:
            continue
        raw = kept[f"{dtype}|raw"]
        base = kept[f"{dtype}|base"] if name == ["delta"] else None
        frame = kept[key].tobytes()
        decoded = bytes(decode_tensor(frame, base=base, threads=1)) == raw.tobytes()
        row = {"dtype": dtype, "level": level, "kind": name[0], "frame_bytes": len(frame)}
        row |= {"decodes": decoded, "encodes_equal": encode(dtype, raw, base, level) == frame}
        yield {**row, "processor": f"{platform.machine()}, {paths.current_path()}"}


def main() -> None:
    """Runs one half."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("half", choices=("write", "check"))
    parser.add_argument("frames", type=Path)
    parser.add_argument("--save", action="store_true", help=f"write {_OUT.name}")
    arguments = parser.parse_args()
    if arguments.half == "write":
        write(arguments.frames)
        return
    rows = []
    for row in check(arguments.frames):
        rows.append(row)
        print(row, flush=True)
        if arguments.save:
            save_rows(_OUT, rows)
    wrong = [row for row in rows if not (row["decodes"] and row["encodes_equal"])]
    print(f"{len(rows)} frames, {len(wrong)} wrong")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
