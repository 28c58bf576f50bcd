"""Holds what was measured against what is promised: one line each, met or missed."""

from __future__ import annotations

import ctypes
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

Row = Mapping[str, Any]

_TRIM_THRESHOLD, _MMAP_MOST = -1, -4
"""Options of glibc's mallopt."""
_WHOLE_BYTES = {"BF16": 45_426_432, "F16": 45_426_432, "F32": 90_852_864}
_WHOLE_DEFAULT = {"BF16": 30_100_645, "F16": 38_417_614, "F32": 74_334_617}
"""What frames of level default took before there were prefix codes, of whole MiniLM."""
_DELTA_DEFAULT = {
    "tuned-a": 2_527_725,
    "tuned-b": 3_729_726,
    "frozen embeddings": 1_835_171,
    "checkpoints": 1_814_704,
}
REAL_PAIRS = tuple(_DELTA_DEFAULT)
"""Pairs of real BF16 models."""
REFERENCE = "XOR planes, zstd-3"


@contextmanager
def kept_memory() -> Iterator[bool]:
    """Lets malloc keep all that is freed; says whether it does, which needs glibc.

    What a coder itself takes is seen so, and not what the system takes to clear its pages, which
    is as much and differs from machine to machine.
    """
    tell = getattr(ctypes.CDLL(None), "mallopt", None)
    if tell is None:
        yield False
        return
    tell(_MMAP_MOST, 0)
    tell(_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield True
    finally:
        tell(_MMAP_MOST, 1 << 16)
        tell(_TRIM_THRESHOLD, 1 << 17)


def line(what: str, value: float, least: float | None = None, most: float | None = None) -> str:
    """Returns one line: a value, its bound, and whether it is met."""
    if least is not None:
        return f"{'met   ' if value >= least else 'missed'} {what}: {value:.3f} (>= {least})"
    return (
        f"{'met   ' if most is None or value <= most else 'missed'} {what}: {value:.4f} (<= {most})"
    )


def whole_lines(rows: Iterable[Row], paths: Sequence[str]) -> Iterator[str]:
    """Yields the lines on tensors without a base. ``paths``: those of this machine, best last."""
    found = {(row["dtype"], row["coder"]): row for row in rows if row["threads"] == 1}
    for dtype in dict.fromkeys(dtype for dtype, _ in found):
        zipnn, ours = found.get((dtype, "ZipNN")), f"{dtype} fast"
        fast, default = (found[dtype, f"weightvault {level}"] for level in ("fast", "default"))
        if dtype == "BF16":
            yield line(f"{ours}, per cent of raw", fast["percent"], most=66.5)
        elif zipnn is not None:
            ratio = fast["stored_bytes"] / zipnn["stored_bytes"]
            yield line(f"{ours}, bytes to ZipNN's", ratio, most=1)
        if default["raw_bytes"] == _WHOLE_BYTES[dtype]:
            ratio = default["stored_bytes"] / _WHOLE_DEFAULT[dtype]
            yield line(f"{dtype} default, bytes to those of before", ratio, most=1)
        if zipnn is not None:
            yield from _speed_lines(found, dtype, paths)


def _speed_lines(
    found: Mapping[tuple[str, str], Row], dtype: str, paths: Sequence[str]
) -> Iterator[str]:
    decode, encode = (3, 1.5) if dtype == "BF16" else (2, None)
    for path in paths:
        fast = _ratios(found, dtype, "fast", path, paths)
        yield line(f"{dtype} fast, {path}, decoding to ZipNN's", fast["decode"], least=decode)
        if encode is not None:
            yield line(f"{dtype} fast, {path}, encoding to ZipNN's", fast["encode"], least=encode)
        if path == "avx2" and dtype == "BF16":
            default = _ratios(found, dtype, "default", path, paths)
            yield line("BF16 default, avx2, decoding to ZipNN's", default["decode"], least=1.8)


def _ratios(
    found: Mapping[tuple[str, str], Row], dtype: str, level: str, path: str, paths: Sequence[str]
) -> dict[str, float]:
    suffix = "" if path == paths[-1] else f", {path}"
    ours, zipnn = found[dtype, f"weightvault {level}{suffix}"], found[dtype, "ZipNN"]
    return {
        way: ours.get(f"{way}_warm", ours[way]) / zipnn.get(f"{way}_warm", zipnn[way])
        for way in ("encode", "decode")
    }


def delta_lines(rows: Iterable[Row], paths: Sequence[str]) -> Iterator[str]:
    """Yields the lines on tensors with a base; means are geometric, over the four real pairs."""
    found = {(row["pair"], row["method"]): row for row in rows}

    def mean(method: str, column: str) -> float:
        values = (
            found[pair, method][column] / found[pair, REFERENCE][column] for pair in REAL_PAIRS
        )
        return math.exp(statistics.fmean(map(math.log, values)))

    yield line(
        "BF16 deltas fast, bytes to BitX", mean("weightvault fast", "stored_bytes"), most=0.7
    )
    for path in paths:
        suffix = "" if path == paths[-1] else f", {path}"
        ratio = mean(f"weightvault fast{suffix}", "decode")
        least = 2 if path == "portable" else 3
        yield line(f"BF16 deltas fast, {path}, decoding to BitX", ratio, least=least)
        ratio = mean(f"weightvault fast{suffix}", "encode")
        yield line(f"BF16 deltas fast, {path}, encoding to BitX", ratio, least=1)
    for pair, before in _DELTA_DEFAULT.items():
        ratio = found[pair, "weightvault default"]["stored_bytes"] / before
        yield line(f"{pair} default, bytes to those of before", ratio, most=1)
