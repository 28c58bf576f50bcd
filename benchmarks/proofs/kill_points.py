"""Where a process can be killed: its write calls, counted, on disk, on S3 and in the catalogue."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event

from ...store.backend import Backend
from ...store.backends.local import LocalBackend

# Packs of small models go up in parts of this, like those of large ones.
PART_BYTES = 8192
WRITING = ("INSERT", "UPDATE", "DELETE", "CREATE", "ALTER ", "DROP T", "DROP I")


@dataclass
class Counter:
    """Counts write calls and kills this process at the one numbered `at`."""

    at: int | None
    after: bool
    seen: int = 0

    def call(self, carry_out: Callable[[], Any] = lambda: None) -> Any:
        mine = self.seen == self.at
        self.seen += 1
        if mine and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = carry_out()
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def count_writes(backend: Backend, counter: Counter) -> None:
    """Makes the writes of a backend go through a counter."""
    if isinstance(backend, LocalBackend):
        for name in ("fsync", "replace", "link", "mkdir", "unlink"):
            setattr(os, name, _counted(getattr(os, name), counter))
        return
    events = getattr(backend, "_client").meta.events  # noqa: B009
    # Packs of these models are small; in parts like those of large ones they take five requests.
    vars(backend).update(_multipart_from_bytes=PART_BYTES, _part_bytes=PART_BYTES)

    def before(request: Any, **_: object) -> None:
        if request.method in ("PUT", "POST", "DELETE") and not counter.after:
            counter.call()

    def after(operation: Any, **_: object) -> None:
        if operation.http["method"] in ("PUT", "POST", "DELETE") and counter.after:
            counter.call()

    events.register("before-send.s3", before)
    events.register("needs-retry.s3", after)


def _counted(real: Callable[..., Any], counter: Counter) -> Callable[..., Any]:
    return lambda *args, **options: counter.call(lambda: real(*args, **options))


def count_statements(engine: Engine | type[Engine], counter: Counter) -> None:
    """Makes every statement that writes, and every commit, go through a counter."""
    pending: list[bool] = []

    def before(_c: object, _u: object, text: str, *_: object) -> None:
        pending.append(text.lstrip()[:6].upper() in WRITING)
        if pending[-1] and not counter.after:
            counter.call()

    def after(*_: object) -> None:
        if pending.pop() and counter.after:
            counter.call()

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "commit", lambda _: counter.call())
