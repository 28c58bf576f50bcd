"""What a failure means for the caller: the exit status, and a hint where there is no better."""

from __future__ import annotations

from ...dedup import errors as kinds
from ...dedup.errors import VaultError

OK = 0
FAILED = 1
USAGE = 2
INVALID_INPUT = 4
INTERRUPTED = 130

_BY_KIND: dict[type[VaultError], int] = {
    VaultError: FAILED,
    kinds.Missing: 3,
    kinds.InvalidInput: INVALID_INPUT,
    kinds.Unreachable: 5,
    kinds.StorageFull: 6,
    kinds.Conflict: 7,
    kinds.Corrupt: 8,
    kinds.AccessRefused: 9,
}

_HINTS: dict[type[VaultError], str] = {
    VaultError: "WEIGHTVAULT_DEBUG=1 shows where this happened",
    kinds.Missing: "`weightvault ls` and `weightvault info REPO` tell what there is",
    kinds.InvalidInput: "correct it and run the command again; nothing was stored",
    kinds.InvalidFile: "nothing was stored; download or save this file again",
    kinds.Unreachable: "try again later",
    kinds.StorageFull: "free some space and run the command again",
    kinds.Conflict: "look at what changed and run the command again",
    kinds.Corrupt: "`weightvault scrub` names all that is damaged, `weightvault repair` repairs it",
    kinds.AccessRefused: "check credentials and permissions",
}

MEANINGS = {
    OK: "done",
    FAILED: "check found problems, or something failed that has no code below",
    USAGE: "the command line is wrong",
    3: "no such repo, revision or file, or no such vault",
    INVALID_INPUT: "invalid file, name or address",
    5: "the server or the object store does not answer",
    6: "no room left where the vault or a temporary file lives",
    7: "somebody else changed the same thing meanwhile",
    8: "what is stored is damaged",
    9: "credentials or permissions are missing",
    INTERRUPTED: "interrupted",
}


def exit_status(error: VaultError) -> int:
    """Returns the exit status that an error ends the command with."""
    return status_of(type(error))


def status_of(kind: type[VaultError]) -> int:
    """Returns the exit status of a kind of error."""
    return next(_BY_KIND[cls] for cls in kind.__mro__ if cls in _BY_KIND)


def default_hint(error: VaultError) -> str:
    """Returns what to do about an error that does not say so itself."""
    return next(_HINTS[cls] for cls in type(error).__mro__ if cls in _HINTS)


def describe_statuses() -> str:
    """Returns the table of exit statuses as --help shows it."""
    lines = (f"  {status:>3}  {meaning}" for status, meaning in MEANINGS.items())
    return "\n".join(("Exit status:", *lines))
