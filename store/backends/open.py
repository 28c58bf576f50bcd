"""From the address of a store to the backend that keeps its objects."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..backend import Backend
from ..private import PRIVATE_UMASK
from .local import LocalBackend
from .memory import MemoryBackend

_S3_OPTIONS = {
    "endpoint": "endpoint_url",
    "region": "region",
    "checksums": "checksums",
    "addressing": "addressing",
}


@dataclass(frozen=True, slots=True)
class BackendKind:
    """How stores of a kind are opened, given the parts of an address and a umask, and what such
    addresses look like, for messages.

    `is_remote`: whether they are far away, so that a vault keeps its catalogue on this machine, and
    may put a cache in front. A vault may only be kept where `outlives` says that what is stored is
    still there when this process has ended.
    """

    open: Callable[[SplitResult, int], Backend]
    form: str
    is_remote: bool = False
    outlives: bool = True


def open_backend(url: str, *, umask: int = PRIVATE_UMASK) -> Backend:
    """Opens the backend that `url` names; nothing is read or written yet.

    - a path (with "~" for the home folder) or ``file:///path``: a folder
    - ``s3://bucket/prefix?endpoint=URL&region=NAME&checksums=when_required&addressing=path``:
      S3, all options optional. What they leave open, and all credentials, come from boto3's own
      configuration (environment, files, roles).
    - ``memory://``: a new, empty store in this process

    `umask`: the permissions that new files of a folder lack. Raises ValueError for anything else,
    NoSuchStore where a file is in the folder's place.
    """
    scheme, separator, _ = url.partition(":")
    if not url or (separator and scheme in BACKENDS and not url.startswith(f"{scheme}://")):
        raise ValueError(f"not the address of a store: {url!r}, expected {_forms()}")
    if "://" not in url:
        return LocalBackend(Path(url).expanduser(), umask=umask)
    parts = urlsplit(url)
    if parts.scheme not in BACKENDS:
        raise ValueError(f"no store is kept at {parts.scheme}:// addresses, expected {_forms()}")
    return BACKENDS[parts.scheme].open(parts, umask)


def _forms() -> str:
    *most, last = (kind.form for kind in BACKENDS.values())
    return f"a folder, {', '.join(most)} or {last}"


def _open_file(parts: SplitResult, umask: int) -> Backend:
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ValueError(f"not a file address: {parts.geturl()!r}, expected file:///folder")
    return LocalBackend(unquote(parts.path), umask=umask)


def _open_s3(parts: SplitResult, _umask: int) -> Backend:
    # boto3 takes 0.15 s to import, which other stores need not pay.
    try:
        from .s3 import S3Backend
    except ModuleNotFoundError as error:
        raise ValueError("S3 needs boto3: pip install 'weightvault[s3]'") from error

    if not parts.netloc or "@" in parts.netloc or ":" in parts.netloc:
        raise ValueError(
            # Without quoting it: it may hold a secret.
            "the address names no bucket: write s3://bucket/prefix, "
            "an endpoint as ?endpoint=URL, and leave credentials to the environment"
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(query.keys() - _S3_OPTIONS.keys())
    if unknown:
        raise ValueError(f"unknown S3 option {unknown[0]!r}, known: {', '.join(_S3_OPTIONS)}")
    options: dict[str, Any] = {_S3_OPTIONS[name]: value for name, value in query.items()}
    return S3Backend(parts.netloc, parts.path.strip("/"), **options)


def _open_memory(parts: SplitResult, _umask: int) -> Backend:
    if parts.netloc or parts.path.strip("/"):
        raise ValueError("memory:// takes no name: every opening is a new, empty store")
    return MemoryBackend()


# By the scheme of their addresses. To add one, write its module, and how it is opened, here.
BACKENDS = {
    "file": BackendKind(_open_file, "file:///folder"),
    "s3": BackendKind(_open_s3, "s3://bucket/prefix", is_remote=True),
    "memory": BackendKind(_open_memory, "memory://", outlives=False),
}
