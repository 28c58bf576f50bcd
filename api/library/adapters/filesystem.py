"""Vaults as a file system of fsspec: `wv://org/tune@v1/model.safetensors` for pandas, pyarrow and
whatever else opens addresses. Needs fsspec (`pip install 'weightvault[fsspec]'`).

Repos are folders below those of their namespaces. Reading asks for ranges; what is written becomes
a commit when the file is closed, and a file that is removed, one without it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from ....dedup.errors import Missing
from ....dedup.model.files.entries import FileEntry
from ....dedup.model.files.manifest import Manifest
from ....dedup.transfer.push_stream import push_stream
from ....dedup.vault import Snapshot
from ....store.repo_names import KINDS
from ..names import SCHEME, SECURE_SCHEME, Address, parse_address
from ..tensor_source import TensorSource
from ..vault import Vault

_IN_MEMORY_BYTES = 32 << 20
_READ_AHEAD_BYTES = 4 << 20


class VaultFileSystem(AbstractFileSystem):
    """A vault as fsspec sees file systems. `vault` is its address, unless paths name a server
    (`wv://hub:8377/org/tune`), else that of WEIGHTVAULT_URL; `token` is shown to a server."""

    protocol = (SCHEME, SECURE_SCHEME)

    def __init__(self, vault: str | None = None, token: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.vault = Vault(vault, token=token)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        scheme, separator, rest = str(path).partition("://")
        if not separator or scheme not in cls.protocol:
            return str(path).strip("/")
        first, _, below = rest.partition("/")
        return (below if scheme == SECURE_SCHEME or ":" in first else rest).strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        scheme, _, rest = path.partition("://")
        host = rest.partition("/")[0]
        if scheme == SECURE_SCHEME:
            return {"vault": f"https://{host}"}
        return {"vault": f"http://{host}"} if scheme == SCHEME and ":" in host else {}

    # Looking

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Lists what is directly in a folder: namespaces, repos, or folders and files of one."""
        stripped = self._strip_protocol(path)
        address = _address_of(stripped)
        if address is None:
            found = self._list_repos(stripped)
        else:
            snapshot = self._resolve(address)
            found = _list_folder(snapshot, stripped, address.path)
        return found if detail else [each["name"] for each in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Returns what a path is: its `type`, and of a file `size` and `blake3`, too."""
        stripped = self._strip_protocol(path)
        address = _address_of(stripped)
        if address is not None:
            entry = self._resolve(address).manifest.file(address.path)
            if entry is not None:
                return _describe(stripped, entry)
        self.ls(stripped)
        return _folder(stripped)

    def _list_repos(self, folder: str) -> list[dict[str, Any]]:
        begin = f"{folder}/" if folder else ""
        names = (repo for repo in self.vault if repo.startswith(begin))
        below = sorted({begin + name[len(begin) :].partition("/")[0] for name in names})
        if folder and not below:
            raise FileNotFoundError(folder)
        return [_folder(name) for name in below]

    def _resolve(self, address: Address) -> Snapshot:
        try:
            return self.vault.connect().resolve(address.repo, address.revision)
        except Missing as error:
            raise FileNotFoundError(error.message) from error

    # Reading and writing

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> VaultFile:
        block = block_size if isinstance(block_size, int) else _READ_AHEAD_BYTES
        return VaultFile(
            self, path, mode, block, autocommit, cache_options=cache_options, **options
        )

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Returns the bytes of a file, or a range of them."""
        source, entry = self._open_entry(self._strip_protocol(path))
        first, last, _step = slice(start, end).indices(entry.size)
        return source.read_file(entry.path, first, max(first, last)).tobytes()

    def rm_file(self, path: str) -> None:
        """Commits the branch without a file."""
        address = _file_address(self._strip_protocol(path))
        snapshot = self._resolve(address)
        if snapshot.manifest.file(address.path) is None:
            raise FileNotFoundError(path)
        rest = tuple(f for f in snapshot.manifest.files if f.path != address.path)
        manifest = Manifest(rest, snapshot.manifest.chunk_bytes)
        self.vault.connect().commit(address.repo, address.revision, manifest)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Commits a file under another path, or to another repo: no bytes are moved."""
        source, entry = self._open_entry(self._strip_protocol(path1))
        target = _file_address(self._strip_protocol(path2))
        with _made_of(source.stream_file(entry.path)) as file:
            self.commit_file(target, file, entry.size)

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Does nothing: a folder is there with its first file."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Does nothing: a folder is there with its first file."""

    def commit_file(self, address: Address, file: Any, size: int) -> None:
        """Commits what is in an open file as the file at an address."""
        vault = self.vault.connect(create=True)
        source = _Opened(file)
        push_stream(vault, address.path, source, size, address.repo, address.revision)

    def _open_entry(self, path: str) -> tuple[TensorSource, FileEntry]:
        address = _file_address(path)
        snapshot = self._resolve(address)
        entry = snapshot.manifest.file(address.path)
        if entry is None:
            raise FileNotFoundError(path)
        return TensorSource(self.vault.connect, snapshot, [entry]), entry


class VaultFile(AbstractBufferedFile):
    """A file of a revision that is open for reading, or one that becomes a commit when it is
    closed. Leaving its `with` statement by an error commits nothing."""

    def __init__(
        self, fs: VaultFileSystem, path: str, mode: str, *args: Any, **options: Any
    ) -> None:
        if mode not in ("rb", "wb", "xb"):
            raise NotImplementedError(f"files of a vault are not opened with mode {mode!r}")
        self._address = _file_address(path)
        if mode == "rb":
            self._source, entry = fs._open_entry(path)
            options["size"] = entry.size
        super().__init__(fs, path, mode, *args, **options)

    def __exit__(self, *raised: Any) -> None:
        if raised and raised[0] is not None and self.mode != "rb":
            self.discard()
            self.closed = True
            return
        super().__exit__(*raised)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._source.read_file(self._address.path, start, end).tobytes()

    def _initiate_upload(self) -> None:
        self._spool: Any = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115

    def _upload_chunk(self, final: bool = False) -> None:
        self._spool.write(self.buffer.getvalue())
        if final and self.autocommit:
            self.commit()

    def commit(self) -> None:
        """Makes the commit."""
        with self._spool:
            self.fs.commit_file(self._address, self._spool, self._spool.tell())

    def discard(self) -> None:
        """Forgets what was written."""
        spool = getattr(self, "_spool", None)
        if spool is not None:
            spool.close()


class _Opened:
    """A file that is open already, as what a push opens."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __str__(self) -> str:
        return "what was written"

    def open(self, mode: str) -> _Opened:
        """Opens it for reading, from its beginning."""
        self._file.seek(0)
        return self

    def __enter__(self) -> Any:
        return self._file

    def __exit__(self, *_: object) -> None:
        """Leaves it open: who opened it closes it."""


def _made_of(pieces: Iterable[Any]) -> Any:
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115
    file.writelines(pieces)
    return file


def _address_of(path: str) -> Address | None:
    """Returns repo, revision and path of a path below a repo; None above that."""
    parts = path.split("/")
    if len(parts) < (3 if parts[0] in KINDS else 2):
        return None
    return replace(parse_address(f"{SCHEME}://{path}"), vault=None)


def _file_address(path: str) -> Address:
    address = _address_of(VaultFileSystem._strip_protocol(path))
    if address is None or not address.path:
        raise IsADirectoryError(path)
    return address


def _list_folder(snapshot: Snapshot, path: str, folder: str) -> list[dict[str, Any]]:
    begin = f"{folder}/" if folder else ""
    top = path[: len(path) - len(folder)].rstrip("/")
    found: dict[str, dict[str, Any]] = {}
    for entry in snapshot.manifest.files:
        if entry.path == folder:
            return [_describe(path, entry)]
        if entry.path.startswith(begin):
            name, slash, _ = entry.path[len(begin) :].partition("/")
            full = f"{top}/{begin}{name}"
            found.setdefault(full, _folder(full) if slash else _describe(full, entry))
    if folder and not found:
        raise FileNotFoundError(path)
    return list(found.values())


def _describe(path: str, entry: FileEntry) -> dict[str, Any]:
    return {"name": path, "size": entry.size, "type": "file", "blake3": entry.digest.hex()}


def _folder(path: str) -> dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}
