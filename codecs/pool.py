"""One thread pool for all coding, started at first use, and what it is used for everywhere."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import accumulate, chain, islice
from typing import TypeVar

import numpy as np

from .buffers import Bytes, allocate_bytes

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


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yields ``function(item)`` for each item, in order, from at most ``threads`` threads.

    Only as many items as threads are in flight. With one thread, or one item, everything runs in
    the caller's: handing a block of 1 KiB to another thread takes longer than coding it.
    """
    source = iter(items)
    first = list(islice(source, 2))
    if threads == 1 or len(first) < 2:
        yield from map(function, chain(first, source))
        return
    source = chain(first, source)
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


def join_parts(parts: Sequence[bytes | Bytes], threads: int) -> bytes:
    """Joins bytes and (n,) uint8 arrays; large ones on at most ``threads`` threads.

    On a virtual machine whole MiniLM in F16 was coded at 1280 MB/s so, joined in one go at 1010: a
    result above 32 MiB is new memory every time, and pages of 4 KiB cost more than copying.
    """
    total = sum(len(part) for part in parts)
    if total < _LARGE_BYTES:
        return b"".join(part if isinstance(part, bytes) else part.data for part in parts)
    result, room = allocate_bytes(total)
    ends = accumulate(len(part) for part in parts)

    def copy(placed: tuple[int, bytes | Bytes]) -> None:
        end, part = placed
        room[end - len(part) : end] = np.frombuffer(part, np.uint8)

    for _ in map_ordered(copy, zip(ends, parts, strict=True), threads):
        pass
    return result
