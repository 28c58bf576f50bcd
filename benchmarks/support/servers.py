"""Starts a weightvault server as a process of its own, for the demo and the benchmarks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its address and its process."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def running_server(vault: Path | str, *options: str) -> Iterator[Server]:
    """A server on a free loopback port that keeps its vault in a folder or at an s3:// address;
    `options` are more of `serve`."""
    process = subprocess.Popen(
        [*weightvault_command(), "--json", "--vault", str(vault), "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with {process.wait()}; run it by hand to see why")
        yield Server(json.loads(line)["url"], process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


def weightvault_command() -> list[str]:
    """The command line of the weightvault that runs this."""
    return [sys.executable, "-c", "from weightvault.api.cli.main import main; main()"]
