"""Shares the threads that check uploads, and do other heavy work, among those who ask for it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request

from ...store.cancel import check_cancelled
from ...store.repo_names import namespace_of
from ..errors import Overloaded
from .callers import caller_of, quotas_of
from .connections import client_key
from .settings import CHECKS_AT_ONCE

_T = TypeVar("_T")

# Clients send up to some tens of files at once; what waits costs a connection and its upload.
WAITING = 256
WAITING_EACH = 64
# Checking a pack takes a second; clients wait longer than this for an answer.
WAIT_SECONDS = 120.0
# So often whoever waits looks whether its client is still there.
_LOOK_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class _Waiter:
    """Somebody who waits for a slot: when `turn` is set, it is theirs."""

    caller: str
    turn: anyio.Event = field(default_factory=anyio.Event)


class Slots:
    """Lets `at_once` pieces of work go on together, at most half of them for one caller; so one
    caller never keeps others waiting for ever. To be used in one event loop.

    A free slot goes to the caller who holds fewest, among those to the one who came first. Waiting
    takes no thread. Without a bound on who waits, nobody is ever refused.
    """

    def __init__(
        self,
        at_once: int = CHECKS_AT_ONCE,
        *,
        waiting: int = WAITING,
        waiting_each: int = WAITING_EACH,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self.at_once = at_once
        self._each = max(1, at_once // 2)
        self._waiting, self._waiting_each = waiting, waiting_each
        self._wait_seconds = wait_seconds
        self._held: Counter[str] = Counter()
        self._queue: list[_Waiter] = []
        self._threads: CapacityLimiter | None = None

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        return self._held.total()

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._queue)

    async def run(self, caller: str, work: Callable[..., _T], *args: object) -> _T:
        """Calls `work` with `args` in a thread, once `caller` is given a slot. Raises Overloaded
        where too many wait, or it waits too long; Cancelled when its client is gone."""
        async with self.taken(caller):
            # Threads of their own: the common ones answer small questions.
            self._threads = self._threads or CapacityLimiter(self.at_once)
            return await to_thread.run_sync(work, *args, limiter=self._threads)

    @asynccontextmanager
    async def taken(self, caller: str) -> AsyncIterator[None]:
        """Holds a slot within, once `caller` is given one. Raises as `run`."""
        if self.busy < self.at_once and self._held[caller] < self._each:
            self._held[caller] += 1
        else:
            await self._wait(caller)
        try:
            yield
        finally:
            self._give_back(caller)

    async def _wait(self, caller: str) -> None:
        mine = sum(1 for waiter in self._queue if waiter.caller == caller)
        if len(self._queue) >= self._waiting or mine >= self._waiting_each:
            raise Overloaded("too many uploads wait to be checked", "try again in a moment")
        waiter = _Waiter(caller)
        self._queue.append(waiter)
        deadline = time.monotonic() + self._wait_seconds
        try:
            while not waiter.turn.is_set():
                check_cancelled()
                if time.monotonic() >= deadline:
                    raise Overloaded("the server has too much to check", "try again in a moment")
                with anyio.move_on_after(_LOOK_SECONDS):
                    await waiter.turn.wait()
        except BaseException:
            if waiter in self._queue:
                self._queue.remove(waiter)
            else:
                # The turn came at the very moment that this was given up.
                self._give_back(caller)
            raise

    def _give_back(self, caller: str) -> None:
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        self._hand_out()

    def _hand_out(self) -> None:
        while self.busy < self.at_once:
            ready = [w for w in self._queue if self._held[w.caller] < self._each]
            if not ready:
                return
            # The first of equals: the queue is in the order of arrival.
            chosen = min(ready, key=lambda waiter: self._held[waiter.caller])
            self._queue.remove(chosen)
            self._held[chosen.caller] += 1
            chosen.turn.set()


def slots_of(request: Request) -> Slots:
    """Returns the slots of the application."""
    return request.app.state.checking


async def run_checked(
    request: Request, work: Callable[..., _T], *args: object, repo: str | None = None
) -> _T:
    """Calls `work` with `args` in one of the slots for whoever sent a request: the owner of a
    namespace, a token, or an address. `repo`: where the request was signed for that and has no
    token. Raises as Slots.run."""
    caller = f"namespace {namespace_of(repo)}" if repo else caller_key(request)
    namespace = namespace_of(repo) if repo else caller_of(request).home

    def count_and_work() -> _T:
        with quotas_of(request).checking(namespace) if namespace else nullcontext():
            return work(*args)

    return await slots_of(request).run(caller, count_and_work)


def caller_key(request: Request) -> str:
    """Returns what tells callers apart: the namespace or name of a token, or an address."""
    caller = caller_of(request)
    if caller.namespaces:
        return f"namespace {'+'.join(sorted(caller.namespaces))}"
    if caller.token_id is not None:
        return f"token {caller.token_id}"
    return address_key(request)


def address_key(request: Request) -> str:
    """Returns what tells those apart who show no token."""
    return f"address {client_key(request.client.host if request.client else '')}"
