"""How long work tells how far it is; the command line gives a subclass that draws it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..store.cancel import check_cancelled


class Progress:
    """Receives the progress of one operation, always in the calling thread; this one is silent."""

    def begin(self, task: str, total: int | None, unit: str | None = None) -> None:
        """A task of `total` bytes starts, or of `total` things called `unit`, in the plural; None
        where nobody knows. `task` is a verb in the -ing form, such as "hashing"."""

    def advance(self, count: int) -> None:
        """So many more bytes or things of the current task are done. Raises Cancelled if nobody
        wants the rest."""
        check_cancelled()

    def end(self) -> None:
        """The current task is over, finished or not."""

    @contextmanager
    def running(
        self, task: str, total: int | None = None, unit: str | None = None
    ) -> Iterator[None]:
        """Begins a task, and ends it on the way out, finished or not."""
        self.begin(task, total, unit)
        try:
            yield
        finally:
            self.end()
