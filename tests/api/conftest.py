"""Vaults, servers and the command line, as the tests of the ways in need them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click.testing
import httpx
import pytest
from fastapi import FastAPI
from forked import ForkedProcess
from live_server import serving
from models import make_weights, write_model
from vaults import open_local

from weightvault.api.cli.main import cli
from weightvault.api.client.http_vault import HttpVault
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault

START_SECONDS = 30.0


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own configuration, and a home for what would go into the user's."""
    for name in [n for n in os.environ if n.startswith("WEIGHTVAULT_") and "TEST" not in n]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalVault]:
    """An empty vault in a folder."""
    vault = open_local(tmp_path / "served")
    yield vault
    vault.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a small model."""
    return write_model(tmp_path / "model", make_weights(1), "# A model\n")


@dataclass
class Served:
    """A running server; its vault can be changed between tests."""

    url: str
    app: FastAPI

    def switch(self, vault: LocalVault) -> None:
        """Serves another vault from now on."""
        self.app.state.vault = vault


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests, on a socket, in a thread of this process."""
    vault = open_local(tmp_path_factory.mktemp("first"))
    app = create_app(vault)
    with serving(app) as url:
        yield Served(url, app)
    vault.close()


@pytest.fixture
def live(server: Served, local: LocalVault) -> Iterator[str]:
    """The URL of a server of `local`."""
    first = server.app.state.vault
    server.switch(local)
    yield server.url
    server.switch(first)


@pytest.fixture
def web(live: str) -> Iterator[httpx.Client]:
    """Plain HTTP to a server of `local`."""
    with httpx.Client(base_url=live, trust_env=False) as client:
        yield client


@pytest.fixture
def remote(live: str) -> Iterator[HttpVault]:
    """A client of the server `live`."""
    vault = HttpVault(live)
    yield vault
    vault.close()


Runner = Callable[..., click.testing.Result]


@pytest.fixture
def run() -> Runner:
    """Runs the command line in this process: `run("--vault", url, "ls")`."""

    def invoke(*args: str | Path, **options: object) -> click.testing.Result:
        return click.testing.CliRunner().invoke(cli, list(map(str, args)), **options)  # type: ignore[arg-type]

    return invoke


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command line as a process of its own; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str | Path, **options: object) -> subprocess.Popen[str]:
        words = list(map(str, args))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        if "preexec_fn" in options:
            command = [sys.executable, "-m", "weightvault.api.cli.main", *words]
            process = subprocess.Popen(command, text=True, **(pipes | options))  # type: ignore[call-overload]
        else:
            command = ["weightvault.api.cli.main:main", *words]
            process = ForkedProcess(command, text=True, **(pipes | options))  # type: ignore[arg-type]
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def serve(spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    """Starts `weightvault serve` on a free port; returns its URL and process.

    Its log is the file `server.log` below tmp_path.
    """

    def start(vault: str | Path, **options: object) -> tuple[str, subprocess.Popen[str]]:
        with (tmp_path / "server.log").open("a") as log:
            process = spawn(
                "--json", "--vault", vault, "serve", "--port", "0", stderr=log, **options
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (tmp_path / "server.log").read_text()
        return json.loads(line)["url"], process

    return start


@pytest.fixture
def answering() -> Iterator[Callable[[Sequence[bytes]], str]]:
    """Starts a server that answers each connection's first request with given bytes and hangs up.

    The last answer is repeated. Returns its URL.
    """
    listeners: list[socket.socket] = []

    def start(answers: Sequence[bytes]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=_answer_all, args=(listener, list(answers)), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.close()


def _answer_all(listener: socket.socket, answers: list[bytes]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(1 << 20)
            connection.sendall(answers.pop(0) if len(answers) > 1 else answers[0])


def wait_until(condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Waits until `condition` holds; fails when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    """See wait_until."""
    return wait_until
