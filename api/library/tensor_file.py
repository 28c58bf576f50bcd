"""A revision as safetensors shows a file: names, metadata, tensors, and parts of tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...dedup.errors import EntryNotFound, InvalidFile, InvalidInput
from ...dedup.model.files.entries import FileEntry, TensorPlace
from ...dedup.vault import RangeReader, Snapshot
from .arrays import check_framework, element_type, shape_array, shape_tensor
from .slices import plan_reading
from .tensor_source import TensorSource

_ENDING = ".safetensors"
_LENGTH_BYTES = 8
# The limit of the reference implementation.
_MOST_HEADER_BYTES = 100_000_000


def open_tensors(
    connect: Callable[[], RangeReader],
    snapshot: Snapshot,
    file: str | Sequence[str] | None = None,
    framework: str = "np",
    device: str = "cpu",
) -> TensorFile:
    """Returns the tensors of a revision: those of `file`, a path or several; without it those of
    its safetensors files, or where it has none, of all its files. Raises EntryNotFound,
    InvalidInput."""
    return TensorFile(open_source(connect, snapshot, file), framework, device)


def open_source(
    connect: Callable[[], RangeReader], snapshot: Snapshot, file: str | Sequence[str] | None = None
) -> TensorSource:
    """As open_tensors, for their bytes."""
    entries = _choose(snapshot, [file] if isinstance(file, str) else file)
    return TensorSource(connect, snapshot, entries)


class TensorFile:
    """The tensors of a revision, as `safetensors.safe_open` gives those of a file. Made by
    `Vault.safe_open` and `Repo.safe_open`.

    Safe to use from several threads, and in processes forked from this one. Read one after the
    other in the order of `keys()` or `offset_keys()`, tensors are fetched ahead. Arrays are the
    caller's own, and may be written to.
    """

    def __init__(self, source: TensorSource, framework: str, device: str) -> None:
        self._source = source
        self._framework = check_framework(framework)
        self._device = device
        self._closing: list[Callable[[], object]] = []
        if self._framework == "np" and device != "cpu":
            raise InvalidInput(f"numpy has no arrays on {device!r}", 'write framework="pt"')

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of what is being fetched and of what is kept at hand."""
        self._source.close()
        while self._closing:
            self._closing.pop()()

    def on_close(self, close: Callable[[], object]) -> None:
        """Has something else be closed with it."""
        self._closing.append(close)

    def keys(self) -> list[str]:
        """Returns the names of the tensors, sorted."""
        return list(self._source.names)

    def offset_keys(self) -> list[str]:
        """Returns the names of the tensors in the order in which they lie in the files."""
        return list(self._source.file_order)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._source.names)

    def __contains__(self, name: object) -> bool:
        return name in self._source.names

    def metadata(self) -> dict[str, str] | None:
        """Returns what the headers of safetensors files say of them (`__metadata__`), those of
        several together; None where they say nothing."""
        found: dict[str, str] = {}
        for entry in self._source.entries:
            if entry.path.endswith(_ENDING):
                found |= _read_metadata(self._source, entry)
        return found or None

    def get_tensor(self, name: str) -> Any:
        """Returns a tensor as an array of its dtype and shape (api/library/arrays.py says which).
        Raises TensorNotFound."""
        place = self._source.place(name)
        return self._shape(self._source.read(name), place)

    def get_slice(self, name: str) -> TensorSlice:
        """Returns a view of a tensor that reads what is indexed of it. Raises TensorNotFound."""
        return TensorSlice(self._source, self._source.place(name), self._framework, self._device)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yields every tensor with its name, in file order, what follows being fetched and decoded
        meanwhile."""
        for name, raw in self._source.stream(self._source.file_order):
            yield name, self._shape(raw, self._source.place(name))

    def _shape(self, raw: np.ndarray[Any, Any], place: TensorPlace) -> Any:
        tensor = place.tensor
        if self._framework == "pt":
            return shape_tensor(raw, tensor.dtype, tensor.shape, self._device)
        return shape_array(raw, tensor.dtype, tensor.shape)


class TensorSlice:
    """A tensor of which an index reads a part: `f.get_slice(name)[:1000]`. Made by
    `TensorFile.get_slice`."""

    def __init__(
        self, source: TensorSource, place: TensorPlace, framework: str, device: str
    ) -> None:
        self._source = source
        self._place = place
        self._framework = framework
        self._device = device

    def get_shape(self) -> list[int]:
        """Returns the shape of the whole tensor."""
        return list(self._place.tensor.shape)

    def get_dtype(self) -> str:
        """Returns the dtype as the file calls it."""
        return self._place.tensor.dtype

    def __getitem__(self, index: Any) -> Any:
        """Reads the blocks that hold what `index` takes, as numpy would of the whole tensor:
        integers, slices with any step, `...`. Raises IndexError, TypeError, and InvalidInput for
        dtypes whose elements are no whole bytes."""
        tensor = self._place.tensor
        width = _item_bytes(self._place)
        plan = plan_reading(tensor.shape, index, width)
        raw = self._read(plan.ranges, width)
        # In the bits of elements, whatever they stand for: the index moves them alone.
        bits = raw.view(f"V{width}").reshape(plan.shape)[plan.index]
        found = np.ascontiguousarray(bits).reshape(-1).view(np.uint8)
        if self._framework == "pt":
            return shape_tensor(found, tensor.dtype, bits.shape, self._device)
        shaped = shape_array(found, tensor.dtype, bits.shape)
        return shaped[()] if bits.shape == () else shaped

    def _read(self, ranges: Sequence[tuple[int, int]], width: int) -> np.ndarray[Any, Any]:
        """Returns the bytes of runs of elements, one run after the other."""
        parts = (
            self._source.read_range(self._place.tensor.name, start * width, stop * width)
            for start, stop in ranges
        )
        if len(ranges) == 1:
            return next(parts)
        raw = np.empty(sum(stop - start for start, stop in ranges) * width, np.uint8)
        at = 0
        for part in parts:
            raw[at : at + part.size] = part
            at += part.size
        return raw


def _item_bytes(place: TensorPlace) -> int:
    tensor = place.tensor
    known = element_type(tensor.dtype)
    if known is None:
        raise InvalidInput(
            f"tensor {tensor.name!r} is of {tensor.dtype}, of which no part can be taken",
            "get_tensor gives all of its bytes",
        )
    return known.itemsize


def _choose(snapshot: Snapshot, paths: Sequence[str] | None) -> list[FileEntry]:
    if paths is None:
        files = [f for f in snapshot.manifest.files if f.path.endswith(_ENDING)]
        return files or list(snapshot.manifest.files)
    found = {path: snapshot.manifest.file(path) for path in paths}
    for path, entry in found.items():
        if entry is None:
            commit = snapshot.commit
            raise EntryNotFound(f"{commit.repo} at {commit.id} has no file {path!r}")
    return [entry for entry in found.values() if entry is not None]


def _read_metadata(source: TensorSource, entry: FileEntry) -> dict[str, str]:
    try:
        length = int.from_bytes(source.read_file(entry.path, 0, _LENGTH_BYTES), "little")
        if length > min(_MOST_HEADER_BYTES, entry.size - _LENGTH_BYTES):
            raise ValueError("a header longer than the file")
        end = _LENGTH_BYTES + length
        header = json.loads(source.read_file(entry.path, _LENGTH_BYTES, end).tobytes())
        told = header.get("__metadata__") or {}
        return {str(key): str(value) for key, value in told.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise InvalidFile(f"{entry.path!r} has no readable header: {error}") from error
