"""One thread pool for all coding, started at first use, and what it is used for everywhere."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np

from .buffers import Bytes, make_room

Item = TypeVar("Item")
Result = TypeVar("Result")

_LARGE_BYTES = 1 << 22


def count_cores() -> int:
    """Returns the number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_threads(threads: int | None) -> int:
    """Returns ``threads``, or the number of cores for None; raises ValueError below one."""
    if threads is None:
        return count_cores()
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return threads


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count_cores(), thread_name_prefix="weightvault-codec")


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork: a child that inherited the pool would wait for it for ever.
    os.register_at_fork(after_in_child=_executor.cache_clear)


def map_all(
    function: Callable[[Item], Result], items: Sequence[Item], threads: int
) -> list[Result]:
    """Returns ``function(item)`` for each item, in order; at most ``threads`` threads work on it,
    the caller's among them.

    Every thread takes the next item when it has done one, and nobody is woken up in between: waking
    a thread takes as long as decoding half a block. The first exception of any item is raised when
    no thread works on an item any more.
    """
    results: list[Any] = [None] * len(items)
    # Iterators of built-in types hand out each item once, however many threads ask.
    left = iter(range(len(items)))

    def work() -> None:
        for index in left:
            try:
                results[index] = function(items[index])
            except BaseException:
                deque(left, maxlen=0)
                raise

    helpers = min(threads, len(items)) - 1
    waiting = [_executor().submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        # Those that never began are not waited for: the pool may be busy with our own callers.
        running = [future for future in waiting if not future.cancel()]
        if running:
            wait(running)
    for future in running:
        future.result()
    return results


def join_parts(
    parts: Sequence[bytes | Bytes], threads: int, out: Bytes | None = None
) -> bytes | memoryview:
    """Joins bytes and (n,) uint8 arrays; large ones on at most ``threads`` threads.

    ``out``: (n,) uint8 that has room for all of it, to join them there.

    On a virtual machine whole MiniLM in F16 was coded at 1280 MB/s so, joined in one go at 1010: a
    result above 32 MiB is new memory every time, and pages of 4 KiB cost more than copying.
    """
    total = sum(len(part) for part in parts)
    if total < _LARGE_BYTES and out is None:
        return b"".join(part if isinstance(part, bytes) else part.data for part in parts)
    room = make_room(total, out)
    ends = accumulate(len(part) for part in parts)

    def copy(placed: tuple[int, bytes | Bytes]) -> None:
        end, part = placed
        room.view[end - len(part) : end] = np.frombuffer(part, np.uint8)

    map_all(copy, list(zip(ends, parts, strict=True)), threads if total >= _LARGE_BYTES else 1)
    return room.finish(total)
