"""Threads that work ahead of, or behind, the one that calls; mostly one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from ...store.cancel import carry, check_cancelled

# Whoever presses Ctrl-C waits no longer than this for what is nearly done.
PATIENCE_SECONDS = 2.0
# A signal that comes just before a thread falls asleep does not wake it: so nobody sleeps longer.
_NAP_SECONDS = 0.5

_T = TypeVar("_T")


class Background:
    """So many threads to give work to, begun one piece after the other.

    Leaving its `with` block waits for what they are at, and drops what they have not begun. Only
    where that is because of an interrupt, or because nobody wants the rest of a generator, they are
    left alone after a moment: on a slow line a pack may take minutes. So what they do must be safe
    to be cut off anywhere, as by a crash.
    """

    def __init__(self, name: str, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, name)
        self._latest: Future[Any] | None = None

    def __enter__(self) -> Background:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        self._pool.shutdown(wait=not interrupted, cancel_futures=True)
        if interrupted and self._latest is not None:
            wait([self._latest], PATIENCE_SECONDS)

    def submit(self, work: Callable[..., _T], *args: Any) -> Future[_T]:
        """Lets a thread call `work` with `args` when it comes to that, for the same token."""
        future = self._pool.submit(carry(work), *args)
        self._latest = future
        return future


def result_of(future: Future[_T]) -> _T:
    """Waits for what `future` gives or raises, and notices within a moment that a Ctrl-C came or
    nobody waits for this any more."""
    while not wait([future], _NAP_SECONDS).done:
        check_cancelled()
    return future.result()
