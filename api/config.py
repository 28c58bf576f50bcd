"""What the environment and the command line configure, and the vault that comes of it.

It, server_config, which has what servers go by, and cache_config are all that read the environment:

    WEIGHTVAULT_URL        the vault, unless --vault names it
    WEIGHTVAULT_CATALOGUE  database URL of the catalogue, unless --catalogue gives it
    WEIGHTVAULT_TOKEN      what to show a server that wants a token
    WEIGHTVAULT_UMASK      permissions that new files of a vault lack: 077 unless given
    WEIGHTVAULT_PRICES     table of prices for reports, unless --prices names it
    WEIGHTVAULT_DEBUG      1: unexpected and expected errors come with a traceback
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ..dedup.errors import InvalidInput, Missing
from ..store.object_keys import manifest_key
from ..store.private import PRIVATE_UMASK, find_exposed, make_folder
from .cache_config import short_name, with_cache
from .errors import from_os_error

if TYPE_CHECKING:
    from ..dedup.local_vault import LocalVault
    from ..dedup.vault import Vault
    from ..store.backend import Backend
    from ..store.backends.open import BackendKind
    from ..store.catalogue.catalogue import Catalogue
    from ..store.catalogue.tables.migrate import OnStep
    from .client.http_vault import HttpVault

_FORMS = "a vault is a folder, s3://bucket/prefix or http://host:port"
_CATALOGUE_FILE = "catalogue.sqlite"


def debug() -> bool:
    """Says whether errors should show their traceback."""
    return os.environ.get("WEIGHTVAULT_DEBUG", "0") not in ("", "0")


def prices_path() -> Path | None:
    """Returns the table of prices that WEIGHTVAULT_PRICES names."""
    named = os.environ.get("WEIGHTVAULT_PRICES")
    return Path(named) if named else None


def hub_cache() -> Path:
    """Returns where huggingface_hub keeps the downloads of this user, by its own variables."""
    if named := os.environ.get("HF_HUB_CACHE"):
        return Path(named)
    home = (
        os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/huggingface"
    )
    return Path(home, "hub").expanduser()


def vault_url(url: str | None = None) -> str:
    """Returns the vault's address: `url`, else WEIGHTVAULT_URL, else a folder of this user."""
    if url or (url := os.environ.get("WEIGHTVAULT_URL")):
        return url
    return str(_user_data() / "vault")


def open_vault(url: str, catalogue: str | None = None, *, create: bool = True) -> Vault:
    """Opens the vault at `url`; nothing is sent to a server yet.

    `catalogue` is a database URL for vaults that this process keeps itself. Without `create` a
    folder that holds no vault raises Missing. Raises InvalidInput for an address of no known form
    and for a folder that holds something else.
    """
    if is_server(url):
        return open_server(url)
    return open_local_vault(url, catalogue, create=create)


def open_server(url: str, token: str | None = None) -> HttpVault:
    """Opens the vault behind the server at `url`, with that token, else that of
    WEIGHTVAULT_TOKEN."""
    # httpx takes 0.1 s to import, which a vault in a folder need not pay.
    from .client.http_vault import HttpVault

    return HttpVault(url, token=token or os.environ.get("WEIGHTVAULT_TOKEN"))


def file_umask() -> int:
    """Returns the permissions that new files and folders of a vault lack: those of the group and of
    others, unless WEIGHTVAULT_UMASK says otherwise."""
    text = os.environ.get("WEIGHTVAULT_UMASK") or f"{PRIVATE_UMASK:o}"
    if not re.fullmatch("0*[0-7]{1,2}", text):
        raise InvalidInput(
            f"WEIGHTVAULT_UMASK is {text!r}", "write it as umask does: 077, or 007 for a group"
        )
    return int(text, 8)


def find_exposure(vault: LocalVault) -> tuple[str, str] | None:
    """Returns what of a vault others on this machine can read, and the fix, as message and hint;
    None where all of it is private."""
    from ..store.backends.local import LocalBackend

    root = vault.backend.root if isinstance(vault.backend, LocalBackend) else None
    return _describe_exposure(vault.scratch, vault.catalogue.file, root)


def _describe_exposure(
    scratch: Path, file: Path | None, objects: Path | None
) -> tuple[str, str] | None:
    from .key_file import key_path

    umask = file_umask()
    paths = [scratch, *([file, key_path(file)] if file else []), *([objects] if objects else [])]
    found = find_exposed(paths, umask)
    if not found:
        return None
    who = ("g" if umask & 0o070 else "") + "o"
    named = " ".join(shlex.quote(str(path)) for path in found)
    return f"others on this machine can read {named}", f"chmod -R {who}-rwx {named}"


@dataclass(frozen=True, slots=True)
class VaultFolder:
    """A vault in a folder that has its own catalogue there, not opened."""

    folder: Path

    @property
    def _database(self) -> Path:
        return self.folder / _CATALOGUE_FILE

    def state(self) -> str | None:
        """Returns the state of the vault: equal ones hold the same. None where it cannot be told
        without opening it."""
        from ..store.folder_state import describe_folder

        return describe_folder(self.folder / "objects", self._database)

    def find_exposure(self) -> tuple[str, str] | None:
        """See the function of that name."""
        return _describe_exposure(self.folder / "tmp", self._database, self.folder / "objects")

    def has(self, manifest: str) -> bool:
        """Tells whether a manifest of that name lies there."""
        return (self.folder / "objects" / manifest_key(manifest)).is_file()


def find_folder(url: str, catalogue: str | None = None) -> VaultFolder | None:
    """Returns the vault at `url` where it is such a folder. See open_vault."""
    kind = None if is_server(url) else _kind_of(url)
    if kind is None or kind.is_remote or catalogue or os.environ.get("WEIGHTVAULT_CATALOGUE"):
        return None
    return VaultFolder(_folder_of(url))


def prepare_log(path: Path) -> None:
    """Makes a file that only this user may read, or finds that it can be written. Raises what the
    operating system says against it."""
    with _os_errors(f"cannot write {path}"):
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))


def open_local_vault(
    url: str,
    catalogue: str | None = None,
    *,
    create: bool = True,
    rebuild_marker: bool = False,
) -> LocalVault:
    """Opens a vault that this process keeps itself: a folder or S3. See open_vault, LocalVault."""
    from ..dedup.local_vault import LocalVault

    parts = _open_parts(url, catalogue, create)
    with _os_errors(f"cannot make {parts.scratch}"):
        make_folder(parts.scratch, file_umask())
    return LocalVault(
        parts.backend, parts.catalogue, scratch=parts.scratch, rebuild_marker=rebuild_marker
    )


def open_parts(
    url: str,
    catalogue: str | None = None,
    *,
    migrate: bool = False,
    on_step: OnStep | None = None,
) -> Parts:
    """Opens store and catalogue of a vault that is there, without bringing them in step.

    `migrate` brings the catalogue's tables up to date first, telling `on_step` how far that is.
    """
    return _open_parts(url, catalogue, create=False, migrate=migrate, on_step=on_step)


def own_paths(url: str, catalogue: str | None = None) -> tuple[Path, ...]:
    """Returns the files and folders of this machine that are those of a vault itself, which no push
    stores: its folder, and a catalogue that lies elsewhere, with what SQLite and we keep beside."""
    if is_server(url):
        return ()
    paths: list[Path] = []
    kind = _kind_of(url)
    if kind is not None and not kind.is_remote:
        paths.append(_folder_of(url))
    database = catalogue or os.environ.get("WEIGHTVAULT_CATALOGUE") or ""
    if database.startswith("sqlite:///"):
        file = database.removeprefix("sqlite:///").partition("?")[0]
        paths += [Path(file + end) for end in ("", "-wal", "-shm", "-journal", ".key")]
    return tuple(paths)


def is_server(url: str) -> bool:
    """Says whether `url` is the address of a server."""
    return url.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class Parts:
    """What a vault is made of; `scratch` is a folder that need not be there yet."""

    backend: Backend
    catalogue: Catalogue
    scratch: Path

    def close(self) -> None:
        """Closes connections and files."""
        self.catalogue.close()
        self.backend.close()


def _open_parts(
    url: str,
    catalogue: str | None,
    create: bool,
    *,
    migrate: bool = False,
    on_step: OnStep | None = None,
) -> Parts:
    catalogue = catalogue or os.environ.get("WEIGHTVAULT_CATALOGUE")
    kind = _kind_of(url)
    if kind is None or not kind.outlives:
        raise InvalidInput(f"{url!r} is not the address of a vault", _FORMS)
    _check_is_folder(url)
    if kind.is_remote:
        objects, folder = url, _make_remote_folder(url)
    else:
        folder = _folder_of(url)
        objects = _make_folder(folder, create)
    database = catalogue or _sqlite_url(folder / _CATALOGUE_FILE)
    backend, index = _connect(objects, database, migrate, on_step)
    return Parts(backend, index, folder / "tmp")


def _kind_of(url: str) -> BackendKind | None:
    from ..store.backends.open import BACKENDS

    return BACKENDS.get(url.partition("://")[0] if "://" in url else "file")


def _check_is_folder(url: str) -> None:
    """Raises InvalidInput for what is meant for a server or a bucket, and would make a folder."""
    if "://" in url or Path(url).exists():
        return
    scheme = re.match(r"(https?|s3|file):/*(.*)", url)
    if scheme:
        raise InvalidInput(f"{url!r} lacks slashes", f"write {scheme[1]}://{scheme[2]}")
    if re.fullmatch(r"(?:[\w.-]+|\[[\w:]+\]):\d{1,5}(?:/.*)?", url):
        raise InvalidInput(
            f"{url!r} looks like the address of a server",
            f"write http://{url}, or ./{url} for a folder of that name",
        )


def _make_folder(folder: Path, create: bool) -> str:
    with _os_errors(f"cannot open the vault in {folder}"):
        _check_folder(folder, create)
        # The catalogue lists what people keep here: as private as their other data.
        make_folder(folder, file_umask())
        # Made before anything else is: by it a later run knows the folder for a vault.
        objects = folder / "objects"
        make_folder(objects, file_umask())
    return objects.absolute().as_uri()


def _check_folder(folder: Path, create: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file, not a vault", _FORMS)
    empty = not folder.exists() or not any(folder.iterdir())
    if empty and not create:
        raise Missing(
            f"there is no vault in {folder}",
            "`weightvault push` makes it; --vault or WEIGHTVAULT_URL names another one",
        )
    if not empty and not (folder / "objects").is_dir():
        raise InvalidInput(
            f"{folder} holds other files and is not a vault",
            "name an empty or new folder with --vault or WEIGHTVAULT_URL",
        )


def _make_remote_folder(url: str) -> Path:
    folder = _user_data() / "remote" / short_name(url)
    with _os_errors(f"cannot keep local data of {url} in {folder}"):
        make_folder(folder, file_umask())
    return folder


def _connect(
    objects: str, database: str, migrate: bool, on_step: OnStep | None
) -> tuple[Backend, Catalogue]:
    from ..store.backends.open import open_backend
    from ..store.catalogue.catalogue import open_catalogue

    try:
        umask = file_umask()
        backend = open_backend(objects, umask=umask)
        kind = _kind_of(objects)
        if kind is not None and kind.is_remote:
            backend = with_cache(backend, objects)
        index = open_catalogue(database, migrate=migrate, on_step=on_step, umask=umask)
        return backend, index
    except ValueError as error:
        raise InvalidInput(str(error), _FORMS) from error


def _folder_of(url: str) -> Path:
    if not url.startswith("file://"):
        return Path(url).expanduser()
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise InvalidInput(f"{url!r} is not a file address", "write file:///folder")
    return Path(unquote(parts.path))


def _sqlite_url(path: Path) -> str:
    from sqlalchemy import URL

    # Which characters need quoting differs between versions of SQLAlchemy.
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def _user_data() -> Path:
    from platformdirs import user_data_path

    return user_data_path("weightvault", appauthor=False)


@contextmanager
def _os_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise from_os_error(error, doing) from error
