"""Signed texts: what a server issues and gets back unchanged, it or another of the same vault.

`body.signature`, both in URL-safe base64: the body is JSON of a purpose, what is claimed, and until
when it holds; the signature HMAC-SHA256 of it. The key is drawn once for a catalogue, and every
server on it knows it: it lies in a file beside the catalogue (key_file.py), or in the catalogue
where that is a database on a server, which no file of one machine can stand beside.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.damage import default_setting, get_setting, set_setting
from ...store.private import PRIVATE_UMASK
from ..key_file import KEY_BYTES, key_path, load_key

_SETTING = "signing_key"
# Claims are a few names; nothing longer is decoded.
_MAX_CHARS = 4096


class InvalidSignature(Exception):
    """A text that was not signed here, was signed for something else, or holds no longer."""


class Signer:
    """Signs and checks; safe to use from several threads. `now` is a clock in Unix seconds."""

    def __init__(self, key: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now

    def sign(self, purpose: str, claims: Any, expires: float) -> str:
        """Returns a text that says `claims`, a JSON-able value, until `expires`, Unix seconds."""
        body = json.dumps([purpose, claims, expires], separators=(",", ":")).encode()
        return f"{_encode(body)}.{_encode(self._mac(body))}"

    def verify(self, purpose: str, text: str) -> Any:
        """Returns what a text claims. Raises InvalidSignature."""
        try:
            if len(text) > _MAX_CHARS:
                raise InvalidSignature("not a signed text")
            body, mac = map(_decode, text.split("."))
            if not hmac.compare_digest(mac, self._mac(body)):
                raise InvalidSignature("the signature is wrong")
            meant, claims, expires = json.loads(body)
        except ValueError as error:
            raise InvalidSignature("not a signed text") from error
        if meant != purpose:
            raise InvalidSignature(f"signed for {meant!r}, not for {purpose!r}")
        if self._now() >= expires:
            raise InvalidSignature("it has expired")
        return claims

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)


def open_signer(catalogue: Catalogue, umask: int = PRIVATE_UMASK) -> Signer:
    """Returns the signer of all servers that share a catalogue. `umask` as in store/private.py."""
    if catalogue.file is None:
        key = default_setting(catalogue, _SETTING, secrets.token_hex(KEY_BYTES))
        return Signer(bytes.fromhex(key))
    if get_setting(catalogue, _SETTING) is not None:
        # Older versions kept it where whoever read the catalogue could read it, too.
        set_setting(catalogue, _SETTING, None)
    return Signer(load_key(key_path(catalogue.file), umask))


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
