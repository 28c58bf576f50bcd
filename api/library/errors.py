"""The errors that every call raises: one tree, drawn in dedup/errors.py, and what a server adds.

    VaultError
    ├── InvalidInput       what you gave is wrong: mend it, do not retry
    │   ├── InvalidFile, InvalidName, InvalidManifest, InvalidFrame, InvalidUpload, TooExpensive
    │   └── TooLarge           more than a server takes at once
    ├── Missing            what you asked for is not here
    │   └── RepoNotFound, RevisionNotFound, EntryNotFound, TensorNotFound, ChunksMissing
    ├── Conflict           somebody else changed the same thing: look, then retry
    ├── Unreachable        the server or the object store does not answer: retry later
    │   └── Busy, Overloaded, RateExceeded
    ├── StorageFull        no room
    │   └── QuotaExceeded      the namespace has as much as it may
    ├── AccessRefused      credentials or permissions
    │   └── Unauthorized       no token, or one that is none
    └── Corrupt            what is stored is not what was written: scrub and repair

Each has a `message`, a `hint` on what to do, or None, and a stable `code` for programs.
"""

from ...dedup.errors import (
    AccessRefused,
    ChunksMissing,
    Conflict,
    Corrupt,
    EntryNotFound,
    InvalidFile,
    InvalidFrame,
    InvalidInput,
    InvalidManifest,
    InvalidName,
    InvalidUpload,
    JournalCut,
    Missing,
    QuotaExceeded,
    RepoNotFound,
    RevisionNotFound,
    StorageFull,
    TensorNotFound,
    TooExpensive,
    Unreachable,
    VaultError,
)
from ..errors import Busy, Overloaded, RateExceeded, TooLarge, Unauthorized

__all__ = [
    "AccessRefused",
    "Busy",
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
    "Overloaded",
    "QuotaExceeded",
    "RateExceeded",
    "RepoNotFound",
    "RevisionNotFound",
    "StorageFull",
    "TensorNotFound",
    "TooExpensive",
    "TooLarge",
    "Unauthorized",
    "Unreachable",
    "VaultError",
]
