"""What an upstream says of the files of a revision: paths, lengths and hashes, all of it checked.

A listing is kept as lines of JSON-able lists, `[path, bytes, oid, SHA-256 or null]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...dedup.errors import InvalidInput
from ...dedup.model.paths import check_new_paths
from ..errors import UpstreamFailed

MOST_FILES = 100_000
_MOST_BYTES = 1 << 44
# Of a pointer of git-lfs, without the digits of the length.
_POINTER_BYTES = 125
_OID = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class UpstreamFile:
    """A file of a revision: its path, its bytes, the hash of its git blob, and its SHA-256 if it is
    one of git-lfs, both in hexadecimal."""

    path: str
    size: int
    oid: str
    sha256: str | None = None

    @property
    def blob(self) -> bytes:
        """The hash of its git blob."""
        return bytes.fromhex(self.oid)

    @property
    def etag(self) -> str:
        """What clients of hubs name its content with."""
        return self.sha256 or self.oid

    def tree_entry(self) -> dict[str, Any]:
        """Its line of a tree listing; of no Xet, which is not spoken for what is mirrored."""
        entry: dict[str, Any] = {
            "type": "file",
            "oid": self.oid,
            "size": self.size,
            "path": self.path,
        }
        if self.sha256 is None:
            return entry
        pointer = _POINTER_BYTES + len(str(self.size))
        return entry | {"lfs": {"oid": self.sha256, "size": self.size, "pointerSize": pointer}}


def parse_entries(lines: Any) -> list[UpstreamFile]:
    """Returns the files of an answer of /tree. Raises UpstreamFailed where it is none."""
    try:
        return [_parse_entry(line) for line in lines if line["type"] == "file"]
    except (KeyError, TypeError, ValueError) as error:
        raise UpstreamFailed("the upstream hub's list of files is malformed") from error


def check_listing(files: Iterable[UpstreamFile]) -> list[UpstreamFile]:
    """Returns files in order of their paths, if they can be files of one revision. Raises
    UpstreamFailed."""
    found = sorted(files, key=lambda file: file.path)
    if len(found) > MOST_FILES:
        raise UpstreamFailed(f"the revision has more than {MOST_FILES} files, too many to mirror")
    try:
        check_new_paths(file.path for file in found)
    except InvalidInput as error:
        raise UpstreamFailed("the upstream hub has files of names that are not allowed") from error
    if len({file.path for file in found}) < len(found):
        raise UpstreamFailed("the upstream hub lists a file twice")
    return found


def pack_listing(files: Iterable[UpstreamFile]) -> str:
    """Returns a listing as text."""
    return json.dumps([[f.path, f.size, f.oid, f.sha256] for f in files], separators=(",", ":"))


def read_listing(text: str) -> list[UpstreamFile]:
    """Returns the listing that a text of pack_listing is."""
    return [UpstreamFile(*row) for row in json.loads(text)]


def _parse_entry(line: Any) -> UpstreamFile:
    path, size, oid, lfs = line["path"], line["size"], line["oid"], line.get("lfs")
    sha256 = None
    if lfs is not None:
        sha256, size = lfs["oid"], lfs["size"]
    if type(path) is not str or type(size) is not int or not 0 <= size <= _MOST_BYTES:
        raise ValueError("a file has a path and a length")
    if not _OID.fullmatch(oid) or not (sha256 is None or _SHA256.fullmatch(sha256)):
        raise ValueError("a file has a hash")
    return UpstreamFile(path, size, oid, sha256)
