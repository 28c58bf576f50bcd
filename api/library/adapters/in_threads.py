"""Calls of the library as awaitables: each runs in a worker thread, and ends with who awaits it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextvars import copy_context
from functools import partial, update_wrapper
from threading import Lock
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from anyio import CancelScope, get_cancelled_exc_class, move_on_after, to_thread

from ....dedup.reading.workers import PATIENCE_SECONDS
from ....store.cancel import Cancelled, CancelToken, cancelled_by

_P = ParamSpec("_P")
_T = TypeVar("_T")
_S = TypeVar("_S")
_END: Any = object()


class Closing(Protocol):
    """What is closed by awaiting that."""

    def close(self) -> Coroutine[Any, Any, object]:
        """Closes it."""
        ...


_C = TypeVar("_C", bound=Closing)


async def in_thread(work: Callable[_P, _T], *args: _P.args, **options: _P.kwargs) -> _T:
    """Awaits a call that is made in a worker thread. If the caller is cancelled, that is not waited
    for: the call ends where it looks next whether it is still wanted, at the next chunk or file,
    and what it was to open is closed."""
    token = CancelToken()
    call = partial(_call, token, partial(work, *args, **options))
    try:
        return await to_thread.run_sync(copy_context().run, call, abandon_on_cancel=True)
    except get_cancelled_exc_class():
        token.cancel()
        raise


def _call(token: CancelToken, work: Callable[[], _T]) -> _T:
    with cancelled_by(token):
        found = _try(token, work)
    if token.cancelled:
        close = getattr(found, "close", None)
        if close is not None:
            close()
        raise Cancelled
    return found


def _try(token: CancelToken, work: Callable[[], _T]) -> _T:
    while True:
        try:
            return work()
        except Cancelled:
            # Or a tensor was being fetched ahead by a call that is not wanted any more.
            if token.cancelled:
                raise


async def in_steps(begin: Callable[[], Iterator[_T]]) -> AsyncGenerator[_T]:
    """Yields what an iterator gives, each step of it in a worker thread."""
    lock, steps = Lock(), begin()

    def step() -> _T:
        with lock:
            return next(steps, _END)

    def close() -> None:
        # A step that nobody waits for any more may not have ended yet.
        with lock:
            cast("Generator[_T]", steps).close()

    try:
        while (found := await in_thread(step)) is not _END:
            yield found
    finally:
        with move_on_after(PATIENCE_SECONDS, shield=True):
            await to_thread.run_sync(close, abandon_on_cancel=True)


class Opening(Generic[_C]):
    """Something that is being opened: await it, and close it yourself, or have `async with` do
    both."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, _C]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, _C]:
        return self._begin().__await__()

    async def __aenter__(self) -> _C:
        self._opened = await self
        return self._opened

    async def __aexit__(self, *_: object) -> None:
        with CancelScope(shield=True):
            await self._opened.close()


class Awaited(Generic[_P, _T]):
    """A method of a class that holds, as `sync`, what it is the twin of: it takes what the method
    `called` of that takes, and gives what `wrap` makes of what that gives."""

    def __init__(
        self,
        called: Callable[Concatenate[Any, _P], Any],
        wrap: Callable[[Any], _T] | None,
    ) -> None:
        self._called = called
        self._wrap = wrap
        self.__doc__ = called.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Awaited[_P, _T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Callable[_P, Coroutine[Any, Any, _T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        """Returns the method of an instance."""
        if instance is None:
            return self
        return awaited(getattr(instance.sync, self._called.__name__), self._wrap)


class Opened(Generic[_P, _C]):
    """As `Awaited`, of a method that opens something."""

    def __init__(
        self, called: Callable[Concatenate[Any, _P], _S], wrap: Callable[[_S], _C]
    ) -> None:
        self._called = called
        self._wrap = wrap
        self.__doc__ = called.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Opened[_P, _C]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Callable[_P, Opening[_C]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        """Returns the method of an instance."""
        if instance is None:
            return self
        return opened(getattr(instance.sync, self._called.__name__), self._wrap)


@overload
def twin(called: Callable[Concatenate[Any, _P], _T]) -> Awaited[_P, _T]: ...
@overload
def twin(
    called: Callable[Concatenate[Any, _P], _S], wrap: Callable[[_S], _T]
) -> Awaited[_P, _T]: ...
def twin(called: Callable[..., Any], wrap: Callable[[Any], Any] | None = None) -> Any:
    """Returns the twin of a method, with its arguments and types."""
    return Awaited(called, wrap)


@overload
def awaited(call: Callable[_P, _T]) -> Callable[_P, Coroutine[Any, Any, _T]]: ...
@overload
def awaited(
    call: Callable[_P, _S], wrap: Callable[[_S], _T] | None
) -> Callable[_P, Coroutine[Any, Any, _T]]: ...
def awaited(call: Any, wrap: Any = None) -> Any:
    """Returns the twin of a function, with its arguments and types."""

    async def run(*args: Any, **options: Any) -> Any:
        found = await in_thread(call, *args, **options)
        return found if wrap is None else wrap(found)

    return update_wrapper(run, call)


def opened(call: Callable[_P, _S], wrap: Callable[[_S], _C]) -> Callable[_P, Opening[_C]]:
    """As `awaited`, of a function that opens something."""
    begin = awaited(call, wrap)

    def open_later(*args: _P.args, **options: _P.kwargs) -> Opening[_C]:
        return Opening(lambda: begin(*args, **options))

    return update_wrapper(open_later, call)
