"""Signals that end a command, and that are noticed wherever it sleeps."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import NoReturn

_ENDING = (signal.SIGINT, signal.SIGTERM)
# Nobody notices that an answer to Ctrl-C is this late.
_MOMENT_SECONDS = 0.2


def heed_signals() -> None:
    """Lets signals that end the command raise KeyboardInterrupt in the main thread, which calls
    this, within a moment.

    Python runs a handler between two instructions of the main thread, and a signal wakes that
    thread where it sleeps. One that comes after its last look and before its sleep wakes nobody: a
    read from a silent server went on to its time limit. So another thread, which the interpreter
    tells of every signal (signal.set_wakeup_fd), wakes it with a signal that means nothing.
    """
    # Being told to stop is Ctrl-C by other means: temporary files go, the message is the same.
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(signal, "pthread_kill"):
        signal.signal(signal.SIGURG, lambda *_: None)
        told, tell = os.pipe()
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        threading.Thread(target=_wake_main, args=(told,), name="signals", daemon=True).start()


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _wake_main(told: int) -> None:
    while number := os.read(told, 1):
        if number[0] in _ENDING:
            time.sleep(_MOMENT_SECONDS)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGURG)
