"""Several processes that answer on one port, and one that works in the background, under a process
that starts them, starts those anew that die, and ends them.

Each is a server of the vault like any other: what they have in common is in the store and the
catalogue. uvicorn's own supervisor knows only processes that serve, waits for them without bound,
and does not say when they are ready.
"""

from __future__ import annotations

import logging
import logging.config
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from ...dedup.errors import Unreachable
from ..config import open_local_vault
from ..requests.settings import ServerSettings
from .logs import configure

# After these, whatever is left is killed; each ends by itself before (stopping.py).
_END_SECONDS = 9.0
# Between the end of a process and its successor, longer each time that one ends at once.
_FIRST_PAUSE_SECONDS = 0.5
_MOST_PAUSE_SECONDS = 30.0
_LOOK_SECONDS = 0.5

_log = logging.getLogger("weightvault.api")


@dataclass(frozen=True, slots=True)
class Site:
    """What processes need to open and serve a vault."""

    url: str
    catalogue: str | None
    settings: ServerSettings
    log_format: str
    audit_log: Path | None = None


def run(site: Site, listener: socket.socket, announce: Callable[[str], None], count: int) -> None:
    """Serves a vault on `listener` with `count` processes, and works for it in another, until
    SIGINT or SIGTERM; calls `announce` with the address once all answer. Raises Unreachable where
    one does not come up."""
    logging.config.dictConfig(configure(site.log_format, site.audit_log))
    with tempfile.TemporaryDirectory(prefix="weightvault-metrics-") as folder:
        # prometheus_client looks for it when it is loaded.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        shared = site.settings.shared_by(count)
        jobs = [_Job(_serve, (site, shared, listener))] * count
        if site.settings.background:
            jobs.append(_Job(_work, (site,)))
        crew = _Crew(jobs)
        with crew.told_by_signals():
            url = crew.start()
            if url is not None:
                announce(url)
            crew.keep()


@dataclass(frozen=True, slots=True)
class _Job:
    """A function for a process, which is also given a connection to this one."""

    target: Callable[..., None]
    arguments: tuple[object, ...]


class _Child:
    """A process that does a job."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.started = time.monotonic()
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_run_child, args=(job.target, there, *job.arguments)
        )
        self.process.start()
        there.close()
        self.said: str | None = None
        self.told = False

    def wait_ready(self, seconds: float) -> bool:
        """Says whether it is ready, at the latest after so many seconds."""
        with suppress(EOFError, OSError):
            if self.said is None and self._here.poll(seconds):
                self.said = self._here.recv()
        return self.said is not None

    def tell_end(self) -> None:
        """Has it end; told again, it gives what is under way no more time."""
        self.told = True
        with suppress(OSError, AttributeError):
            self.process.terminate()

    def bury(self) -> None:
        """Forgets a process that has ended."""
        self.process.join()
        self._here.close()
        mark_process_dead(self.process.pid)


class _Crew:
    """The processes, one for each job."""

    def __init__(self, jobs: list[_Job]) -> None:
        self._jobs = jobs
        self._children: list[_Child] = []
        self._told = 0
        self._pauses = [_FIRST_PAUSE_SECONDS] * len(jobs)

    @contextmanager
    def told_by_signals(self) -> Iterator[None]:
        """Within, signals end the processes; no process is left behind."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._end) for number in numbers}
        try:
            yield
        finally:
            self._finish()
            for number, handler in before.items():
                signal.signal(number, handler)

    def start(self) -> str | None:
        """Starts all, and returns the address of the first when they are ready; None where a signal
        came first. The first one compiles what the others find in a cache."""
        for jobs in (self._jobs[:1], self._jobs[1:]):
            begun = [_Child(job) for job in jobs]
            self._children += begun
            if not all(map(self._wait_ready, begun)):
                return None
        return self._children[0].said

    def _wait_ready(self, child: _Child) -> bool:
        while not child.wait_ready(_LOOK_SECONDS):
            if self._told:
                return False
            if not child.process.is_alive() and not child.wait_ready(0):
                raise Unreachable("a process of the server ended before it was ready")
        return True

    def keep(self) -> None:
        """Starts those anew that end, until a signal comes."""
        while not self._told:
            ended = wait([child.process.sentinel for child in self._children], _LOOK_SECONDS)
            for place, child in enumerate(self._children):
                if child.process.sentinel in ended and not self._told:
                    self._replace(place, child)

    def _replace(self, place: int, child: _Child) -> None:
        _log.error("process %s ended (%s)", child.process.pid, child.process.exitcode)
        child.bury()
        lived = time.monotonic() - child.started
        longer = min(2 * self._pauses[place], _MOST_PAUSE_SECONDS)
        self._pauses[place] = _FIRST_PAUSE_SECONDS if lived > _MOST_PAUSE_SECONDS else longer
        until = time.monotonic() + self._pauses[place]
        while not self._told and time.monotonic() < until:
            time.sleep(0.1)
        if not self._told:
            self._children[place] = _Child(self._jobs[place])

    def _end(self, *_: object) -> None:
        self._told += 1
        for child in self._children:
            child.tell_end()

    def _finish(self) -> None:
        for child in self._children:
            if not child.told:
                child.tell_end()
        until = time.monotonic() + _END_SECONDS
        for child in self._children:
            child.process.join(max(0.0, until - time.monotonic()))
            if child.process.is_alive():
                _log.warning("process %s does not end: it is killed", child.process.pid)
                child.process.kill()
            child.bury()


def _run_child(target: Callable[..., None], parent: Connection, *arguments: object) -> None:
    """Does a job in a process of its own, which ends when the one that started it does."""
    # Ctrl-C in a terminal is for the one that started it, which tells the others.
    os.setsid()
    threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()
    target(*arguments, parent)


def _end_with(parent: Connection) -> None:
    with suppress(EOFError, OSError):
        parent.recv()
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(
    site: Site, settings: ServerSettings, listener: socket.socket, parent: Connection
) -> None:
    from . import serving

    vault = open_local_vault(site.url, site.catalogue)
    try:
        serving.run(vault, listener, parent.send, settings, site.log_format, (), site.audit_log)
    finally:
        vault.close()


def _work(site: Site, parent: Connection) -> None:
    from . import work

    vault = open_local_vault(site.url, site.catalogue)
    try:
        work.run(vault, lambda: parent.send("working"), site.log_format, beside_workers=True)
    finally:
        vault.close()
