"""HTTP requests to a weightvault server: connections, retries, and its errors made ours again."""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from ... import __version__
from ...dedup.errors import InvalidInput, Unreachable, VaultError
from ..errors import parse_error
from ..protocol.wire import BROKEN_OFF_HINT, VERSION_HEADER

_T = TypeVar("_T")

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
# Taking in a pack, a commit, a report and a check take as long as they take; this only ends
# waiting for a server that has vanished.
SLOW_SECONDS = 3600.0
_SLOW = httpx.Timeout(SLOW_SECONDS, connect=_CONNECT_SECONDS)

# No document of the API comes near this; a stream of frames is not held in memory.
MAX_ANSWER_BYTES = 1 << 28

# An error body, or the answer to a request for a few facts.
MAX_SMALL_BYTES = 1 << 20

_RETRY_DELAYS_SECONDS = (0.2, 0.5, 1.0)
# What OpenSSL says of an answer in plain text, version by version.
_NO_TLS = "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST"
_PASSING_STATUS = {502, 503, 504}


@dataclass(frozen=True, slots=True)
class Answer:
    """The headers and the body of a good response."""

    headers: httpx.Headers
    body: bytes


class Transport:
    """Sends requests to one server; safe to use from several threads.

    Raises only VaultErrors: those of the server as the classes they were there, Unreachable when
    it does not answer, breaks off, or is no weightvault server.
    """

    def __init__(
        self,
        url: str,
        retry_delays: tuple[float, ...] = _RETRY_DELAYS_SECONDS,
        *,
        token: str | None = None,
    ) -> None:
        address = _checked_url(url)
        # A token may stand in the address as the password, which messages must not show, and which
        # servers do not take as Basic credentials.
        token = token or address.password or None
        address = address.copy_with(username=None, password=None)
        self.url = f"{address.scheme}://{address.netloc.decode()}{address.path}".rstrip("/")
        self._root = f"{address.scheme}://{address.netloc.decode()}"
        self._delays = retry_delays
        # Frames do not shrink any further, and the lengths announced are those of the bytes.
        headers = {"User-Agent": f"weightvault/{__version__}", "Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.Client(
            base_url=address,
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            headers=headers,
            # A proxy set in the environment cannot reach a server on this machine; certificates
            # that it names (SSL_CERT_FILE) hold for all.
            trust_env=not _is_loopback(address.host),
            verify=httpx.create_ssl_context() if address.scheme == "https" else True,
            # The token is for this server alone; an answer that leads elsewhere is an error.
            follow_redirects=False,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        file: Path | None = None,
        repeatable: bool = True,
        slow: bool = False,
        most_bytes: int = MAX_SMALL_BYTES,
        **options: Any,
    ) -> Answer:
        """Returns the answer to a request with the options of httpx, of `most_bytes` at most.

        `file` is streamed as the body. `repeatable` requests are sent again when they may have
        failed in passing, others only when no connection was made. `slow` ones may take an hour
        to answer.
        """
        if slow:
            options["timeout"] = _SLOW

        def send() -> Answer:
            with ExitStack() as stack:
                if file is not None:
                    options["content"] = stack.enter_context(file.open("rb"))
                response = stack.enter_context(self._opened(method, path, options))
                return Answer(response.headers, self._read(response, most_bytes))

        return self._with_retries(send, repeatable)

    @contextmanager
    def stream(
        self, method: str, path: str, *, slow: bool = False, **options: Any
    ) -> Iterator[Iterator[bytes]]:
        """Gives the pieces of an answer's body as they arrive; only its start is retried. `slow`
        as for request."""
        if slow:
            options["timeout"] = _SLOW
        with ExitStack() as stack:

            def send() -> httpx.Response:
                return stack.enter_context(self._opened(method, path, options))

            yield self._pieces(self._with_retries(send, repeatable=True))

    @contextmanager
    def _opened(self, method: str, path: str, options: dict[str, Any]) -> Iterator[httpx.Response]:
        """Gives a good response with its body unread; raises what another one stands for."""
        with self._client.stream(method, path, **options) as response:
            error = self._error_of(response)
            if error is not None:
                raise error
            yield response

    def _misses(self, body: bytes) -> bool:
        """Says whether a server that is well has nothing where its address leads."""
        codes = (b'"unknown_endpoint"', b'"method_not_allowed"')
        return self.url != self._root and any(code in body for code in codes)

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_raw()
        except httpx.HTTPError as error:
            raise Unreachable(
                f"the server at {self.url} broke off in the middle of a download: {_why(error)}",
                BROKEN_OFF_HINT,
            ) from error

    def _read(self, response: httpx.Response, most_bytes: int) -> bytes:
        most_bytes = min(most_bytes, MAX_ANSWER_BYTES)
        body = bytearray()
        for piece in self._pieces(response):
            body += piece
            if len(body) > most_bytes:
                raise InvalidInput(f"the answer from {self.url} exceeds {most_bytes} bytes")
        return bytes(body)

    def _with_retries(self, send: Callable[[], _T], repeatable: bool) -> _T:
        delays = iter(self._delays)
        while True:
            try:
                return send()
            except (httpx.HTTPError, Unreachable) as error:
                delay = next(delays, None) if _may_repeat(error, repeatable) else None
                if delay is None:
                    raise self._unreachable(error) from error
            time.sleep(delay)

    def _unreachable(self, error: httpx.HTTPError | Unreachable) -> Unreachable:
        if isinstance(error, Unreachable):
            return error
        if self.url.startswith("https:") and re.search(_NO_TLS, _why(error)):
            return Unreachable(
                f"the server at {self.url} does not speak TLS: {_why(error)}",
                f"write http{self.url.removeprefix('https')}",
            )
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unreachable(
                f"no server answers at {self.url}: {_why(error)}",
                "start one with `weightvault serve`, or correct the address in --vault "
                "or WEIGHTVAULT_URL",
            )
        hint = "run the command again once the server is well: what was sent is kept"
        if self.url.startswith("http:") and isinstance(error, httpx.RemoteProtocolError):
            hint += f"; if it speaks TLS, write https{self.url.removeprefix('http')}"
        return Unreachable(
            f"the server at {self.url} did not finish its answer: {_why(error)}", hint
        )

    def _error_of(self, response: httpx.Response) -> VaultError | None:
        """Returns what a response stands for that is not a good one of a weightvault server."""
        ours = VERSION_HEADER in response.headers
        if ours and response.is_success:
            return None
        status = response.status_code
        body = self._read(response, MAX_SMALL_BYTES) if ours else b""
        error = _parse_body(body, status) if ours else None
        if error is not None and not self._misses(body):
            return error
        if error is not None:
            return InvalidInput(
                f"there is a weightvault server, but not below {self.url}",
                f"write {self._root}: the name of a repo is an argument of the command",
            )
        if status in _PASSING_STATUS:
            message = f"the server behind {self.url} does not answer (status {status})"
            return Unreachable(message, "try again later")
        if ours:
            return VaultError(f"the server at {self.url} answered status {status}")
        message = f"{self.url} answers, but is no weightvault server"
        return InvalidInput(message, _address_hint(response))


def _may_repeat(error: httpx.HTTPError | Unreachable, repeatable: bool) -> bool:
    if isinstance(error, httpx.ConnectError):
        return True
    return repeatable and not isinstance(error, httpx.TimeoutException)


def _parse_body(body: bytes, status: int) -> VaultError | None:
    try:
        return parse_error(json.loads(body), status)
    except (ValueError, RecursionError):
        return None


def _address_hint(response: httpx.Response) -> str:
    if response.has_redirect_location:
        return f"it redirects to {response.headers['location']}: try that address"
    return "correct the address in --vault or WEIGHTVAULT_URL"


def _checked_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"{url!r} is not an address: {error}") from error
    port = parsed.port or 0
    if parsed.scheme not in ("http", "https") or not parsed.host or not 0 <= port < 1 << 16:
        raise InvalidInput(f"{url!r} is not the address of a server", "write http://host:port")
    return parsed


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
