"""How long work tells how far it is; the command line gives a subclass that draws it."""

from __future__ import annotations


class Progress:
    """Receives the progress of one operation, always in the calling thread; this one is silent."""

    def begin(self, task: str, total_bytes: int) -> None:
        """A task of `total_bytes` starts; `task` is a verb in the -ing form, such as "hashing"."""

    def advance(self, n_bytes: int) -> None:
        """`n_bytes` more of the current task are done."""

    def end(self) -> None:
        """The current task is over, finished or not."""
