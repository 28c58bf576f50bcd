"""What a request costs the server: processor time, memory and bytes of its answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

_IDLE_SECONDS = 0.02
_MOST_WAITING_SECONDS = 60.0
_ANSWER_SECONDS = 120.0
_ACCEPTED = 202


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request cost: its status (0 where the connection broke), processor seconds, bytes of
    memory beyond what was in use before, and bytes of the answer that were read."""

    status: int
    cpu: float
    memory: int
    answer: int


class Meter:
    """Measures a server and the processes it has started."""

    def __init__(self, process: int) -> None:
        self._process = psutil.Process(process)

    def measure(
        self, send: Callable[[], httpx.Response | None], most_answer: int, *, begins_job: bool
    ) -> Cost:
        """Sends a request to an idle server and reads up to `most_answer` bytes of the answer. What
        the request leaves undone counts, too, unless it is a job that it was to begin."""
        self.wait_idle()
        self._forget_peak()
        cpu, memory = self._cpu_seconds(), self._memory("VmRSS")
        status, answer = 0, 0
        with suppress(httpx.HTTPError):
            response = send()
            if response is not None:
                status = response.status_code
                answer = _read(response, most_answer)
        if not (begins_job and status == _ACCEPTED):
            self.wait_idle()
        return Cost(status, self._cpu_seconds() - cpu, self._memory("VmHWM") - memory, answer)

    def holds(self) -> tuple[int, int]:
        """Returns the bytes of memory and the descriptors that the server has now."""
        descriptors = sum(process.num_fds() for process in self._processes())
        return self._memory("VmRSS"), descriptors

    def wait_idle(self) -> None:
        """Waits until the server does nothing."""
        deadline = time.monotonic() + _MOST_WAITING_SECONDS
        before = self._cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(_IDLE_SECONDS)
            now = self._cpu_seconds()
            if now - before < 0.1 * _IDLE_SECONDS:
                return
            before = now

    def _processes(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def _cpu_seconds(self) -> float:
        """From the scheduler, in nanoseconds: the usual counters tick a hundred times a second."""
        total = 0
        for process in self._processes():
            for thread in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
                with suppress(OSError):
                    total += int(thread.read_text().split()[0])
        return total / 1e9

    def _memory(self, name: str) -> int:
        total = 0
        for process in self._processes():
            with suppress(OSError):
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                    if line.startswith(f"{name}:"):
                        total += int(line.split()[1]) * 1024
        return total

    def _forget_peak(self) -> None:
        for process in self._processes():
            with suppress(OSError):
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def _read(response: httpx.Response, most: int) -> int:
    size = 0
    try:
        for piece in response.iter_raw():
            size += len(piece)
            if size > most:
                break
    finally:
        response.close()
    return size


def open_client(url: str) -> httpx.Client:
    """A client that keeps its connection and waits long for answers."""
    return httpx.Client(base_url=url, trust_env=False, timeout=_ANSWER_SECONDS)
