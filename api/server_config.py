"""What the environment and the command line configure of a server:

WEIGHTVAULT_ANONYMOUS_READS  what it shows without a token: none, public or all
WEIGHTVAULT_ALLOWED_HOSTS  further names that clients may call it by, with commas
WEIGHTVAULT_ROOT_PATH  what addresses begin with where a reverse proxy has it below a path
WEIGHTVAULT_INGEST     when it codes foreign uploads: background or inline
WEIGHTVAULT_MAX_CONNECTIONS  how many connections it has open at most
WEIGHTVAULT_MAX_CONNECTIONS_PER_CLIENT  and how many of one address
WEIGHTVAULT_TRUSTED_PROXIES  addresses, with commas between, whose X-Forwarded-For is believed
WEIGHTVAULT_UPSTREAM   the hub to mirror; read by its option
WEIGHTVAULT_WORKERS    how many processes answer
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dedup.errors import InvalidInput
from .config import file_umask

if TYPE_CHECKING:
    from .requests.settings import ConnectionLimits, ServerSettings


def server_settings(
    anonymous_reads: str | None = None,
    connections: ConnectionLimits | None = None,
    hosts: Sequence[str] = (),
    root_path: str | None = None,
) -> ServerSettings:
    """Returns how a server is to behave; what is given comes before the environment. Raises
    InvalidInput for a value that is none."""
    from .requests.callers import ANONYMOUS_READS
    from .requests.settings import INGEST, ServerSettings

    reads = anonymous_reads or _choose("WEIGHTVAULT_ANONYMOUS_READS", ANONYMOUS_READS)
    ingest = _choose("WEIGHTVAULT_INGEST", INGEST)
    limits = connections or connection_limits()
    named = os.environ.get("WEIGHTVAULT_ALLOWED_HOSTS", "").split(",")
    return ServerSettings(
        anonymous_reads=reads,
        ingest=ingest,
        umask=file_umask(),
        connections=limits,
        root_path=_root_path(root_path or os.environ.get("WEIGHTVAULT_ROOT_PATH", "")),
        allowed_hosts=(*hosts, *(each.strip() for each in named if each.strip())),
    )


def connection_limits(
    most: int | None = None, most_per_client: int | None = None, proxies: Sequence[str] = ()
) -> ConnectionLimits:
    """Returns how many connections a server may have open; what is given comes before the
    environment. Raises InvalidInput for a value that is none."""
    from .requests.settings import ConnectionLimits

    usual = ConnectionLimits()
    given = proxies or (os.environ.get("WEIGHTVAULT_TRUSTED_PROXIES", ""),)
    named = [each for listed in given for each in listed.split(",")]
    return ConnectionLimits(
        most or _count("WEIGHTVAULT_MAX_CONNECTIONS", usual.most),
        most_per_client or _count("WEIGHTVAULT_MAX_CONNECTIONS_PER_CLIENT", usual.most_per_client),
        tuple(_network(each.strip()) for each in named if each.strip()),
    )


def worker_count() -> int:
    """Returns how many processes are to answer, by the environment. Raises InvalidInput."""
    return _count("WEIGHTVAULT_WORKERS", 1)


def _root_path(text: str) -> str:
    """Returns a path as "/a/b", "" for none."""
    path = text.rstrip("/")
    if path and not re.fullmatch(r"(/[A-Za-z0-9][A-Za-z0-9._~-]*)+", path):
        raise InvalidInput(f"{text!r} is no path of a server", "write it as /models")
    return path


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is no address of a proxy", "write 10.0.0.1 or 10.0.0.0/8"
        ) from error


def _count(name: str, usual: int) -> int:
    """Returns the number from 1 on that the environment says, `usual` if nothing."""
    text = os.environ.get(name) or str(usual)
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:10]) < 1 << 20):
        raise InvalidInput(f"{name} is {text!r}", "write a number from 1 on")
    return int(text)


def _choose(name: str, values: tuple[str, ...]) -> str:
    """Returns what the environment says, the first of `values` if nothing."""
    wanted = os.environ.get(name) or values[0]
    if wanted not in values:
        raise InvalidInput(f"{name} is {wanted!r}", f"write one of {', '.join(values)}")
    return wanted
