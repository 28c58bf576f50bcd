"""What can go wrong with a store, and the kinds of failure that this shares with a whole vault.

Every error that this product raises on purpose is a `VaultError` (dedup/errors.py has the rest of
the tree). Those of the store are the kinds that a vault knows, too, so that nobody translates them
on the way up: what a backend raises is what a caller of a vault catches.
"""

import errno


class VaultError(Exception):
    """A failure with a stable code, a message that says what failed and an optional hint.

    `usual_hint` is that of a kind, where nobody has a better one.
    """

    code = "vault_error"
    usual_hint: str | None = None

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint


class Conflict(VaultError):
    """Somebody else changed the same thing meanwhile."""

    code = "conflict"


class Unreachable(VaultError):
    """The server or the object store does not answer; passing."""

    code = "unreachable"


class StorageFull(VaultError):
    """No room left where the vault, or a temporary file, lives."""

    code = "storage_full"
    usual_hint = "free some space and run the same command again"


class QuotaExceeded(StorageFull):
    """A namespace would have more than it may (store/catalogue/access/quotas.py)."""

    code = "quota_exceeded"
    usual_hint = "delete repos that are not needed, or ask the operator for more"


class AccessRefused(VaultError):
    """Credentials or permissions stand in the way."""

    code = "access_refused"


class Corrupt(VaultError):
    """What is stored is not what was written."""

    code = "corrupt"


class StoreError(VaultError):
    """Something the store was asked to do did not happen; nothing half-done is left visible.

    The kinds differ in what the caller does next::

        StoreError             stop and show the message
        ├── NotFound           name the missing object; asking again does not help
        ├── Unavailable        try again later: the network, an overloaded server, a timeout
        ├── AccessDenied       change credentials or permissions, then try again
        ├── NoSuchStore        make the bucket or folder, or correct the address
        ├── CorruptObject      repair: what is stored is not what was written
        ├── Superseded         look at the present state, then decide again
        ├── UnsupportedFormat  upgrade weightvault: a newer one wrote this
        └── InvalidKey         correct the caller (also a ValueError)

    StorageFull and QuotaExceeded are the store's, too: free space, then try again. Only
    `Unavailable` is passing. Backends have already retried when they raise it.
    """


class NotFound(StoreError, Corrupt):
    """There is no such object. The message names it.

    To a vault that is damage: it only reads what its catalogue or a manifest names.
    """


class Unavailable(StoreError, Unreachable):
    """The store could not be reached or did not answer, after retries. It may later.

    A write that ends so may or may not have happened; writes replace, so doing it again is safe.
    """

    usual_hint = "try again later"


class AccessDenied(StoreError, AccessRefused):
    """Credentials are missing or wrong, or do not permit this."""

    usual_hint = "check the credentials and permissions"


class NoSuchStore(StoreError, AccessRefused):
    """The bucket or folder that should hold the objects is not there or is none."""

    usual_hint = "make it, or correct the vault's address"


class CorruptObject(StoreError, Corrupt):
    """Fewer bytes, other bytes or another structure than was written."""


class Superseded(StoreError, Conflict):
    """Somebody else changed what the caller went by."""

    usual_hint = "look at the present state, then try again"


class UnsupportedFormat(StoreError):
    """A sound object in a format version or with a feature that this weightvault does not know."""

    usual_hint = "upgrade weightvault"


class InvalidKey(StoreError, ValueError):
    """A key that `backend.check_key` refuses."""


FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""By these the system says that there is no room."""
DENIED_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""By these it says that somebody may not."""
# A network file system reports passing faults as EIO and ESTALE; on a disk that really fails,
# trying again later harms nothing.
_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


def from_os_error(error: OSError, doing: str) -> VaultError:
    """Returns the store's error for one of the operating system; `doing` says what failed."""
    message = f"{doing}: {error.strerror or error}"
    if error.errno in FULL_ERRNOS:
        return StorageFull(message)
    if error.errno in DENIED_ERRNOS:
        return AccessDenied(message)
    if error.errno in _PASSING:
        return Unavailable(message)
    return StoreError(message)
