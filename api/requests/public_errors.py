"""What clients are told of a failure: what they can act on, and nothing about the machine.

Where the server keeps its files, which hosts it talks to and what the operating system says of them
is for its log. Messages for a terminal name all of that, as whoever runs a command needs it.
"""

from __future__ import annotations

import logging
import re

from ...dedup import errors as kinds
from ...dedup.errors import VaultError
from ...dedup.local_vault import LocalVault
from ...store import errors as store

# A path from the root, or an address, that begins a word.
_PLACE = re.compile(r"(?:^|(?<=[\s'\"(=:,\[]))(?:[A-Za-z]:\\|/(?=[^\s/])|[a-z0-9+]+://)")
_HINT = "the server's log says more, under the id in X-Request-Id"
_TEXTS: tuple[tuple[type[VaultError], str, str], ...] = (
    (kinds.StorageFull, "the server has no room left", "try again once there is some"),
    (kinds.Unreachable, "the server's store does not answer", "try again later"),
    (kinds.AccessRefused, "the server may not use its own store", _HINT),
    (kinds.Corrupt, "something that is stored is damaged", _HINT),
    (VaultError, "the server failed", _HINT),
)
# What these say is about the deployment, whatever words they use.
_INTERNAL = (store.Unavailable, store.AccessDenied, store.NoSuchStore)
# What these say may name files and hosts of the machine.
_SYSTEM = (OSError, store.StoreError, kinds.StorageFull)
_log = logging.getLogger("weightvault.api")


def public_error(error: VaultError, vault: LocalVault) -> VaultError:
    """Returns an error of the same kind as a client of a server of `vault` may read it. What it
    leaves out goes to the log."""
    causes = list(_causes(error))
    text = f"{error.message} {error.hint or ''}"
    system = any(
        isinstance(cause, OSError | store.StoreError | kinds.StorageFull) for cause in causes
    )
    internal = any(isinstance(cause, _INTERNAL) for cause in causes)
    if internal or (system and _PLACE.search(text)):
        _log.error("%s: %s", error.code, error.message)
        message, hint = next((m, h) for kind, m, h in _TEXTS if isinstance(error, kind))
        return _like(error, message, hint)
    roots = "|".join(map(re.escape, _roots(vault)))
    if not re.search(roots, text):
        return error
    message, hint = (part and re.sub(roots, "…", part) for part in (error.message, error.hint))
    return _like(error, message or "", hint)


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _roots(vault: LocalVault) -> list[str]:
    """Returns the folders of a vault, the longest first."""
    roots = {str(vault.scratch), str(getattr(vault.backend, "root", vault.scratch))}
    return sorted(roots, key=len, reverse=True)


def _like(error: VaultError, message: str, hint: str | None) -> VaultError:
    """Returns an error of the same class and with the same facts."""
    made = type(error).__new__(type(error))
    made.__dict__.update(error.__dict__)
    made.message, made.hint, made.args = message, hint, (message,)
    return made
