"""Folders as clients of the hub keep their downloads in: the files of a revision are links.

    models--org--name/blobs/<hash>, refs/<branch>, snapshots/<commit>/<path> -> ../../blobs/<hash>

Source: "Understand caching", the documentation of huggingface_hub. Stored as it lies, every file
would be there once more for each revision, and under a name that says nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import InvalidFile

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MAX_REF_BYTES = 256


def find_snapshot(folder: Path) -> Path | None:
    """Returns the folder with the files of the revision to push, None where `folder` is no such
    cache: what `refs/main` names, or the only one.

    Raises InvalidFile where there are several and none is the newest of main, or none is there.
    """
    snapshots = folder / "snapshots"
    # Of what cannot be read these say no; whoever lists it finds out.
    if not (os.path.isdir(snapshots) and os.path.isdir(folder / "blobs")):
        return None
    found = sorted(each.name for each in snapshots.iterdir() if each.is_dir())
    main = read_ref(folder / "refs" / "main")
    if main in found:
        return snapshots / main
    if len(found) == 1:
        return snapshots / found[0]
    if not found:
        raise InvalidFile(
            f"{folder} is a cache of huggingface_hub without a revision", "download the model again"
        )
    raise InvalidFile(
        f"{folder} is a cache of huggingface_hub with {len(found)} revisions, "
        "and its refs/main names none of them",
        f"push the one you mean: {' or '.join(str(snapshots / name) for name in found[:3])}",
    )


def list_unused(folder: Path, snapshot: Path, files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Yields what of a cache is not pushed with the `files` of a snapshot: path and reason."""
    used = {os.path.realpath(file) for file in files}
    for each in sorted((folder / "snapshots").iterdir()):
        if each.name != snapshot.name:
            yield f"snapshots/{each.name}", "another revision of the cache"
    for each in sorted((folder / "blobs").iterdir()):
        if os.path.realpath(each) not in used:
            unfinished = each.name.endswith(".incomplete")
            why = "an unfinished download" if unfinished else "no file of the revision"
            yield f"blobs/{each.name}", why
    for each in sorted(folder.iterdir()):
        if each.name not in ("snapshots", "blobs"):
            yield each.name, "how the cache keeps its books"


def read_ref(path: Path) -> str:
    """Returns the commit that a file of refs names, "" where it names none."""
    try:
        with path.open("rb") as file:
            name = file.read(_MAX_REF_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return name if _COMMIT.fullmatch(name) else ""
