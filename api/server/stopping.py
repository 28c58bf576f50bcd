"""Ends a server within ten seconds of being told to, whatever it is at.

What runs on its own behalf (coding, totals) ends at once; requests get `GRACE_SECONDS` to finish,
then their loops end (store/cancel.py). What has not ended at `LAST_SECONDS`, such as a question to
a database or a disk that does not answer, is cut off as by a crash, which the store is made for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue

from ...store.cancel import CancelToken

GRACE_SECONDS = 4.0
LAST_SECONDS = 8.0
_FLUSH_SECONDS = 0.5

_log = logging.getLogger("weightvault.api")


class Stopping:
    """Cancels `upkeep` and later `work` once `begin` is called, and at last ends the process."""

    def __init__(self, work: CancelToken, upkeep: CancelToken) -> None:
        self._work, self._upkeep = work, upkeep
        # Its `put` may be called in a signal handler that interrupts another `put`.
        self._signals: SimpleQueue[None] = SimpleQueue()
        # The event loop may hang: so not in it. A daemon, which is there until Python has ended.
        threading.Thread(target=self._run, name="stopping", daemon=True).start()

    def begin(self) -> None:
        """Begins to stop; called again, gives what is under way no more time. May be called in a
        signal handler."""
        self._signals.put(None)

    def _run(self) -> None:
        self._signals.get()
        started = time.monotonic()
        self._upkeep.cancel()
        with suppress(Empty):
            self._signals.get(timeout=GRACE_SECONDS)
        self._work.cancel()
        time.sleep(max(0.0, started + LAST_SECONDS - time.monotonic()))
        _log.warning("something does not end: it is cut off, and loses nothing")
        _end_process()


def _end_process() -> None:
    # Whoever hangs may hold the lock of a log, or nobody may read what is written to it.
    flushing = threading.Thread(target=logging.shutdown, daemon=True)
    flushing.start()
    flushing.join(_FLUSH_SECONDS)
    os._exit(0)
