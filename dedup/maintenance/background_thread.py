"""Threads that work for a vault beside everything else, until they are stopped."""

from __future__ import annotations

import logging
import os
import threading
from abc import ABC, abstractmethod
from contextlib import suppress

from ...store.cancel import Cancelled, CancelToken, cancelled_by
from ..errors import VaultError

_IDLE_SECONDS = 2.0
_FAILED_SECONDS = 60.0
_STOP_SECONDS = 3.0
_LOWEST_PRIORITY = 19

_log = logging.getLogger("weightvault.dedup")


class BackgroundThread(ABC):
    """A thread that does a piece of work after the other; everything else goes before it. Where
    there is none it looks again soon, and later where one failed, which `failed` says in the log.
    It ends with the token `within` as well."""

    def __init__(self, name: str, failed: str, within: CancelToken | None = None) -> None:
        self._token = CancelToken(within)
        self._name = name
        self._failed = failed
        self._news = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Has it look for work now."""
        self._news.set()

    def stop(self) -> None:
        """Ends at the next check; what is not done is left to the next who comes. One that does not
        end within seconds is left alone: whatever it is at may be cut off, as by a crash."""
        self._token.cancel()
        self._news.set()
        if self._thread is None:
            return
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            _log.warning("%s did not end in time; what it had in hand is done later", self._name)

    @abstractmethod
    def _work(self) -> object:
        """Does some of what there is to do, where the thread's token cancels it; says, as true or
        false, whether there was any."""

    def _run(self) -> None:
        # Of this thread alone, on Linux; elsewhere it is as good as the others.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        while not self._token.cancelled:
            pause = self._try()
            if pause:
                self._news.wait(pause)
                self._news.clear()

    def _try(self) -> float:
        """Works once; returns how many seconds to pause."""
        try:
            with cancelled_by(self._token):
                return 0.0 if self._work() else _IDLE_SECONDS
        except Cancelled:
            return 0.0
        except VaultError as error:
            _log.error("%s (%s): %s", self._failed, error.code, error.message)
        except Exception:
            _log.exception("%s", self._failed)
        return _FAILED_SECONDS
