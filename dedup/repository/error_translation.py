"""Turns the errors of the rooms below into those of a vault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...codecs.errors import FrameError, UnsupportedFrame
from ...store import errors as store
from ..errors import (
    AccessRefused,
    Conflict,
    Corrupt,
    QuotaExceeded,
    StorageFull,
    Unreachable,
    VaultError,
)

_KINDS: tuple[tuple[type[VaultError], type[VaultError], str | None], ...] = (
    (
        store.QuotaExceeded,
        QuotaExceeded,
        "delete repos that are not needed, or ask the operator for more",
    ),
    (store.StorageFull, StorageFull, "free some space and run the same command again"),
    (store.Unavailable, Unreachable, "try again later"),
    (store.AccessDenied, AccessRefused, "check the credentials and permissions"),
    (store.NoSuchStore, AccessRefused, "make it, or correct the vault's address"),
    (store.NotFound, Corrupt, None),
    (store.CorruptObject, Corrupt, None),
    (store.Superseded, Conflict, "look at what is there now, then try again"),
    (store.UnsupportedFormat, VaultError, "upgrade weightvault"),
    (store.StoreError, VaultError, None),
)


@contextmanager
def store_errors() -> Iterator[None]:
    """Within, StoreError kinds, a full local disk and undecodable stored frames are VaultErrors.

    A missing object is corruption here: only what the catalogue or a manifest names is read.
    """
    try:
        yield
    except store.StoreError as error:
        raise _vault_error(error) from error
    except UnsupportedFrame as error:
        raise VaultError(f"a stored frame is too new: {error}", "upgrade weightvault") from error
    except FrameError as error:
        raise Corrupt(f"a stored frame does not decode: {error}") from error
    except OSError as error:
        if error.errno not in store.FULL_ERRNOS:
            raise
        raise StorageFull(f"cannot write {error.filename or 'a temporary file'}") from error


def _vault_error(error: store.StoreError) -> VaultError:
    kind, hint = next((kind, hint) for stored, kind, hint in _KINDS if isinstance(error, stored))
    return kind(str(error), hint)
