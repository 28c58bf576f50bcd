"""What of a file could be stored as computed from other files: found out in a vault of its own that
is thrown away, so that it is what a push would find."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..dedup.errors import InvalidFile
from ..dedup.progress import Progress
from .config import open_local_vault

if TYPE_CHECKING:
    from ..dedup.local_vault import LocalVault
    from ..dedup.reports.revision_details import TensorLine

_SOURCE, _COPY = "given/source", "given/copy"


@dataclass(frozen=True, slots=True)
class TriedTensor:
    """A tensor, and what it would take beside the other files: raw bytes, frame bytes (0 where they
    hold the very same), how (computed, delta, same, alone), and from which of their tensors it
    would be computed."""

    name: str
    dtype: str
    size: int
    stored: int
    how: str
    source: str | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a file would take beside `against`: raw and frame bytes of its tensors, and each."""

    path: str
    against: str
    size: int
    stored: int
    tensors: tuple[TriedTensor, ...]


def try_against(path: Path, against: Path, progress: Progress | None = None) -> Trial:
    """Says what of the file `path` could be computed from the file or folder `against`. Takes as
    much room among temporary files as a vault with both. Raises VaultError kinds."""
    from ..dedup.reports.revision_details import describe_tensors, list_tensors
    from ..dedup.transfer.push import push

    if not path.is_file():
        raise InvalidFile(f"{path} is not a file", "name a file; --against takes folders, too")
    with tempfile.TemporaryDirectory(prefix="weightvault-trial-") as folder:
        vault = cast("LocalVault", open_local_vault(folder, None, create=True))
        try:
            push(vault, against, _SOURCE, progress=progress)
            known = set(vault.resolve(_SOURCE).manifest.digests())
            push(vault, path, _COPY, progress=progress)
            places = list_tensors(vault.resolve(_COPY))
            lines = describe_tensors(vault, places)
        finally:
            vault.close()
    same = [known.issuperset(place.chunks) for place in places]
    tensors = tuple(map(_describe, lines, same))
    size, stored = sum(each.size for each in tensors), sum(each.stored for each in tensors)
    return Trial(str(path), str(against), size, stored, tensors)


def _describe(line: TensorLine, is_same: bool) -> TriedTensor:
    how = "delta" if line.deltas else "alone"
    if line.origin is not None:
        how = "computed"
    source = None if line.origin is None else line.origin.tensor
    stored = 0 if is_same else line.stored or 0
    how = "same" if is_same else how
    return TriedTensor(line.name, line.dtype, line.size, stored, how, source)
