"""Shows how far long work is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from ..dedup.progress import Progress
from .formatting import format_bytes, format_percent, format_rate
from .terminal import show

if TYPE_CHECKING:
    from rich.progress import Progress as RichBar

# Often enough to see that it lives, seldom enough for a log.
_LINE_SECONDS = 10.0


def make_progress(stream: TextIO | None = None) -> Progress:
    """Returns the progress display that suits `stream`, stderr by default."""
    target = sys.stderr if stream is None else stream
    return BarProgress(target) if target.isatty() else LineProgress(target)


class LineProgress(Progress):
    """Prints a line every ten seconds and one at the end of each task, unless that is of unknown
    length and was over sooner."""

    def __init__(self, stream: TextIO, line_seconds: float = _LINE_SECONDS) -> None:
        self._stream = stream
        self._line_seconds = line_seconds

    def begin(self, task: str, total: int | None, unit: str | None = None) -> None:
        """See Progress.begin."""
        self._task, self._total, self._done = show(task), total, 0
        self._unit = None if unit is None else show(unit)
        self._started = self._shown = time.monotonic()

    def advance(self, count: int) -> None:
        """See Progress.advance."""
        self._done += count
        now = time.monotonic()
        if now - self._shown >= self._line_seconds:
            self._shown = now
            self._print(now)

    def end(self) -> None:
        """See Progress.end."""
        now = time.monotonic()
        if self._total or (self._total is None and now - self._started >= self._line_seconds):
            self._print(now)

    def _print(self, now: float) -> None:
        if self._total is None:
            print(f"{self._task}: {now - self._started:.0f} s", file=self._stream, flush=True)
            return
        share = format_percent(self._done, self._total)
        if self._unit is not None:
            said = f"{self._done} of {self._total} {self._unit} ({share})"
        else:
            rate = format_rate(self._done, now - self._started)
            done, total = format_bytes(self._done), format_bytes(self._total)
            said = f"{done} of {total} ({share}), {rate}"
        print(f"{self._task}: {said}", file=self._stream, flush=True)


class BarProgress(Progress):
    """Draws a bar with what is done of the current task, the rate of bytes, and time left; while
    nobody knows how much there is, one that only moves. Nothing to do is not worth a bar."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def begin(self, task: str, total: int | None, unit: str | None = None) -> None:
        """See Progress.begin."""
        self._bar = _make_bar(self._stream, total, unit)
        self._bar.start()
        self._task = self._bar.add_task(show(task), total=total, unit=show(unit or ""))

    def advance(self, count: int) -> None:
        """See Progress.advance."""
        self._bar.advance(self._task, count)

    def end(self) -> None:
        """See Progress.end."""
        self._bar.stop()


def _make_bar(stream: TextIO, total: int | None, unit: str | None) -> RichBar:
    # rich takes 0.1 s to import, which a run without a terminal need not pay.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar
    from rich.text import Text

    class RateColumn(ProgressColumn):
        """Bytes per second in the units of all our other numbers."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed or 0.0
            return Text(f"{format_bytes(speed)}/s", style="progress.data.speed")

    if total is None:
        counts = (TimeElapsedColumn(),)
    elif unit is None:
        counts = (DownloadColumn(binary_units=True), RateColumn(), TimeRemainingColumn())
    else:
        counts = (
            MofNCompleteColumn(),
            # Neither a template nor markup: a server may have said it.
            TextColumn("{task.fields[unit]}", markup=False),
            TimeRemainingColumn(),
        )
    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counts,
        console=Console(file=stream),
        transient=total is None,
        disable=total == 0,
    )
