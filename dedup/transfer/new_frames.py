"""New frames for chunks of a vault: written to a pack beside it, stored, and put in use."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ...store.catalogue.moved_frames import adopt_frames
from ...store.catalogue.tables.database import MakeEntry
from ...store.catalogue.tables.rows import Location
from ...store.packs import PackWriter
from ..model.journal_entries import Moves
from ..reading.frame_parts import Buffer
from ..reading.scratch import scratch_folder
from ..repository.journal.writing import new_entry
from ..repository.pack_writing import add_frame
from ..repository.repository import Repository


class TemporaryPack:
    """A pack in a temporary file, that `store` puts in the vault: like one from outside, so all of
    it is verified. To be used with `with`, which removes the file and the `folder` it is in.
    `bytes` is its size once it is stored."""

    def __init__(self, vault: Repository, purpose: str) -> None:
        self._vault = vault
        self._purpose = purpose
        self._stack = ExitStack()
        self._writer: PackWriter | None = None
        self.bytes = 0

    def __enter__(self) -> Self:
        made = scratch_folder(f"{self._purpose}-", self._vault.scratch)
        self.folder = self._stack.enter_context(made)
        self._path = self.folder / "pack"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.abort()
        self._stack.__exit__(kind, error, trace)

    @property
    def is_empty(self) -> bool:
        """Whether there is no frame in it."""
        return self._writer is None

    def add(self, frame: Buffer) -> None:
        """Appends a frame. Raises Corrupt for what is none."""
        if self._writer is None:
            self._writer = PackWriter(self._path)
        add_frame(self._writer, frame)

    def store(self) -> str:
        """Stores the pack; returns its name. Its frames are spare ones, or the first of their
        chunks. Raises ValueError for a pack without frames."""
        if self._writer is None:
            raise ValueError("a pack holds at least one frame")
        name, self._writer = self._writer.finish(), None
        self.bytes = self._path.stat().st_size
        self._vault.add_made_pack(self._path, name)
        return name


def put_in_use(vault: Repository, pack: str, groups: Sequence[Collection[Location]]) -> set[bytes]:
    """Puts the frames of a stored pack in use for groups of chunks, given by where their frames
    are now, each group as a whole (adopt_frames), and writes the journal entry of it; returns the
    chunks that moved."""

    def entry_of(moved: list[bytes]) -> MakeEntry:
        return new_entry(vault.backend, lambda at: Moves(pack, tuple(moved), at))

    return set(adopt_frames(vault.catalogue, pack, groups, entry_of))
