"""Takes what a survey found apart, but for files that are known from an earlier push."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...formats.companions import find_companions
from ...formats.cutting.held import File, hold_short
from ...formats.scan import scan_files
from ...model.files.entries import FileEntry
from ...model.files.manifest import Manifest
from ...model.sketch_file import Sketches
from ...progress import Progress
from .memory import Recalled, ScanMemory
from .small_files import bundle_files
from .survey import Survey

AskMissing = Callable[[Manifest], set[bytes]]


@dataclass(frozen=True, slots=True)
class ScannedFolder:
    """The files of a push, where their bytes are read from, the sketches of the chunks that were
    read, and the chunks that the vault lacks, all of which have one."""

    manifest: Manifest
    files: Mapping[str, File]
    sketches: Sketches
    missing: set[bytes]


def scan_folder(
    path: Path,
    found: Survey,
    ask_missing: AskMissing,
    chunk_bytes: int,
    progress: Progress,
    memory: ScanMemory | None = None,
) -> ScannedFolder:
    """Takes apart the files that were found at `path` and are not in `memory`, or of which the
    vault lacks something; adds to the warnings of `found`. Raises InvalidFile."""
    recalled = memory.recall(path, found.stamps, chunk_bytes) if memory else Recalled()
    known, warnings = dict(recalled.entries), list(recalled.warnings)
    sketches: Sketches = {}
    files: dict[str, File] = dict(found.files)
    # Read once, and where nothing has changed never.
    places = cache(lambda: find_companions(files))

    def read(names: Iterable[str]) -> None:
        mine = {name: files[name] for name in names}
        read = scan_files(mine, progress, chunk_bytes, sketches, warnings, places())
        known.update((entry.path, entry) for entry in read.files)

    changed = found.files.keys() - known.keys()
    if changed:
        files |= hold_short({name: found.files[name] for name in found.files if name in changed})
        # Where tensors lie in a file, another may say that has changed.
        read(sorted(changed | places().keys()))

    def join(unread: Collection[bytes] = ()) -> Manifest:
        listed = (known[name] for name in found.files)
        bundled = bundle_files(listed, files, chunk_bytes, sketches, unread)
        return Manifest(tuple(bundled), chunk_bytes)

    manifest = join()
    missing = ask_missing(manifest)
    unread = missing - sketches.keys()
    if unread:
        held = (e.path for e in manifest.files if not unread.isdisjoint(_digests(e, chunk_bytes)))
        read(list(held))
        manifest = join(unread)
        missing = ask_missing(manifest)
    found.warnings += dict.fromkeys(warnings)
    if memory:
        memory.keep(path, found, manifest, warnings)
    return ScannedFolder(manifest, files, sketches, missing)


def _digests(entry: FileEntry, chunk_bytes: int) -> Iterator[bytes]:
    return (use.digest for use in entry.chunks(chunk_bytes))
