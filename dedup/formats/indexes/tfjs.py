"""Reads the manifest of a TensorFlow.js model, which says what lies in its shards.

Layout: `model.json` has `weightsManifest`, groups of `paths` (the shards) and `weights` (name,
shape, dtype, and `quantization` with the dtype that is stored). The weights of a group lie one
after the other in its shards, as if these were one file. Source: "Weights manifest", README of
tfjs-converter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...model.files.segments import ITEM_BYTES, Tensor, count_elements
from ...model.strict_json import InvalidJson, parse_json
from ..cutting.reader import ReadableFile, Unreadable, read_at, work_of
from ..source import MAX_DIMENSIONS, make_tensor

_NAMES = ("model.json", "weights_manifest.json")
_MAX_BYTES = 64 << 20
# What converters cut shards at. Where others were used, what lies at the edges is opaque.
_SHARD_BYTES = 4 << 20
# How much of the text is parsed in the time of a read.
_BYTES_PER_READ = 4
_DTYPES = {
    "float32": "F32",
    "float16": "F16",
    "int32": "I32",
    "uint8": "U8",
    "uint16": "U16",
    "bool": "BOOL",
}


def recognise(name: str, head: bytes) -> bool:
    """Says whether a file may be such a manifest; without its `head`, whether its name may be that
    of one."""
    return name.rpartition("/")[2] in _NAMES and (not head or head.lstrip()[:1] in (b"{", b"["))


def list_external(name: str, file: ReadableFile, size: int) -> Iterator[tuple[str, int, Tensor]]:
    """Yields the weights: path of the shard as the manifest spells it, first byte, tensor; of those
    that lie in several shards the parts. Raises Unreadable where it is no such manifest."""
    if size > _MAX_BYTES:
        raise Unreadable("a manifest longer than that of any model")
    work = work_of(file, size)
    work.spend(size // _BYTES_PER_READ)
    try:
        found = parse_json(read_at(file, 0, size))
        groups = found["weightsManifest"] if isinstance(found, dict) else found
        for group in groups:
            paths = [str(path) for path in group["paths"]]
            start = 0
            for weight in group["weights"]:
                work.spend(1)
                dtype, shape = _describe(weight)
                length = count_elements(shape) * ITEM_BYTES[dtype]
                whole = make_tensor(str(weight["name"]), dtype, shape, length)
                for piece in _place(paths, start, whole):
                    work.spend(1)
                    yield piece
                start += length
    except (InvalidJson, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"{name} is no manifest of weights: {error}") from error


def _describe(weight: Mapping[str, Any]) -> tuple[str, list[int]]:
    """Returns the stored dtype and the shape of a weight."""
    dtype = weight.get("quantization", weight)["dtype"]
    shape = weight["shape"]
    if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
        raise ValueError("a shape that is none")
    return _DTYPES[dtype], shape


def _place(paths: Sequence[str], start: int, whole: Tensor) -> Iterator[tuple[str, int, Tensor]]:
    if len(paths) == 1:
        yield paths[0], start, whole
        return
    unit = ITEM_BYTES[whole.dtype]
    done = 0
    while done < whole.size:
        shard, at = divmod(start + done, _SHARD_BYTES)
        if shard >= len(paths):
            return
        size = min(whole.size - done, _SHARD_BYTES - at)
        if size == whole.size:
            yield paths[shard], at, whole
        elif not (size % unit or done % unit):
            yield paths[shard], at, make_tensor(whole.name, whole.dtype, [size // unit], size)
        done += size
