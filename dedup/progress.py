"""How long work tells how far it is; the command line gives a subclass that draws it."""

from __future__ import annotations


class Progress:
    """Receives the progress of one operation, always in the calling thread; this one is silent."""

    def begin(self, task: str, total: int, unit: str | None = None) -> None:
        """A task of `total` bytes starts, or of `total` things called `unit`, in the plural; `task`
        is a verb in the -ing form, such as "hashing"."""

    def advance(self, count: int) -> None:
        """So many more bytes or things of the current task are done."""

    def end(self) -> None:
        """The current task is over, finished or not."""
