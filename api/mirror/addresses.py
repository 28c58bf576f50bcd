"""Where an upstream may lead to: public addresses, and hosts that the operator named.

A hub answers with addresses of other hosts, which hold its files. Whoever can make it name any
could otherwise have this server ask machines of its own network (server-side request forgery). The
address that was checked is the one that is asked, so that a name which changes meanwhile leads
nowhere.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Collection

import httpx

from ..errors import UnsafeAddress, UpstreamFailed

_SCHEMES = ("http", "https")


def check_target(source: httpx.URL, target: httpx.URL) -> None:
    """Raises UnsafeAddress for an address that no redirect from `source` may lead to, whatever
    machine it is of."""
    if target.scheme not in _SCHEMES or not target.host or target.userinfo:
        raise UnsafeAddress("the upstream hub leads to something that is no address of a file")
    if source.scheme == "https" and target.scheme != "https":
        raise UnsafeAddress("the upstream hub leads from TLS to an address without it")


def find_public_address(host: str, port: int) -> str:
    """Returns an IP address of a host, all of whose addresses are public. Raises UnsafeAddress,
    and UpstreamFailed where there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UpstreamFailed("the upstream hub leads to a host that is not found") from error
    addresses = [str(each[4][0]) for each in found]
    for address in addresses:
        if not _is_public(address):
            raise UnsafeAddress(
                "the upstream hub leads to a private address",
                "`serve --upstream-host` names hosts that it may lead to",
            )
    return addresses[0]


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        # An IPv4 address in another form: mapped, 6to4, Teredo.
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            address = inner
        elif address.teredo is not None or address in ipaddress.ip_network("64:ff9b::/96"):
            return False
    return address.is_global and not address.is_multicast


class CheckedTransport(httpx.BaseTransport):
    """Sends requests to the address of a host that was found to be public; to `trusted` hosts
    without a look."""

    def __init__(self, trusted: Collection[str] = ()) -> None:
        self._trusted = {host.lower() for host in trusted}
        # No connection is kept: they are told apart by address, and one may be of many hosts.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._inner = httpx.HTTPTransport(
            verify=ssl.create_default_context(), limits=limits, trust_env=False
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx. Raises UnsafeAddress, UpstreamFailed."""
        url = request.url
        if url.host.lower() not in self._trusted:
            port = url.port or (443 if url.scheme == "https" else 80)
            address = find_public_address(url.host, port)
            # The header Host and the name on the certificate stay those of the host.
            request.extensions = {**request.extensions, "sni_hostname": url.host}
            request.url = url.copy_with(host=address)
        return self._inner.handle_request(request)

    def close(self) -> None:
        """Closes the connections."""
        self._inner.close()
