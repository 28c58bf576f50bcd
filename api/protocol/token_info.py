"""What is told of a token, by a server and by a vault of this process."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from ...dedup.errors import Missing


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token as it is listed. `last_used`: in Unix seconds, to the hour; None if it never was, or
    not since the catalogue was built."""

    id: str
    name: str
    roles: dict[str, str]
    created: float
    revoked: float | None
    expires: float | None
    last_used: float | None

    def is_valid(self, now: float) -> bool:
        """Says whether the token is still valid."""
        return self.revoked is None and (self.expires is None or now < self.expires)


def choose_tokens(known: Iterable[TokenInfo], wanted: str) -> list[TokenInfo]:
    """Returns the valid token of that id, or else those of that name. Raises Missing."""
    now = time.time()
    valid = [info for info in known if info.is_valid(now)]
    by_id = [info for info in valid if info.id == wanted]
    found = by_id or [info for info in valid if info.name == wanted]
    if not found:
        raise Missing(f"there is no valid token {wanted!r}", "`weightvault token list` names them")
    return found
