"""What differs between two revisions: files, tensors, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...dedup.model.files.entries import TensorPlace
from ...dedup.vault import RangeReader, Snapshot
from .arrays import to_floats
from .tensor_source import TensorSource

Kind = Literal["added", "removed", "changed"]

# Elements that are compared at once, as eight bytes each.
_COMPARED = 1 << 20


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that one of two revisions has, or that differs: its bytes before and after."""

    path: str
    kind: Kind
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class TensorChange:
    """A tensor that one of two revisions has, or that differs: dtype and shape before and after.

    Of a changed one of numbers whose shape stayed, once it was measured: the `distance`, which is
    the length of the difference by that of the tensor before; the `largest` difference of an
    element; and the `share` of elements that changed.
    """

    name: str
    path: str
    kind: Kind
    before: str | None
    after: str | None
    distance: float | None = None
    largest: float | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two commits, and how many files and tensors are the same in both."""

    before: str
    after: str
    files: tuple[FileChange, ...]
    tensors: tuple[TensorChange, ...]
    same_files: int
    same_tensors: int

    def __bool__(self) -> bool:
        return bool(self.files)


Connect = Callable[[], RangeReader]
_Key = tuple[str, str]


def diff_snapshots(
    connect: Connect, before: Snapshot, after: Snapshot, *, values: bool = False
) -> Diff:
    """Returns what differs. Tensors are compared by their digests; small ones that share a chunk
    with others, and those that were cut at another length, by their bytes. `values` reads what
    changed and says by how much."""
    files, same_files = _diff_files(before, after)
    olds, news = _places(before), _places(after)
    old, new = _sources(connect, before), _sources(connect, after)
    changes: list[TensorChange] = []
    same = 0
    for key in sorted(olds.keys() | news.keys()):
        one, other = olds.get(key), news.get(key)
        if one and other and _is_same(one, other, old, new, before, after):
            same += 1
            continue
        found = _change(one, other)
        if values and one and other and _comparable(one, other):
            found = _measure(found, one, old.at(one), new.at(other))
        changes.append(found)
    return Diff(before.commit.id, after.commit.id, files, tuple(changes), same_files, same)


class _Sources:
    """Sources of the tensors of single files, as two files may have tensors of one name."""

    def __init__(self, connect: Connect, snapshot: Snapshot) -> None:
        self._connect = connect
        self._snapshot = snapshot
        self._made: dict[str, TensorSource] = {}

    def at(self, place: TensorPlace) -> NDArray[np.uint8]:
        """Returns the bytes of a tensor."""
        if place.path not in self._made:
            entry = self._snapshot.manifest.file(place.path)
            assert entry is not None
            self._made[place.path] = TensorSource(self._connect, self._snapshot, [entry])
        return self._made[place.path].read_place(place)


def _sources(connect: Connect, snapshot: Snapshot) -> _Sources:
    return _Sources(connect, snapshot)


def _diff_files(before: Snapshot, after: Snapshot) -> tuple[tuple[FileChange, ...], int]:
    olds = {entry.path: entry for entry in before.manifest.files}
    news = {entry.path: entry for entry in after.manifest.files}
    found: list[FileChange] = []
    same = 0
    for path in sorted(olds.keys() | news.keys()):
        one, other = olds.get(path), news.get(path)
        if one and other and one.digest == other.digest:
            same += 1
        else:
            sizes = (one.size if one else None, other.size if other else None)
            found.append(FileChange(path, _kind(one, other), *sizes))
    return tuple(found), same


def _places(snapshot: Snapshot) -> dict[_Key, TensorPlace]:
    """Returns the tensors by name; by name and path where several files have one of that name."""
    every = [place for entry in snapshot.manifest.files for place in entry.places()]
    count: dict[str, int] = {}
    for place in every:
        count[place.tensor.name] = count.get(place.tensor.name, 0) + 1
    return {
        (place.tensor.name, place.path if count[place.tensor.name] > 1 else ""): place
        for place in every
    }


def _kind(one: object, other: object) -> Kind:
    return "changed" if one and other else "removed" if one else "added"


def _is_same(
    one: TensorPlace,
    other: TensorPlace,
    old: _Sources,
    new: _Sources,
    before: Snapshot,
    after: Snapshot,
) -> bool:
    if (one.tensor.dtype, one.tensor.shape) != (other.tensor.dtype, other.tensor.shape):
        return False
    if (one.chunks, one.start) == (other.chunks, other.start):
        return True
    cut = [(s.manifest.chunk_bytes, p.tensor.parts) for s, p in ((before, one), (after, other))]
    if one.tensor.chunks and other.tensor.chunks and cut[0] == cut[1]:
        return False
    return bool(np.array_equal(old.at(one), new.at(other)))


def _change(one: TensorPlace | None, other: TensorPlace | None) -> TensorChange:
    named = other or one
    assert named is not None
    name, kind = named.tensor.name, _kind(one, other)
    return TensorChange(name, named.path, kind, _describe(one), _describe(other))


def _describe(place: TensorPlace | None) -> str | None:
    if place is None:
        return None
    return f"{place.tensor.dtype} {list(place.tensor.shape)}"


def _comparable(one: TensorPlace, other: TensorPlace) -> bool:
    return one.tensor.shape == other.tensor.shape and one.tensor.dtype == other.tensor.dtype


def _measure(
    found: TensorChange, place: TensorPlace, old: NDArray[np.uint8], new: NDArray[np.uint8]
) -> TensorChange:
    """Returns a change with how large it is, unless its elements are no numbers that are known."""
    length = difference = 0.0
    largest, changed, count = 0.0, 0, 0
    for one, other in _pairs(place.tensor.dtype, old, new):
        apart = np.abs(other - one)
        length += float(np.square(one).sum())
        difference += float(np.square(apart).sum())
        largest = max(largest, float(apart.max(initial=0.0)))
        changed += int(np.count_nonzero(apart))
        count += one.size
    if not count:
        return found
    distance = float(np.sqrt(difference / length)) if length else float("inf")
    return replace(found, distance=distance, largest=largest, share=changed / count)


def _pairs(
    dtype: str, old: NDArray[np.uint8], new: NDArray[np.uint8]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    step = 8 * _COMPARED
    for at in range(0, old.size, step):
        one, other = to_floats(old[at : at + step], dtype), to_floats(new[at : at + step], dtype)
        if one is not None and other is not None:
            yield one, other
