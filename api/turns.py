"""Who is next: work that only so many may do at once, shared out client by client."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Lets `at_once` pieces of work go on. Whoever waits is never refused: clients take turns, so
    one with a hundred requests delays another one by a single piece of work. For one event loop."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Waits for the client's turn, and holds it within."""
        await self._wait(client)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, client: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(client, deque())
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            elif turn in queue:
                queue.remove(turn)
                if not queue and self._waiting.get(client) is queue:
                    del self._waiting[client]
            raise

    def _pass_on(self) -> None:
        """Gives a turn that is over to the next client, or keeps it for whoever comes."""
        while self._waiting:
            client, queue = self._waiting.popitem(last=False)
            turn = queue.popleft()
            if queue:
                # To the end: all others come first.
                self._waiting[client] = queue
            if not turn.cancelled():
                turn.set_result(None)
                return
        self._free += 1
