"""What can go wrong in a vault, in as few kinds as a caller can act on.

    VaultError
    ├── InvalidInput       the caller's file, name or frame is wrong: mend it, do not retry
    │   ├── InvalidFile        a file that cannot be read, or breaks what it claims to be
    │   ├── InvalidName        a repo, revision or path that is not allowed
    │   │   UnfitFiles, UnfitNames: several of these, each with its path and reason
    │   ├── InvalidManifest    a manifest that does not add up
    │   ├── InvalidFrame       a frame that does not decode to its digest
    │   ├── InvalidUpload      what a client of another protocol sent does not add up
    │   └── TooExpensive       out of proportion to the bytes that came with it: send these
    ├── Missing            what was asked for is not here
    │   ├── RepoNotFound, RevisionNotFound, EntryNotFound, TensorNotFound
    │   └── ChunksMissing      a commit names chunks that were never uploaded: push again
    ├── Conflict           somebody else changed the same thing meanwhile: look, then retry
    ├── Unreachable        the server or the object store does not answer: retry later
    ├── StorageFull        no room where the vault or a temporary file lives
    │   └── QuotaExceeded      the namespace has as much as it may
    ├── AccessRefused      credentials or permissions
    └── Corrupt            what is stored is not what was written: scrub and repair
        └── JournalCut         entries of the journal are gone, tokens among them perhaps

The last five kinds are the store's, too, and are defined there (store/errors.py).

Every kind has a stable `code`, which the HTTP API puts in its error body and the client turns
back into the same class. `hint` says what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..store.errors import (
    AccessRefused,
    Conflict,
    Corrupt,
    QuotaExceeded,
    StorageFull,
    Unreachable,
    VaultError,
)

__all__ = [
    "AccessRefused",
    "ChunksMissing",
    "Conflict",
    "Corrupt",
    "EntryNotFound",
    "InvalidFile",
    "InvalidFrame",
    "InvalidInput",
    "InvalidManifest",
    "InvalidName",
    "InvalidUpload",
    "JournalCut",
    "Missing",
    "QuotaExceeded",
    "RepoNotFound",
    "RevisionNotFound",
    "StorageFull",
    "TensorNotFound",
    "TooExpensive",
    "Unfit",
    "UnfitFiles",
    "UnfitNames",
    "Unreachable",
    "VaultError",
    "error_classes",
]


class InvalidInput(VaultError):
    """The caller's input is wrong; the same call will never succeed."""

    code = "invalid_input"


class InvalidFile(InvalidInput):
    """A file claims a format and breaks it, or cannot be read."""

    code = "invalid_file"


class InvalidName(InvalidInput):
    """A repo, revision or file path that is not allowed."""

    code = "invalid_name"


class Unfit(InvalidInput):
    """Files and folders that a push does not store; `problems` has the path and the reason of
    each."""

    def __init__(
        self, message: str, hint: str | None = None, problems: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(message, hint)
        self.problems = tuple(problems)


class UnfitFiles(Unfit, InvalidFile):
    """Some cannot be read, lead nowhere or hold secrets."""


class UnfitNames(Unfit, InvalidName):
    """Some have names that are not allowed."""


class InvalidManifest(InvalidInput):
    """A manifest that is malformed or does not add up."""

    code = "invalid_manifest"


class InvalidFrame(InvalidInput):
    """A frame or pack that does not decode to the digest it is stored under."""

    code = "invalid_frame"


class BaseMissing(InvalidFrame):
    """A frame whose base is not in this vault, or was collected while the frame was made."""

    code = "base_missing"


class InvalidUpload(InvalidInput):
    """Bytes of another protocol that are malformed or do not hash to what they are said to."""

    code = "invalid_upload"


class TooExpensive(InvalidInput):
    """What is asked for is out of proportion to the bytes that were sent for it."""

    code = "too_expensive"


class Missing(VaultError):
    """What was asked for is not in this vault."""

    code = "not_found"


class RepoNotFound(Missing):
    """No repo of that name."""

    code = "repo_not_found"


class RevisionNotFound(Missing):
    """The repo has no such branch or commit."""

    code = "revision_not_found"


class EntryNotFound(Missing):
    """The revision has no such file."""

    code = "entry_not_found"


class TensorNotFound(Missing):
    """The revision has no such tensor."""

    code = "tensor_not_found"


class ChunksMissing(Missing):
    """A commit names chunks this vault does not hold; pushing again sends them."""

    code = "chunks_missing"


class JournalCut(Corrupt):
    """Entries of the journal are gone that may have made or revoked tokens: nobody is admitted."""

    code = "journal_cut"


def error_classes() -> dict[str, type[VaultError]]:
    """Every kind by its stable code; kinds of the store have those of the vault's."""
    found: dict[str, type[VaultError]] = {}
    pending: list[type[VaultError]] = [VaultError]
    while pending:
        kind = pending.pop()
        if "code" in vars(kind):
            found[kind.code] = kind
        pending.extend(kind.__subclasses__())
    return found
