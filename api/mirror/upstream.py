"""Questions to an upstream hub, each with bounds: of time, of bytes, of redirects.

A token goes to the upstream itself, never to the hosts that it leads to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from ... import __version__
from ...dedup.errors import InvalidInput
from ...dedup.model.strict_json import InvalidJson, parse_json, parse_json_object
from ..errors import UnsafeAddress, UpstreamFailed, UpstreamRefused
from .addresses import CheckedTransport, check_target

_CONNECT_SECONDS = 5.0
# Clients wait ten seconds for the first byte of theirs.
_ANSWER_SECONDS = 8.0
_FILE_SECONDS = 30.0
_MOST_REDIRECTS = 5
_MOST_BYTES = 32 << 20
# An answer that lists 100,000 files.
_MOST_VALUES = 1_000_000
_MOST_MESSAGE = 500
_MOST_WAIT_SECONDS = 3600
_REDIRECTS = (301, 302, 303, 307, 308)
_TOKEN = re.compile(r"[\x21-\x7e]{1,500}")
_CODE = re.compile(r"[A-Za-z]{1,40}")


@dataclass(frozen=True, slots=True)
class Reply:
    """A good answer, or with status 304 that the one known still holds."""

    status: int
    headers: httpx.Headers
    body: bytes


class Upstream:
    """An upstream hub at `url`; safe to use from several threads. It may lead to files at public
    addresses and at `hosts`.

    Methods raise UpstreamFailed where it does not answer as a hub does, UpstreamRefused where it
    says no.
    """

    def __init__(self, url: str, hosts: tuple[str, ...] = ()) -> None:
        self._root = _check_url(url)
        self.url = str(self._root).rstrip("/")
        headers = {"User-Agent": f"weightvault/{__version__}", "Accept-Encoding": "identity"}
        times = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
        # The upstream itself may be anywhere: its address is the operator's.
        self._own = httpx.Client(headers=headers, timeout=times, trust_env=False)
        checked = CheckedTransport(hosts)
        self._others = httpx.Client(headers=headers, timeout=times, transport=checked)

    def close(self) -> None:
        """Closes the connections."""
        self._own.close()
        self._others.close()

    def ask(
        self,
        method: str,
        path: str,
        token: str | None,
        *,
        headers: Mapping[str, str] = {},
        most_bytes: int = _MOST_BYTES,
    ) -> Reply:
        """Returns what the upstream itself answers at `path`, which begins with a slash and is
        percent-encoded."""
        with self._opened(method, path, token, headers, elsewhere=False) as response:
            return Reply(response.status_code, response.headers, _read(response, most_bytes))

    @contextmanager
    def file(
        self, path: str, token: str | None, start: int, size: int
    ) -> Iterator[Iterator[bytes]]:
        """Gives the bytes of a file of `size` bytes from `start` on, or all of them where the
        upstream takes no range: then `start` of them are left out. What comes may be short."""
        asked = {"Range": f"bytes={start}-{size - 1}"} if start else {}
        with self._opened("GET", path, token, asked, elsewhere=True) as response:
            skip = start if response.status_code == 200 else 0
            if response.status_code == 206:
                _check_range(response, start)
            yield _pieces(response, skip)

    @contextmanager
    def _opened(
        self,
        method: str,
        path: str,
        token: str | None,
        headers: Mapping[str, str],
        *,
        elsewhere: bool,
    ) -> Iterator[httpx.Response]:
        """Gives a good response with its body unread, wherever redirects lead: to other hosts only
        if `elsewhere`."""
        url = httpx.URL(self.url + path)
        for _ in range(_MOST_REDIRECTS + 1):
            with ExitStack() as stack:
                response = stack.enter_context(
                    self._sent(method, url, token, headers, large=elsewhere)
                )
                if response.status_code not in _REDIRECTS:
                    _require_good(response)
                    yield response
                    return
                target = _target_of(response, url)
            if not elsewhere and not self._is_own(target):
                raise UpstreamFailed("the upstream hub answers with the address of another host")
            check_target(url, target)
            url = target
        raise UpstreamFailed("the upstream hub leads from one address to the next, without an end")

    @contextmanager
    def _sent(
        self,
        method: str,
        url: httpx.URL,
        token: str | None,
        headers: Mapping[str, str],
        *,
        large: bool,
    ) -> Iterator[httpx.Response]:
        own = self._is_own(url)
        sent = dict(headers)
        if own and token is not None:
            sent["Authorization"] = f"Bearer {check_token(token)}"
        timeout = httpx.Timeout(_FILE_SECONDS, connect=_CONNECT_SECONDS) if large else None
        options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        client = self._own if own else self._others
        try:
            with client.stream(method, url, headers=sent, **options) as response:
                yield response
        except httpx.HTTPError as error:
            raise UpstreamFailed("the upstream hub does not answer", "try again later") from error

    def _is_own(self, url: httpx.URL) -> bool:
        return (url.scheme, url.host, url.port) == (
            self._root.scheme,
            self._root.host,
            self._root.port,
        )


def check_token(token: str) -> str:
    """Returns a token that a header can hold. Raises UpstreamRefused for any other."""
    if not _TOKEN.fullmatch(token):
        raise UpstreamRefused("that is no token of the upstream hub", status=401)
    return token


def parse_reply(reply: Reply) -> dict[str, Any]:
    """Returns the JSON object that an answer is. Raises UpstreamFailed."""
    try:
        return parse_json_object(reply.body, most_values=_MOST_VALUES)
    except InvalidJson as error:
        raise UpstreamFailed("the upstream hub's answer is not the JSON of a hub") from error


def parse_list(reply: Reply) -> list[Any]:
    """Returns the JSON list that an answer is. Raises UpstreamFailed."""
    try:
        found = parse_json(reply.body, most_values=_MOST_VALUES)
    except InvalidJson as error:
        raise UpstreamFailed("the upstream hub's answer is not the JSON of a hub") from error
    if not isinstance(found, list):
        raise UpstreamFailed("the upstream hub's answer is not the list that was asked for")
    return found


def _check_url(url: str) -> httpx.URL:
    try:
        found = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise InvalidInput(f"{url!r} is no address of a hub", "write https://host") from error
    if found.scheme not in ("http", "https") or not found.host or found.query or found.userinfo:
        raise InvalidInput(f"{url!r} is no address of a hub", "write https://host")
    return found


def _target_of(response: httpx.Response, url: httpx.URL) -> httpx.URL:
    try:
        return url.join(response.headers["location"])
    except (KeyError, httpx.InvalidURL, ValueError) as error:
        raise UnsafeAddress("the upstream hub leads to something that is no address") from error


def _read(response: httpx.Response, most_bytes: int) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > most_bytes:
            raise UpstreamFailed(f"an answer of the upstream hub exceeds {most_bytes} bytes")
    return bytes(body)


def _require_good(response: httpx.Response) -> None:
    """Raises what a response stands for that is not a good one."""
    status = response.status_code
    if status in (200, 206, 304):
        return
    if status < 400:
        raise UpstreamFailed(f"the upstream hub answers status {status}")
    if status >= 500:
        raise UpstreamFailed(f"the upstream hub fails (status {status})", "try again later")
    code = response.headers.get("x-error-code", "")
    message = response.headers.get("x-error-message") or f"the upstream hub says {status}"
    raise UpstreamRefused(
        " ".join(message.split())[:_MOST_MESSAGE],
        status=status,
        hub_code=code if _CODE.fullmatch(code) else None,
        retry_after=_retry_after(response.headers),
    )


def _retry_after(headers: httpx.Headers) -> int | None:
    """Returns the seconds that Retry-After says, or RateLimit as the public hub has it."""
    text = headers.get("retry-after", "")
    if not text:
        found = re.search(r"\bt=(\d{1,6})\b", headers.get("ratelimit", ""))
        text = found[1] if found else ""
    if not (text.isascii() and text.isdecimal()):
        return None
    return min(int(text[:9]), _MOST_WAIT_SECONDS)


def _check_range(response: httpx.Response, start: int) -> None:
    said = response.headers.get("content-range", "")
    found = re.fullmatch(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)", said)
    if found is None or int(found[1]) != start:
        raise UpstreamFailed("the upstream hub sends another range than was asked for")


def _pieces(response: httpx.Response, skip: int) -> Iterator[bytes]:
    # As they come: what is gathered would be lost with a connection that breaks.
    for piece in response.iter_raw():
        if skip:
            left = piece[skip:]
            skip -= len(piece) - len(left)
            piece = left
        if piece:
            yield piece
