"""What earlier pushes found in files that have not changed since, so that nobody reads them again.

As restic and git do: a file of the same inode, size, and times of change has the same content. One
that changed less than two seconds before it was looked at is not remembered, since it may change
again without another time. Only what the files are made of is kept, never that a vault has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import VaultError
from ...formats.cutting.version import CUT_VERSION
from ...model.files.entries import FileEntry
from ...model.files.manifest import Manifest, pack_manifest, parse_manifest
from ...model.paths import Remark
from .notes import keep_note, note_name
from .survey import Stamp, Survey


@dataclass(frozen=True, slots=True)
class Recalled:
    """Files that have not changed, by their path in the repo, and what was odd about them."""

    entries: Mapping[str, FileEntry] = field(default_factory=dict)
    warnings: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanMemory:
    """What is remembered of pushes of this user, one file for each folder that was pushed. With
    `anew`, files are read all the same, and remembered."""

    folder: Path
    anew: bool = False

    def recall(self, path: Path, stamps: Mapping[str, Stamp], chunk_bytes: int) -> Recalled:
        """Returns what is known of the files of `path` with these stamps."""
        if self.anew:
            return Recalled()
        try:
            head, _, packed = self._file(path).read_bytes().partition(b"\n")
            told = json.loads(head)
            if (told["version"], told["chunk_bytes"]) != (CUT_VERSION, chunk_bytes):
                return Recalled()
            kept = {name: tuple(stamp) for name, stamp in told["stamps"].items()}
            entries = {entry.path: entry for entry in parse_manifest(packed, stored=True).files}
            same = {
                name: entries[name] for name, stamp in stamps.items() if kept.get(name) == stamp
            }
            said = (Remark(*map(str, each)) for each in told["warnings"])
            return Recalled(same, tuple(each for each in said if each.path in same))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, VaultError):
            # Never needed; made anew by what reads the files.
            return Recalled()

    def keep(self, path: Path, found: Survey, manifest: Manifest, warnings: list[Remark]) -> None:
        """Remembers what the files of `path` are made of; they were read after the survey. Where
        that cannot be written, it is not."""
        settled = {name: s for name, s in found.stamps.items() if found.has_settled(name)}
        files = tuple(entry for entry in manifest.files if entry.path in settled)
        head = {
            "version": CUT_VERSION,
            "chunk_bytes": manifest.chunk_bytes,
            "stamps": settled,
            "warnings": [[w.path, w.reason] for w in warnings if w.path in settled],
        }
        data = json.dumps(head, separators=(",", ":")).encode()
        data += b"\n" + pack_manifest(Manifest(files, manifest.chunk_bytes))
        keep_note(self._file(path), data)

    def _file(self, path: Path) -> Path:
        return self.folder / note_name(str(path.absolute()))
