"""What a vault and its repos do with files and tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from ...dedup.errors import Missing
from .. import cache_config, config
from .names import split_repo

if TYPE_CHECKING:
    from ...dedup.model.history import PushResult
    from ...dedup.model.report import Report
    from ...dedup.transfer.pull import PullResult
    from ...dedup.vault import Commit
    from ...dedup.vault import Vault as AnyVault
    from .tensor_file import TensorFile


class Handle:
    """A vault as far as repos are named; `vault.Vault` gives them."""

    def __init__(
        self, url: str | None = None, *, token: str | None = None, catalogue: str | None = None
    ) -> None:
        self.url = config.vault_url(url)
        self._token = token
        self._catalogue = catalogue
        self._opened: AnyVault | None = None
        self._begin()
        # A folder that is not there yet is made by a push.
        with suppress(Missing):
            self.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Vault({self.url!r})"

    def close(self) -> None:
        """Closes connections and files; a closed vault is opened again by using it."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None and self._process == os.getpid():
            if not config.is_server(self.url):
                _note_heads(opened)
            opened.close()

    def report(self) -> Report:
        """Returns where the bytes go: logical, unique and stored bytes, and what saved how much."""
        return self.connect().report()

    # In and out

    def push(
        self,
        path: str | os.PathLike[str],
        repo: str,
        *,
        message: str | None = None,
        revision: str | None = None,
        base: str | None = None,
        level: str = "default",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        progress: bool = False,
    ) -> PushResult:
        """Stores a file or a folder as the newest commit of a branch (`main`, or `revision`).

        Only what the vault lacks is sent. `base` is the repo that the model derives from, where
        that should not be found by its content. `include` and `exclude` are patterns as in
        `.gitignore`, which decide before what is left out or refused otherwise: caches, keys,
        what `.wvignore` names. `progress` shows on stderr how far it is.
        """
        from ...dedup.transfer.folders.rules import Rules
        from ...dedup.transfer.push import push

        name, branch = split_repo(repo, revision)
        own = config.own_paths(self.url, self._catalogue)
        return push(
            self.connect(create=True),
            Path(path),
            name,
            branch,
            base=base,
            level=level,
            message=message,
            progress=_progress(progress),
            rules=Rules(tuple(include), tuple(exclude), own=own),
        )

    def pull(
        self,
        repo: str,
        dest: str | os.PathLike[str],
        *,
        revision: str | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        reuse: Sequence[str | os.PathLike[str]] = (),
        progress: bool = False,
    ) -> PullResult:
        """Writes the files of a revision below the folder `dest`, each verified before it gets its
        name. Files that are there already, byte for byte, are left alone.

        `include` and `exclude` are patterns of paths, as huggingface_hub takes them: `*.json`,
        `onnx/*`. `reuse` names folders with files of the same names, such as a cache of
        huggingface_hub: what is in them, in `dest` or in the cache of chunks, a server does not
        send.
        """
        from ...dedup.transfer.pull import pull
        from .operations import make_filter

        name, wanted = split_repo(repo, revision)
        return pull(
            self.connect(),
            name,
            Path(dest),
            wanted,
            wants=make_filter(include, exclude),
            progress=_progress(progress),
            cache=cache_config.chunk_cache(),
            reuse=[Path(folder) for folder in reuse],
        )

    def save(
        self,
        repo: str,
        tensors: Mapping[str, Any],
        *,
        path: str = "model.safetensors",
        metadata: Mapping[str, str] | None = None,
        message: str | None = None,
        revision: str | None = None,
        base: str | None = None,
        level: str = "default",
        progress: bool = False,
    ) -> Commit:
        """Commits a state dict, arrays or tensors by name, as the safetensors file `path` of a
        branch; its other files stay. No file is written on the way.

        The file is, byte for byte, what safetensors would write. Tensors must not change before
        this returns.
        """
        from .saving import save_tensors

        name, branch = split_repo(repo, revision)
        return save_tensors(
            self.connect(create=True),
            name,
            branch,
            path,
            tensors,
            metadata,
            message=message,
            base=base,
            level=level,
            progress=_progress(progress),
        )

    def safe_open(
        self,
        repo: str,
        *,
        revision: str | None = None,
        file: str | Sequence[str] | None = None,
        framework: str = "np",
        device: str = "cpu",
    ) -> TensorFile:
        """Opens the tensors of a revision, as `safetensors.safe_open` does those of a file.

        `file` is a path, or several; without it, all safetensors files are open together, or where
        there are none all files with tensors in them. `framework` is "np" or "pt".
        """
        from .tensor_file import open_tensors

        name, wanted = split_repo(repo, revision)
        snapshot = self.connect().resolve(name, wanted)
        return open_tensors(self.connect, snapshot, file, framework, device)

    def connect(self, *, create: bool = False) -> AnyVault:
        """Returns the vault underneath, opened at first use, and again in a forked process. Without
        `create` a folder that is not there raises Missing."""
        if self._process != os.getpid():
            # Connections are the parent's. They are not closed here, as that would tell the server.
            self._inherited = self._opened
            self._opened = None
            self._begin()
        with self._lock:
            if self._opened is None:
                self._opened = self._open(create=create)
            return self._opened

    def _open(self, *, create: bool) -> AnyVault:
        if config.is_server(self.url):
            return config.open_server(self.url, self._token)
        return config.open_local_vault(self.url, self._catalogue, create=create)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = Lock()


def _note_heads(vault: Any) -> None:
    vault.note_heads()


def _progress(shown: bool) -> Any:
    if not shown:
        return None
    from ..progress import make_progress

    return make_progress()
