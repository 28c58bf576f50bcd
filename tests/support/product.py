"""weightvault as strangers meet it: a command, a server process, HTTP and files. Nothing of it is
imported, so that any version can be attacked in the same way.

`WEIGHTVAULT_ATTACK_PYTHON` names the interpreter in whose environment the version to attack is
installed, unless it is this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from forked import ForkedProcess
from hub_requests import HubRequests

PYTHON = Path(os.environ.get("WEIGHTVAULT_ATTACK_PYTHON", sys.executable))
START_SECONDS = 60.0
PATIENCE_SECONDS = 200.0
END_SECONDS = 20.0
"""What a process gets to end in: the promise is ten, a machine that is busy gets more."""

Ran = subprocess.CompletedProcess[str]


class NotSetUp(Exception):
    """What an attack starts from could not be made: this says nothing about the attack."""


def require(condition: object, what: object) -> None:
    """Raises NotSetUp unless a condition holds."""
    if not condition:
        raise NotSetUp(str(what))


@dataclass(frozen=True, slots=True)
class Vault:
    """A folder that the product keeps a vault in."""

    root: Path

    def run(self, *words: object, **options: Any) -> Ran:
        """Runs a command on it; options as those of `run`."""
        return run("--vault", self.root, *words, **options)

    def make_token(self, name: str, role: str = "write", namespace: str | None = None) -> str:
        """Makes a token; returns its secret."""
        limit = ["--namespace", namespace] if namespace else []
        made = self.run("token", "create", "--json", "--name", name, "--role", role, *limit)
        require(made.returncode == 0, made.stderr)
        return json.loads(made.stdout)["token"]

    def push(self, path: Path, repo: str, *words: object) -> None:
        """Stores a file or folder."""
        done = self.run("push", path, repo, *words)
        require(done.returncode == 0, done.stderr)

    @contextmanager
    def serve(self, *words: object, **environment: str) -> Iterator[Server]:
        """A server of it on a free port, killed at the end; `words` are options of `serve`."""
        log = self.root.with_name(f"{self.root.name}.log")
        command = ["--json", "--vault", self.root, "serve", "--port", "0", *words]
        with log.open("w") as errors:
            process = _start(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(environment),
                # A group of its own for the scheduler: what it does at the lowest priority, such as
                # encoding, need not wait for the tests, which are at work in others.
                start_new_session=True,
            )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            require(line.startswith('{"url"'), line + log.read_text())
            yield Server(json.loads(line)["url"], process, log)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    @contextmanager
    def keep(self, *words: object) -> Iterator[Callable[[], Server]]:
        """Gives a function that returns the server: another one where an attack ended the last."""
        with ExitStack() as stack:
            started: list[Server] = []

            def running() -> Server:
                if not started or started[-1].process.poll() is not None:
                    started.append(stack.enter_context(self.serve(*words)))
                return started[-1]

            yield running


def run(*words: object, token: str | None = None, umask: int = -1, **environment: str) -> Ran:
    """Runs a command of the product."""
    shown = {"WEIGHTVAULT_TOKEN": token} if token else {}
    options: dict[str, Any] = {"env": _environment(shown | environment), "umask": umask}
    pipe = subprocess.PIPE
    with _start(words, stdout=pipe, stderr=pipe, errors="surrogateescape", **options) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
        except BaseException:
            process.kill()
            raise
    return Ran(process.args, process.returncode, out, err)


def _start(words: Sequence[object], **options: Any) -> subprocess.Popen[str]:
    """Starts the command: of another version, the script beside the interpreter."""
    if Path(sys.executable) != PYTHON:
        script = str(PYTHON.with_name("weightvault"))
        return subprocess.Popen([script, *map(str, words)], text=True, **options)
    return ForkedProcess(["weightvault.api.cli.main:main", *map(str, words)], text=True, **options)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """No settings of whoever runs the tests."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith("WEIGHTVAULT_")}
    return {**mine, "NO_COLOR": "1", **more}


@dataclass(frozen=True, slots=True)
class Server:
    """A server process, and where its log goes."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def client(self, token: str | None = None, **headers: str) -> httpx.Client:
        """A client of its own; with a token where there is one."""
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(
            base_url=self.url, headers=shown | headers, trust_env=False, timeout=PATIENCE_SECONDS
        )

    def hub(self, token: str | None = None) -> HubRequests:
        """The same, with the words of a client of a hub."""
        return HubRequests(self.client(token))

    def cpu_seconds(self) -> float:
        """Processor seconds that it took from its start on."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def peak_bytes(self) -> int:
        """The most memory that it had since `forget_peak`."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))

    def forget_peak(self) -> int:
        """Has the peak begin anew; returns what it begins with."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.peak_bytes()

    def settle(self) -> None:
        """Returns once it does nothing."""
        deadline, before = time.monotonic() + PATIENCE_SECONDS, self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(0.2)
            if (now := self.cpu_seconds()) - before < 0.02:
                return
            before = now
        raise NotSetUp("the server does not come to rest")

    def bounded(self, ask: Callable[[], httpx.Response], most_seconds: float) -> httpx.Response:
        """The answer to a request. Fails once the server spent more processor seconds on it, which
        ends it: it would go on."""
        self.settle()
        answers: list[httpx.Response] = []

        def work() -> None:
            # Where the attack works, there is no answer before the server is killed.
            with suppress(httpx.HTTPError):
                answers.append(ask())

        thread = threading.Thread(target=work, daemon=True)
        before = self.cpu_seconds()
        thread.start()
        while True:
            thread.join(0.02)
            spent = self.cpu_seconds() - before
            if spent > most_seconds:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"one request took more than {most_seconds} CPU seconds")
            if not thread.is_alive():
                assert answers, "the server does not answer"
                return answers[0]
