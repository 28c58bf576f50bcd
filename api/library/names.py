"""Addresses of what is in a vault: `org/tune@v1`, and `wv://org/tune@v1/model.safetensors`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ...dedup.errors import InvalidInput, InvalidName
from ...dedup.model.names import check_path, check_repo, check_revision
from ...store.repo_names import KINDS

SCHEME = "wv"
SECURE_SCHEME = "wvs"
DEFAULT_REVISION = "main"

_FORMS = "write wv://namespace/name[@revision][/path], with host:port/ in front for a server"


@dataclass(frozen=True, slots=True)
class Address:
    """A repo at a revision, or a file of it. `vault` is the address of its vault; None where that
    is the usual one. `path` is "" for all of the repo."""

    vault: str | None
    repo: str
    revision: str
    path: str = ""


def split_repo(named: str, revision: str | None = None) -> tuple[str, str]:
    """Returns repo and revision of `org/tune` or `org/tune@v1`, in which `revision` or else `main`
    stands for none. Raises InvalidName, and InvalidInput where there are two."""
    repo, at, wanted = named.partition("@")
    if at and revision is not None:
        raise InvalidInput(f"{named!r} names a revision, and so does {revision!r}", "name one")
    return check_repo(repo), check_revision(wanted if at else revision or DEFAULT_REVISION)


def parse_address(uri: str) -> Address:
    """Takes a `wv://` or `wvs://` address apart. Raises InvalidInput kinds.

    A first part with a port is a server (`wv://hub:8377/org/tune`, reached by http; every first
    part of `wvs://` is one, reached by https). Slashes in a revision are written %2F.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in (SCHEME, SECURE_SCHEME):
        raise InvalidInput(f"{uri!r} is no address in a vault", _FORMS)
    vault = None
    first, _, below = rest.partition("/")
    if scheme == SECURE_SCHEME or ":" in first:
        vault = f"{'https' if scheme == SECURE_SCHEME else 'http'}://{_checked_host(first, uri)}"
        rest = below
    repo, revision, path = _split_path(rest, uri)
    return Address(vault, repo, revision, path)


def _checked_host(host: str, uri: str) -> str:
    try:
        parsed = urlsplit(f"//{host}")
        usable = bool(parsed.hostname) and (parsed.port or 0) >= 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidInput(f"{uri!r} names no server", _FORMS)
    return host


def _split_path(text: str, uri: str) -> tuple[str, str, str]:
    parts = text.strip("/").split("/")
    count = 3 if parts[0] in KINDS else 2
    if len(parts) < count:
        raise InvalidName(f"{uri!r} names no repo", _FORMS)
    named = "/".join(parts[:count])
    repo, at, revision = named.partition("@")
    path = "/".join(parts[count:])
    wanted = check_revision(unquote(revision)) if at else DEFAULT_REVISION
    return check_repo(repo), wanted, check_path(path) if path else ""
