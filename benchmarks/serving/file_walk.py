"""How many files a push over HTTP runs through, and how often it moves from one to another.

    python -m weightvault.benchmarks.serving.file_walk
    WALK_DETAILS=1 python -m weightvault.benchmarks.serving.file_walk  # what is entered most

One tensor with a related base, traced by `sys.setprofile` in both processes. A move is a call of a
function in another file of the product than the one called before, in the same thread; returns are
not counted, steps of a coroutine and of a generator are. The client is `weightvault push`, from the
parsing of its arguments to what it prints. A family of its own is pushed before, so that nothing is
counted which only a first push does; nor is what the server does on its own behalf in the
background. So counted, the version of 22 November 2026 (d79befc) has 79 files and 1,396 moves
on the server; on the client it has 67 files if the import of the command is counted, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType

import numpy as np
from safetensors.numpy import save_file

from ...api.cli.main import cli
from ...api.server.app import create_app
from ...api.server.serving import listen, make_config
from ...dedup.local_vault import LocalVault
from ...store.backends.open import open_backend
from ...store.catalogue.catalogue import open_catalogue

ROOT = Path(__file__).resolve().parents[2]
ROOMS = tuple(f"{ROOT / room}/" for room in ("api", "dedup", "store", "codecs"))
_BACKGROUND = {"encoder", "jobs"}
_SETTLE_SECONDS = 3.0
_DETAILS = "WALK_DETAILS"
_SHOWN = 60


class Walk:
    """Counts while it is `on`."""

    def __init__(self) -> None:
        self.on = False
        self.files: set[str] = set()
        self.moves = 0
        self._last: dict[int, str] = {}
        self._entered: Counter[str] = Counter()
        self._pairs: Counter[str] = Counter()

    def note(self, frame: FrameType, event: str, _: object) -> None:
        """What the interpreter calls at each call of a function."""
        if not self.on or event != "call" or threading.current_thread().name in _BACKGROUND:
            return
        file = str(Path(frame.f_code.co_filename).resolve())
        if file.startswith(ROOMS):
            self.files.add(file)
            thread = threading.get_ident()
            last = self._last.get(thread)
            if last != file:
                self.moves += 1
                self._entered[f"{_short(file)}:{frame.f_code.co_name}"] += 1
                self._pairs[f"{_short(last or 'start')} -> {_short(file)}"] += 1
            self._last[thread] = file

    def print(self, side: str) -> None:
        """Prints the counts of one side."""
        print(f"{side}: {len(self.files)} files, {self.moves} moves", flush=True)
        for counted in (self._entered, self._pairs) if _DETAILS in os.environ else ():
            for what, count in counted.most_common(_SHOWN):
                print(f"  {count:4} {what}", flush=True)


def _short(file: str) -> str:
    return file.removeprefix(f"{ROOT}/").removesuffix(".py")


def serve(folder: Path) -> None:
    """Serves a new vault; counts between the lines "on" and "off" of stdin."""
    import uvicorn

    walk = Walk()
    threading.setprofile(walk.note)
    catalogue = open_catalogue(f"sqlite:///{folder / 'catalogue.sqlite'}")
    vault = LocalVault(open_backend(str(folder / "objects")), catalogue, scratch=folder)
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(make_config(create_app(vault), log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    for line in sys.stdin:
        walk.on = line.strip() == "on"
        if not walk.on:
            break
    walk.print("server")


def main() -> None:
    """Pushes two families of a base and a tune of it; both sides count the last push."""
    with tempfile.TemporaryDirectory(prefix="weightvault-") as scratch:
        folder = Path(scratch)
        for seed, names in enumerate((("first", "first-tuned"), ("base", "tuned"))):
            _save_family(folder, names, seed)
        (folder / "vault").mkdir()
        command = [sys.executable, "-m", __spec__.name, str(folder / "vault")]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            for name in ("first", "first-tuned", "base"):
                _push(url, folder / name)
            # What the server does on its own behalf.
            time.sleep(_SETTLE_SECONDS)
            server.stdin.write("on\n")
            server.stdin.flush()
            walk = Walk()
            threading.setprofile(walk.note)
            sys.setprofile(walk.note)
            walk.on = True
            _push(url, folder / "tuned")
            walk.on = False
            sys.setprofile(None)
            threading.setprofile(None)  # pyright: ignore[reportArgumentType]
            print(server.communicate("off\n")[0].strip())
            walk.print("client")


def _save_family(folder: Path, names: tuple[str, str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 0.05, (96, 64)).astype(np.float32)
    tuned = base + rng.normal(0, 1e-4, base.shape).astype(np.float32)
    for name, weights in zip(names, (base, tuned), strict=True):
        (folder / name).mkdir()
        save_file({"w": weights}, folder / name / "model.safetensors")


def _push(url: str, folder: Path) -> None:
    """What the installed command does, in this process."""
    command = ["--vault", url, "push", str(folder), f"org/{folder.name}"]
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            cli.main(command, "weightvault")
        except SystemExit as done:
            if done.code:
                raise


if __name__ == "__main__":
    serve(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
