"""How a server behaves, beyond the vault it serves."""

from __future__ import annotations

from dataclasses import dataclass

INGEST = ("background", "inline")
"""When uploads of foreign clients are coded: behind their back, or before they are answered."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """`anonymous_reads`: one of access.ANONYMOUS_READS. `ingest`: one of INGEST. Files of git-lfs
    longer than `multipart_bytes` are uploaded in parts of `part_bytes`."""

    anonymous_reads: str = "none"
    ingest: str = "background"
    multipart_bytes: int = 2 << 30
    part_bytes: int = 128 << 20
