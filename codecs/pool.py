"""One thread pool for all coding, started at first use."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yields ``function(item)`` for each item, in order, from at most ``threads`` threads.

    Only as many items as threads are in flight. With one thread everything runs in the caller's.
    """
    if threads == 1:
        yield from map(function, items)
        return
    source = iter(items)
    pool = _executor()
    waiting = deque(pool.submit(function, item) for item in islice(source, threads + 1))
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(source, 1))
            yield result
    finally:
        for future in waiting:
            future.cancel()
