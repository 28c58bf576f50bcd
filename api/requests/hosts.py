"""Which names of itself a server goes by.

A page of another site can give its own name this server's address, and a browser then takes both
for one site (DNS rebinding); what the browser sends as Host gives it away. So a server without
tokens answers under its own names alone, and no server writes another name into the addresses
that it sends.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.requests import HTTPConnection

from ...dedup.errors import AccessRefused


class UnknownHost(AccessRefused):
    """A request for a host that the server does not know itself to be."""

    code = "unknown_host"


class Hosts:
    """The names of a server: `named` ones, those of this machine to itself, and the address that a
    connection came to. Where that is no loopback address, any other address will do as well: it
    may have been translated, and what is no name cannot be rebound."""

    def __init__(self, named: Iterable[str] = ()) -> None:
        self._named = frozenset(name.rstrip(".").lower() for name in named)
        self._names = frozenset(map(host_of, self._named)) | {"localhost"}

    def covers(self, request: HTTPConnection) -> bool:
        """Says whether a request is for one of them."""
        host = host_of(request.headers.get("host", ""))
        own = _normalise((request.scope.get("server") or ("",))[0])
        if host in self._names or (host and host == own):
            return True
        address = _address(host)
        if address is None:
            return False
        came_to = _address(own)
        return address.is_loopback or (came_to is not None and not came_to.is_loopback)

    def names(self, authority: str) -> bool:
        """Says whether a host, with the port if that is not the usual one, is a named one."""
        return authority.lower() in self._named

    def require(self, request: HTTPConnection) -> None:
        """Raises UnknownHost for a request for any other host."""
        if not self.covers(request):
            host = request.headers.get("host", "")[:200]
            raise UnknownHost(
                f"this server does not know itself as {host!r}",
                "the operator allows a name with `weightvault serve --allowed-host NAME`",
            )


def host_of(header: str) -> str:
    """Returns the host of a Host header, or of an Origin's authority, without its port."""
    host = header.rpartition("]")[0] + "]" if header.startswith("[") else header.partition(":")[0]
    return _normalise(host)


def _normalise(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
