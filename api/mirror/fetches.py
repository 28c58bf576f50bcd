"""Files on their way from the upstream: written to a file of ours, which clients read already.

A file is fetched once, however many clients wait for it. They get its bytes as they arrive, but the
last of them only when all are there and hash to what the upstream said: nobody gets a whole file
that is not that one. Then it is stored like an upload. A fetch that is broken off goes on where it
stopped, at once or, where that fails, when the file is asked for again.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import uuid4

from starlette.concurrency import run_in_threadpool

from ...dedup.errors import VaultError
from ...dedup.repository.file_hashes import git_hasher
from ...store.cancel import Cancelled, CancelToken, cancelled_by, check_cancelled
from ..errors import UnsafeAddress, UpstreamFailed, UpstreamRefused, from_os_error
from .listing import UpstreamFile
from .upstream import Upstream

_READ_BYTES = 1 << 20
# Withheld until all that came before is known to be right.
_LAST_BYTES = 64 << 10
_LOOK_SECONDS = 0.02
# Tries that bring nothing, one after the other.
_MOST_TRIES = 5
_FIRST_PAUSE_SECONDS = 0.2
_MOST_PAUSE_SECONDS = 30.0
_STALE_SECONDS = 24 * 3600.0

_log = logging.getLogger("weightvault.api")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch: of which commit of a repo, at which path of the upstream, with which of its
    tokens, and for whom, as the audit log has it."""

    repo: str
    commit: str
    file: UpstreamFile
    address: str
    token: str | None = field(repr=False)
    who: Mapping[str, str | None]


Hold = Callable[[Wanted], AbstractContextManager[object]]
"""Within, a file that is fetched counts as on its way; raises where there is no room for it."""


class Fetch:
    """A file on its way. `arrived` of its bytes are there, `whole` says that they are right."""

    def __init__(self, wanted: Wanted, path: Path, out: BinaryIO) -> None:
        self.wanted = wanted
        self.path = path
        self.out = out
        self.arrived = 0
        self.whole = False
        self.error: VaultError | None = None
        self.ended = threading.Event()

    def __del__(self) -> None:
        self.out.close()

    @property
    def readable(self) -> int:
        """How many bytes from the first on clients may have."""
        size = self.wanted.file.size
        return size if self.whole else max(0, min(self.arrived, size - _LAST_BYTES))

    async def read(self, first: int, stop: int) -> AsyncIterator[bytes]:
        """Yields the bytes [first, stop) as they arrive. Raises what the fetch failed with."""
        at = first
        # Once it is stored the file goes.
        file = os.dup(self.out.fileno())
        try:
            while at < stop:
                there = min(stop, self.readable, at + _READ_BYTES)
                if there > at:
                    yield await run_in_threadpool(os.pread, file, there - at, at)
                    at = there
                elif self.error is not None:
                    raise self.error
                else:
                    await asyncio.sleep(_LOOK_SECONDS)
        finally:
            os.close(file)


class Fetches:
    """Fetches files into `folder`, `at_once` at a time; `store` takes in what has arrived whole,
    and is called in a thread of the fetch, within `hold`. Safe to use from several threads."""

    def __init__(
        self,
        upstream: Upstream,
        folder: Path,
        at_once: int,
        hold: Hold,
        store: Callable[[Wanted, Path], None],
    ) -> None:
        self._upstream = upstream
        self._folder = folder
        self._hold = hold
        self._store = store
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], Fetch] = {}
        self._pool = ThreadPoolExecutor(at_once, "mirror")
        self._stop = CancelToken()

    def close(self) -> None:
        """Ends all fetches; what has arrived stays for the next time."""
        self._stop.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def find(self, repo: str, file: UpstreamFile) -> Fetch | None:
        """Returns the fetch of a file that is under way; None if there is none."""
        with self._lock:
            return self._running.get((repo, file.etag))

    def begin(self, wanted: Wanted) -> Fetch:
        """Returns the fetch of a file, which begins now unless it is under way."""
        key = wanted.repo, wanted.file.etag
        with self._lock:
            found = self._running.get(key)
            if found is None:
                found = self._running[key] = Fetch(wanted, *self._open_part(wanted))
                self._pool.submit(self._run, found, key)
            return found

    def busy_with(self, repo: str) -> bool:
        """Says whether files of a repo are on their way."""
        with self._lock:
            return any(name == repo for name, _ in self._running)

    def sweep(self) -> None:
        """Removes what arrived a day ago or earlier and was never asked for again."""
        horizon = time.time() - _STALE_SECONDS
        for path in self._folder.glob("*.part"):
            with suppress(OSError):
                if path.stat().st_mtime < horizon:
                    path.unlink()

    def _open_part(self, wanted: Wanted) -> tuple[Path, BinaryIO]:
        """Opens what an earlier fetch left of a file, or a new file where another server is at
        that."""
        name = hashlib.sha256(f"{wanted.repo}\0{wanted.file.etag}".encode()).hexdigest()[:40]
        for path in (self._folder / f"{name}.part", self._folder / f"{name}-{uuid4().hex}.part"):
            try:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                out = cast(BinaryIO, open(path, "a+b", buffering=0, opener=_open_private))  # noqa: SIM115
            except OSError as error:
                raise from_os_error(error, "cannot keep a file of the upstream hub") from error
            try:
                fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                out.close()
                continue
            return path, out
        raise UpstreamFailed("a file of the upstream hub cannot be kept", "try again")

    def _run(self, fetch: Fetch, key: tuple[str, str]) -> None:
        try:
            with cancelled_by(self._stop), self._hold(fetch.wanted):
                self._bring(fetch)
                self._store(fetch.wanted, fetch.path)
            fetch.path.unlink(missing_ok=True)
        except VaultError as error:
            fetch.error = error
            _log.warning("fetch of %s of %s: %s", key[1], key[0], error.message)
        except OSError as error:
            fetch.error = from_os_error(error, "cannot keep a file of the upstream hub")
        except Cancelled:
            fetch.error = UpstreamFailed("the server stops", "try again later")
        except Exception as error:
            fetch.error = VaultError("the server failed to fetch a file")
            _log.exception("fetch of %s of %s: %s", key[1], key[0], error)
        finally:
            with self._lock:
                self._running.pop(key, None)
                # Readers may still have the file open.
                fcntl.flock(fetch.out, fcntl.LOCK_UN)
            fetch.ended.set()

    def _bring(self, fetch: Fetch) -> None:
        """Fetches a file, from where an earlier try stopped. Raises UpstreamFailed."""
        file = fetch.wanted.file
        hasher, fetch.arrived = _hash_present(fetch.out, file)
        tries = 0
        while fetch.arrived < file.size:
            check_cancelled()
            before = fetch.arrived
            try:
                self._bring_part(fetch, hasher)
                failed = UpstreamFailed("the upstream hub broke off in the middle of a file")
            except (UpstreamFailed, UpstreamRefused) as error:
                failed = error
            tries = 0 if fetch.arrived > before else tries + 1
            if fetch.arrived < file.size:
                self._pause(failed, tries)
        if hasher.hexdigest() != file.etag:
            fetch.path.unlink(missing_ok=True)
            raise UpstreamFailed("the upstream hub sent other bytes than it said", "try again")
        fetch.whole = True

    def _bring_part(self, fetch: Fetch, hasher: Any) -> None:
        wanted, size = fetch.wanted, fetch.wanted.file.size
        asked = self._upstream.file(wanted.address, wanted.token, fetch.arrived, size)
        with asked as pieces:
            for piece in pieces:
                check_cancelled()
                if fetch.arrived + len(piece) > size:
                    raise UpstreamFailed("the upstream hub sent more bytes than it said")
                _write_all(fetch.out, piece)
                hasher.update(piece)
                fetch.arrived += len(piece)

    def _pause(self, failed: UpstreamFailed | UpstreamRefused, tries: int) -> None:
        """Waits before the next try. Raises what failed where there is none."""
        pause = _FIRST_PAUSE_SECONDS * 2**tries
        if isinstance(failed, UnsafeAddress):
            raise failed
        if isinstance(failed, UpstreamRefused):
            if failed.status != 429 or failed.retry_after is None:
                raise failed
            pause = max(pause, failed.retry_after)
        if tries >= _MOST_TRIES or pause > _MOST_PAUSE_SECONDS:
            raise failed
        deadline = time.monotonic() + pause
        while time.monotonic() < deadline:
            check_cancelled()
            time.sleep(min(0.1, pause))


def _hash_present(out: BinaryIO, file: UpstreamFile) -> tuple[Any, int]:
    """Returns a hash of what an earlier fetch left of a file, and how many bytes that is; none of
    them where they are more than the file has."""
    hasher = git_hasher(file.size) if file.sha256 is None else hashlib.sha256()
    present = os.fstat(out.fileno()).st_size
    if present > file.size:
        out.truncate(0)
        return hasher, 0
    at = 0
    while piece := os.pread(out.fileno(), _READ_BYTES, at):
        check_cancelled()
        hasher.update(piece)
        at += len(piece)
    return hasher, at


def _write_all(out: BinaryIO, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[out.write(view) :]


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
