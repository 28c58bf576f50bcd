"""Ends work that nobody waits for any more: one token for each request, checked by every loop.

A thread cannot be stopped from outside. So whoever starts work gives it a CancelToken, and whatever
loops over chunks, frames, files or rows calls `check_cancelled` each time round, which raises
Cancelled once the token is cancelled: because the client went away, or because the server stops.
The token is found in the context of the thread, so no function need pass it on; a thread of our own
gets it by `carry`. Work without a token, such as a command's, is never cancelled.

Between the moment that something durable says a change will be seen, and the transaction that shows
it, nothing may check: that part is short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Cancelled(BaseException):
    """Nobody waits for this work any more. As KeyboardInterrupt is, it is no Exception: what
    handles failures must not take it for one."""


class CancelToken:
    """Says whether work is still wanted. One `within` another ends with it. Safe to use from
    several threads and from signal handlers."""

    __slots__ = ("_cancelled", "_within")

    def __init__(self, within: CancelToken | None = None) -> None:
        self._within = within
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether the work is to end."""
        return self._cancelled or (self._within is not None and self._within.cancelled)

    def cancel(self) -> None:
        """Ends the work at its next check."""
        self._cancelled = True


_current: ContextVar[CancelToken | None] = ContextVar("cancel_token", default=None)


@contextmanager
def cancelled_by(token: CancelToken) -> Iterator[None]:
    """Within, and in what is started from here, `check_cancelled` asks this token."""
    before = _current.set(token)
    try:
        yield
    finally:
        _current.reset(before)


def is_cancelled() -> bool:
    """Says whether the work of this thread is to end."""
    token = _current.get()
    return token is not None and token.cancelled


def check_cancelled() -> None:
    """Raises Cancelled if the work of this thread is to end."""
    if is_cancelled():
        raise Cancelled


def carry(work: Callable[_P, _T]) -> Callable[_P, _T]:
    """Returns `work` as another thread has to call it, once, to be cancelled with this one."""
    context = copy_context()

    def run(*args: _P.args, **options: _P.kwargs) -> _T:
        check_cancelled()
        return work(*args, **options)

    def run_in_context(*args: _P.args, **options: _P.kwargs) -> _T:
        return context.run(run, *args, **options)

    return run_in_context
