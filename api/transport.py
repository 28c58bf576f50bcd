"""HTTP requests to a weightvault server: connections, retries, and its errors made ours again."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from .. import __version__
from ..dedup.errors import InvalidInput, Unreachable, VaultError
from .errors import parse_error
from .wire import BROKEN_OFF_HINT, VERSION_HEADER

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
# Taking in a pack, a commit, a report and a check take as long as they take; this only ends
# waiting for a server that has vanished.
SLOW_SECONDS = 3600.0

_RETRY_DELAYS_SECONDS = (0.2, 0.5, 1.0)
_PASSING_STATUS = {502, 503, 504}


class Transport:
    """Sends requests to one server; safe to use from several threads.

    Raises only VaultErrors: those of the server as the classes they were there, Unreachable when
    it does not answer, breaks off, or is no weightvault server.
    """

    def __init__(self, url: str, retry_delays: tuple[float, ...] = _RETRY_DELAYS_SECONDS) -> None:
        address = _checked_url(url)
        # For messages: without user and password.
        self.url = f"{address.scheme}://{address.netloc.decode()}{address.path}".rstrip("/")
        self._delays = retry_delays
        self._client = httpx.Client(
            base_url=address,
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            # Frames do not shrink any further, and the lengths announced are those of the bytes.
            headers={"User-Agent": f"weightvault/{__version__}", "Accept-Encoding": "identity"},
            # A proxy set in the environment cannot reach a server on this machine.
            trust_env=not _is_loopback(address.host),
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
        **options: Any,
    ) -> httpx.Response:
        """Returns the response, read to its end, to a request with the options of httpx.

        `file` is streamed as the body. `repeatable` requests are sent again when they may have
        failed in passing, others only when no connection was made. `slow` ones may take an hour
        to answer.
        """
        if slow:
            options["timeout"] = httpx.Timeout(SLOW_SECONDS, connect=_CONNECT_SECONDS)

        def send() -> httpx.Response:
            if file is None:
                return self._checked(self._client.request(method, path, **options))
            with file.open("rb") as body:
                return self._checked(self._client.request(method, path, content=body, **options))

        return self._with_retries(send, repeatable)

    @contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[Iterator[bytes]]:
        """Gives the pieces of a response's body as they arrive; only its start is retried."""

        def send() -> httpx.Response:
            request = self._client.build_request(method, path, **options)
            response = self._client.send(request, stream=True)
            try:
                if response.status_code != 200:
                    response.read()
                return self._checked(response)
            except BaseException:
                response.close()
                raise

        response = self._with_retries(send, repeatable=True)
        try:
            yield self._pieces(response)
        finally:
            response.close()

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_raw()
        except httpx.HTTPError as error:
            raise Unreachable(
                f"the server at {self.url} broke off in the middle of a download: {_why(error)}",
                BROKEN_OFF_HINT,
            ) from error

    def _with_retries(self, send: Callable[[], httpx.Response], repeatable: bool) -> httpx.Response:
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
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unreachable(
                f"no server answers at {self.url}: {_why(error)}",
                "start one with `weightvault serve`, or correct the address in --vault "
                "or WEIGHTVAULT_URL",
            )
        return Unreachable(
            f"the server at {self.url} did not finish its answer: {_why(error)}",
            "run the command again once the server is well: what was sent is kept",
        )

    def _checked(self, response: httpx.Response) -> httpx.Response:
        """Returns a good response; raises what another one stands for."""
        error = _error_of(response)
        if error is None and response.status_code in _PASSING_STATUS:
            error = Unreachable(
                f"the server behind {self.url} does not answer (status {response.status_code})",
                "try again later",
            )
        if error is None and VERSION_HEADER not in response.headers:
            error = InvalidInput(
                f"{self.url} answers, but is no weightvault server", _address_hint(response)
            )
        if error is None and not response.is_success:
            error = VaultError(f"the server at {self.url} answered status {response.status_code}")
        if error is not None:
            raise error
        return response


def _may_repeat(error: httpx.HTTPError | Unreachable, repeatable: bool) -> bool:
    if isinstance(error, httpx.ConnectError):
        return True
    return repeatable and not isinstance(error, httpx.TimeoutException)


def _error_of(response: httpx.Response) -> VaultError | None:
    if response.is_success or VERSION_HEADER not in response.headers:
        return None
    try:
        body = response.json()
    except ValueError:
        return None
    return parse_error(body, response.status_code)


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
