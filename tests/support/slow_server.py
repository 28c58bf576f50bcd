"""A server whose disk takes its time: `python slow_server.py ROOT`.

Serves the vault in the folder ROOT. While there is a file ROOT/slow, each read and write of packs,
xorbs and parts of uploads takes as many seconds as are written in it, and leaves a line in ROOT/log
with the name of its thread. While there is a file ROOT/kill with a number in it, the process kills
itself instead of the write, or deletion, of that number from then on; with a second word in the
file, only those of threads of that name count. Prints the URL once it takes requests.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from vaults import Wrapper, open_local

from weightvault.api.requests.settings import ServerSettings
from weightvault.api.server.serving import listen, run
from weightvault.store.backend import Backend, BytesLike

PART_BYTES = 100_000
"""Files of git-lfs that are longer are sent in parts of as many."""

_SLOW = ("packs/", "xorbs/", "uploads/")


class SlowDisk(Wrapper):
    """Waits before it does what it is asked; nothing can interrupt it."""

    def __init__(self, inner: Backend, root: Path) -> None:
        super().__init__(inner)
        self._root = root
        self._writes = 0
        self._lock = threading.Lock()

    def put(self, key: str, data: BytesLike) -> None:
        self._wait(key)
        self._count_write()
        super().put(key, data)

    def put_file(self, key: str, path: Any) -> None:
        self._wait(key)
        self._count_write()
        super().put_file(key, path)

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        self._wait(key)
        return super().get(key, start, stop)

    def delete(self, key: str) -> None:
        self._count_write()
        super().delete(key)

    def _count_write(self) -> None:
        kill = self._root / "kill"
        if not kill.exists():
            return
        number, *names = kill.read_text().split()
        if names and threading.current_thread().name not in names:
            return
        with self._lock:
            if self._writes == int(number):
                os.kill(os.getpid(), signal.SIGKILL)
            self._writes += 1

    def _wait(self, key: str) -> None:
        slow = self._root / "slow"
        if key.startswith(_SLOW) and slow.exists():
            with (self._root / "log").open("a") as log:
                log.write(f"{threading.current_thread().name} {key}\n")
            time.sleep(float(slow.read_text()))


def main() -> None:
    """Serves until it is told to stop."""
    root = Path(sys.argv[1])
    vault = open_local(root, lambda backend: SlowDisk(backend, root))
    try:
        settings = ServerSettings(multipart_bytes=PART_BYTES, part_bytes=PART_BYTES)
        run(vault, listen("127.0.0.1", 0), lambda url: print(url, flush=True), settings)
    finally:
        vault.close()


if __name__ == "__main__":
    main()
