"""Commits as they are told of, what a push made of them, and what becomes of them by rules of
retention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .paths import Remark


@dataclass(frozen=True, slots=True)
class Commit:
    """One immutable state of a repo.

    `id` is 40 hexadecimal digits, `parent` the commit that the branch pointed to before,
    `manifest` the manifest's name, `created` Unix seconds, `base` the repo declared as base. Who
    made it may have given a `title`, a longer `message` and an `author`.
    """

    id: str
    repo: str
    branch: str
    manifest: str
    created: float
    parent: str | None = None
    base: str | None = None
    title: str | None = None
    message: str | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did: bytes `logical` in the files, `sent` in packs; chunks new and known; bytes
    `saved` by re-encoding stored relatives; what was `left_out` of the folder, and `warnings` of
    what was stored."""

    commit: Commit
    files: int
    logical: int
    new_chunks: int
    known_chunks: int
    sent: int
    saved: int
    seconds: float
    left_out: tuple[Remark, ...]
    warnings: tuple[Remark, ...]


MOST_TOLD = 1000
"""Commits that are listed at once: each has a title and a message, of thousands of bytes."""


@dataclass(frozen=True, slots=True)
class KeptCommit:
    """A commit that stays, and `reasons`: names of it, as "tag v1", and of rules, as "daily"."""

    commit: Commit
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What rules of retention keep of a repo, and what was forgotten, or with `dry_run` would be:
    the newest MOST_TOLD of each, and how many there are. `freed`: bytes that the collections after
    the grace free by it, to the byte where `counted` is "stored"; "raw": the distinct bytes that
    the repo has in these commits alone."""

    repo: str
    kept: tuple[KeptCommit, ...]
    kept_count: int
    forgotten: tuple[Commit, ...]
    forgotten_count: int
    freed: int
    counted: Literal["stored", "raw"]
    dry_run: bool
