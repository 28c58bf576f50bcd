"""Counts the files that one push over HTTP touches, and the moves from file to file.

    python -m weightvault.benchmarks.structure.trace_push [--files]

A base is pushed first. The traced push sends a tune of it, one tensor, which is encoded against the
base. `sys.setprofile` follows every thread of both sides: a file is touched if one of its functions
is called, and a move is a call from another file of the product. Imports and what runs at the start
of the server are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import redirect_stdout, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ...api.cli.main import cli
from ...api.server.serving import listen, run
from ..support.vaults import open_vault

_ROOT = Path(__file__).parents[2]
_ROOMS = tuple(f"{_ROOT / room}/" for room in ("api", "dedup", "store", "codecs"))
_SHAPE = (512, 512)


class Trace:
    """Follows the calls of all threads of a process from `start` on."""

    def __init__(self) -> None:
        self._moves = 0
        self._files: set[str] = set()
        self._on = False
        threading.setprofile(self._follow)
        sys.setprofile(self._follow)

    def start(self, *_: object) -> None:
        """Begins to count."""
        self._on = True

    def result(self) -> dict[str, Any]:
        """Returns the number of moves and the files touched, relative to the checkout."""
        self._on = False
        files = sorted(str(Path(file).relative_to(_ROOT)) for file in self._files)
        return {"moves": self._moves, "files": files}

    def _follow(self, frame: FrameType, event: str, _arg: Any) -> None:
        file = frame.f_code.co_filename
        if not self._on or event != "call" or not file.startswith(_ROOMS):
            return
        if frame.f_code.co_name == "<module>":
            return
        self._files.add(file)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(_ROOMS):
            caller = caller.f_back
        self._moves += caller is not None and caller.f_code.co_filename != file


def main() -> int:
    """Traces one push and prints what each side touched."""
    parser = argparse.ArgumentParser(description="Traces one push over HTTP on both sides.")
    parser.add_argument("--files", action="store_true", help="name the files, too")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return 0
    with tempfile.TemporaryDirectory(prefix="trace-") as folder:
        sides = trace_push(Path(folder))
    for side, found in sides.items():
        print(f"{side}: {len(found['files'])} files, {found['moves']} moves")
        for file in found["files"] if options.files else ():
            print(f"    {file}")
    return 0


def serve(root: Path) -> None:
    """Serves a vault in `root` until SIGTERM; counts from SIGUSR1 on, and prints what it found."""
    trace = Trace()
    signal.signal(signal.SIGUSR1, trace.start)
    vault = open_vault(root)
    try:
        run(vault, listen("127.0.0.1", 0), lambda url: print(url, flush=True))
    finally:
        vault.close()
    print(json.dumps(trace.result()), flush=True)


def trace_push(root: Path) -> dict[str, dict[str, Any]]:
    """Returns what the client and the server touched for a push into a vault below `root`."""
    base = np.random.default_rng(1).normal(0, 0.02, _SHAPE).astype(np.float32)
    tune = base + np.random.default_rng(2).normal(0, 1e-5, _SHAPE).astype(np.float32)
    for name, weights in (("base", base), ("tune", tune)):
        (root / name).mkdir()
        save_file({"w": weights}, root / name / "model.safetensors")
    command = [sys.executable, "-m", __spec__.name, "--serve", str(root / "vault")]
    (root / "vault").mkdir()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        trace = Trace()
        _push(url, root / "base", "org/base")
        server.send_signal(signal.SIGUSR1)
        # Handled between two instructions of the server's main thread: this request makes some.
        _run(url, "ls")
        trace.start()
        _push(url, root / "tune", "org/tune")
        client = trace.result()
        server.send_signal(signal.SIGTERM)
        found = json.loads(server.stdout.read().splitlines()[-1])
    return {"client": client, "server": found}


def _push(url: str, folder: Path, repo: str) -> None:
    _run(url, "push", str(folder), repo)


def _run(url: str, *words: str) -> None:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), suppress(SystemExit):
        cli.main(["--vault", url, *words])


if __name__ == "__main__":
    sys.exit(main())
