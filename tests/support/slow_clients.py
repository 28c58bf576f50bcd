"""Clients that owe a server something: heads that never end, answers that nobody reads."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

# Long enough for a loaded machine; a server that never closes is found out by it.
PATIENCE_SECONDS = 30.0
_SMALL_BUFFER_BYTES = 4096


def connect(url: str) -> socket.socket:
    """Returns a connection to a server, with room for few bytes that are not read yet."""
    parts = urlsplit(url)
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
    made.settimeout(PATIENCE_SECONDS)
    made.connect((parts.hostname, parts.port))
    return made


@contextmanager
def sockets(url: str, count: int, request: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that each sent `request`, closed at the end."""
    with ExitStack() as stack:
        made = [stack.enter_context(connect(url)) for _ in range(count)]
        for each in made:
            each.sendall(request)
        yield made


def ask(path: str, *headers: str, method: str = "GET") -> bytes:
    """Returns the head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    """Returns what the server sends until it closes, or breaks, the connection."""
    found = bytearray()
    try:
        while piece := connection.recv(1 << 20):
            found += piece
    except ConnectionError:
        pass
    return bytes(found)
