"""What the options of a command say of the hub to mirror."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...dedup.errors import InvalidInput
from ..errors import from_os_error
from ..requests.settings import UpstreamSettings

_MOST_TOKEN_CHARS = 1000


def choose_upstream(
    upstream: str | None,
    upstream_token_file: Path | None = None,
    upstream_allow: Sequence[str] = (),
    upstream_deny: Sequence[str] = (),
    upstream_size: float | None = None,
    upstream_host: Sequence[str] = (),
) -> UpstreamSettings | None:
    """Returns which hub is mirrored, and what of it, by the options of those names; None for none.
    Raises InvalidInput for options without a hub, and for a file that holds no token."""
    if not upstream:
        others = (upstream_allow, upstream_deny, upstream_size, upstream_host)
        if upstream_token_file or any(others):
            raise InvalidInput("no hub to mirror is named", "name it with --upstream")
        return None
    token = None if upstream_token_file is None else _read_token(upstream_token_file)
    most = None if upstream_size is None else int(upstream_size)
    allow, deny = tuple(upstream_allow) or ("*",), tuple(upstream_deny)
    return UpstreamSettings(upstream, token, allow, deny, most, tuple(upstream_host))


def _read_token(path: Path) -> str:
    try:
        with path.open(errors="replace") as file:
            text = file.read(_MOST_TOKEN_CHARS).strip()
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    if not re.fullmatch(r"[\x21-\x7e]{1,500}", text):
        raise InvalidInput(f"{path} does not hold a token", "a token is one word")
    return text
