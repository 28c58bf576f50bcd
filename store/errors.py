"""The errors of the store, one kind for each thing a caller can do next."""

import errno


class StoreError(Exception):
    """Something the store was asked to do did not happen; nothing half-done is left visible.

    The kinds differ in what the caller does next::

        StoreError             stop and show the message
        ├── NotFound           name the missing object; asking again does not help
        ├── Unavailable        try again later: the network, an overloaded server, a timeout
        ├── StorageFull        free space, then try again
        │   └── QuotaExceeded      take something away, or ask for more
        ├── AccessDenied       change credentials or permissions, then try again
        ├── NoSuchStore        make the bucket or folder, or correct the address
        ├── CorruptObject      repair: what is stored is not what was written
        ├── Superseded         look at what is there now, then decide anew
        ├── UnsupportedFormat  upgrade weightvault: a newer one wrote this
        └── InvalidKey         correct the caller (also a ValueError)

    Only `Unavailable` is passing. Backends have already retried when they raise it.
    """


class NotFound(StoreError):
    """There is no such object. The message names it."""


class Unavailable(StoreError):
    """The store could not be reached or did not answer, after retries. It may later.

    A write that ends so may or may not have happened; writes replace, so doing it again is safe.
    """


class StorageFull(StoreError):
    """No space, quota used up, or a file larger than the place allows."""


class QuotaExceeded(StorageFull):
    """A namespace would have more than it may. The message says of what."""


class AccessDenied(StoreError):
    """Credentials are missing or wrong, or do not permit this."""


class NoSuchStore(StoreError):
    """The bucket or folder that should hold the objects is not there or is none."""


class CorruptObject(StoreError):
    """Fewer bytes, other bytes or another structure than was written."""


class Superseded(StoreError):
    """Somebody else changed what the caller went by."""


class UnsupportedFormat(StoreError):
    """A sound object in a format version or with a feature that this weightvault does not know."""


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


def from_os_error(error: OSError, doing: str) -> StoreError:
    """Returns the store's error for one of the operating system; `doing` says what failed."""
    message = f"{doing}: {error.strerror or error}"
    if error.errno in FULL_ERRNOS:
        return StorageFull(message)
    if error.errno in DENIED_ERRNOS:
        return AccessDenied(message)
    if error.errno in _PASSING:
        return Unavailable(message)
    return StoreError(message)
