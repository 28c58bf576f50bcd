"""A proxy in front of an S3 server that lets chosen requests go wrong, for tests."""

import http.client
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

# What the object "a" holds that the tests of faults begin with.
DATA = bytes(range(256)) * 40

Answer = tuple[int, list[tuple[str, str]], bytes]


class FaultProxy:
    """Forwards requests to the server at `port`; each fault that waits is spent on one of them.

    Faults are functions below; `calls` lists what came, as "PUT /bucket/key".
    """

    def __init__(self, port: int) -> None:
        self.calls: list[str] = []
        self.faults: list[Fault] = []
        proxy = self

        class Handler(_Handler):
            def pick_fault(self) -> "Fault":
                proxy.calls.append(f"{self.command} {self.path.partition('?')[0]}")
                return proxy.faults.pop(0) if proxy.faults else forward

            upstream = port

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    upstream: int
    protocol_version = "HTTP/1.1"
    # Head and body leave together, else the second waits 40 ms for the first to be confirmed.
    wbufsize = -1
    # A client may wait for "100 Continue" in vain while a fault hangs.
    timeout = 30

    def pick_fault(self) -> "Fault":
        raise NotImplementedError

    def handle_expect_100(self) -> bool:
        wanted = super().handle_expect_100()
        self.wfile.flush()
        return wanted

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.pick_fault()(self, body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_request  # noqa: N815

    def ask(self, body: bytes, **changed: str | None) -> Answer:
        """Returns the server's own answer, to a request with other headers; None removes one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        sent = {name.lower(): value for name, value in self.headers.items()} | changed
        headers = {name: value for name, value in sent.items() if value is not None}
        connection.request(self.command, self.path, body or None, headers)
        response = connection.getresponse()
        answer = response.status, response.getheaders(), response.read()
        connection.close()
        return answer

    def send(self, answer: Answer) -> None:
        """Sends an answer; its Content-Length header stands as it is, right or wrong."""
        status, headers, body = answer
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


Fault = Callable[[_Handler, bytes], None]


def forward(handler: _Handler, body: bytes) -> None:
    """No fault."""
    handler.send(handler.ask(body))


def watch(seen: list[tuple[str, list[str], bytes]]) -> Fault:
    """No fault; notes path with query, names of the headers in lower case, and body."""

    def fault(handler: _Handler, body: bytes) -> None:
        seen.append((handler.path, [name.lower() for name in handler.headers], body))
        forward(handler, body)

    return fault


def refuse(status: int, code: str) -> Fault:
    """An error answer that the server itself never gave."""

    def fault(handler: _Handler, body: bytes) -> None:
        text = f"<Error><Code>{code}</Code><Message>as the test wants</Message></Error>".encode()
        head = handler.command == "HEAD"
        handler.send((status, [("Content-Length", str(len(text)))], b"" if head else text))

    return fault


def cut(keep: int) -> Fault:
    """The connection ends after `keep` bytes of the body."""

    def fault(handler: _Handler, body: bytes) -> None:
        status, headers, data = handler.ask(body)
        handler.send((status, headers, data[:keep]))
        handler.close_connection = True

    return fault


def shorten(by: int) -> Fault:
    """The body lacks its last bytes, and the length in the headers agrees with it."""

    def fault(handler: _Handler, body: bytes) -> None:
        status, headers, data = handler.ask(body)
        kept = [(name, value) for name, value in headers if "checksum" not in name.lower()]
        kept = [pair for pair in kept if pair[0].lower() != "content-length"]
        data = data[:-by]
        handler.send((status, [*kept, ("Content-Length", str(len(data)))], data))

    return fault


def drop_condition(handler: _Handler, body: bytes) -> None:
    """The server does not know If-None-Match and does as if it were not there."""
    handler.send(handler.ask(body, **{"if-none-match": None}))


def flip(handler: _Handler, body: bytes) -> None:
    """One bit of the body is another."""
    status, headers, data = handler.ask(body)
    handler.send((status, headers, bytes([data[0] ^ 1]) + data[1:]))


def ignore_range(handler: _Handler, body: bytes) -> None:
    """The whole object comes, as if no range had been asked for."""
    handler.send(handler.ask(body, range=None))


def other_range(handler: _Handler, body: bytes) -> None:
    """Another range comes than was asked for, as long as that one."""
    handler.send(handler.ask(body, range="bytes=6-9"))


def reset(handler: _Handler, body: bytes) -> None:
    """The connection is reset; the server never sees the request."""
    _reset(handler)


def reset_after(handler: _Handler, body: bytes) -> None:
    """The server does what it is asked for, but the connection is reset in place of its answer."""
    handler.ask(body)
    _reset(handler)


def _reset(handler: _Handler) -> None:
    # Lingering for no time makes close() send a reset.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.shutdown(socket.SHUT_RD)
    handler.connection.close()
    handler.close_connection = True
