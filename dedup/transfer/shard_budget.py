"""How long one request may work on a shard, and where the next one goes on.

A file of a shard takes a few ms, however short it is, and a megabyte of shard can name thousands.
So a request works for as long as what was sent for it warrants. What it has stored by then stays,
and the same shard, sent again, goes on from there: clients do that by themselves.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from ..errors import Unreachable

# Of processor time of the thread: what any shard may take, and for how many bytes of xorbs, as they
# were sent, there is a second more.
BASE_SECONDS = 1.5
BYTES_A_SECOND = 4 << 20

_MOST_BEGUN = 256


class ShardBudget:
    """Remembers how far shards have come; safe to use from several threads. Another server, which
    does not know, starts over and finds what is stored."""

    def __init__(self) -> None:
        self._begun: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()

    def files_done(self, key: bytes) -> int:
        """Returns how many files of the shard `key` were stored by requests that were cut off."""
        with self._lock:
            return self._begun.get(key, 0)

    def spend(self, key: bytes, done: int, total: int, until: float) -> None:
        """Raises Unreachable where the thread has worked beyond `until` (time.thread_time) and only
        `done` of the `total` files are stored."""
        if done >= total or time.thread_time() < until:
            return
        with self._lock:
            self._begun[key] = done
            self._begun.move_to_end(key)
            while len(self._begun) > _MOST_BEGUN:
                self._begun.popitem(last=False)
        raise Unreachable(
            f"{done} of the {total} files of this upload are stored",
            "send it again: it goes on from there",
        )

    def finish(self, key: bytes) -> None:
        """Forgets a shard that is done."""
        with self._lock:
            self._begun.pop(key, None)


def end_of_work(sent_bytes: int) -> float:
    """Returns until when this thread may work on a shard, by time.thread_time: `sent_bytes` are
    those of its xorbs, as they were sent."""
    return time.thread_time() + BASE_SECONDS + sent_bytes / BYTES_A_SECOND
