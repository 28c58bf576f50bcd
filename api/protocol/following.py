"""Follows long work of a server: lines of JSON, one after the other as they come.

    {"progress": {"task": "checking packs", "done": 3, "total": 12, "unit": "packs"}}
    {"result": {...}}

Each line of progress says all there is to say, so that one can be missed; `unit` is null for
bytes. The last line has the result, or an error body as errors.py has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from ...dedup.errors import InvalidInput, Unreachable
from ...dedup.progress import Progress
from ..errors import parse_error

MEDIA_TYPE = "application/x-ndjson"


@dataclass(frozen=True)
class State:
    """How far a task is; `unit` as Progress.begin has it."""

    task: str
    done: Annotated[int, Field(ge=0, lt=1 << 63)]
    total: Annotated[int, Field(ge=0, lt=1 << 63)] | None
    unit: str | None


_STATES = TypeAdapter(dict[str, State])


def follow(pieces: Iterator[bytes], progress: Progress, most_bytes: int) -> bytes:
    """Shows what a body of such lines tells; returns its last line, which has the result.

    Raises the error that is there instead, Unreachable for a body that ends before either, and
    InvalidInput for a line longer than `most_bytes`.
    """
    shown = Shown(progress)
    try:
        for line in _split_lines(pieces, most_bytes):
            try:
                shown.show(_STATES.validate_json(line)["progress"])
            except (ValidationError, KeyError):
                error = _error_in(line)
                if error is not None:
                    raise error from None
                return line
    finally:
        shown.end()
    raise Unreachable("the server broke off before the result", "run the command again")


class Shown:
    """Turns states of work that is done elsewhere into what a Progress is told."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last: State | None = None

    def show(self, state: State) -> None:
        """Tells what is new in a state."""
        before = self._last
        if before is None or before.task != state.task:
            self.end()
            self._progress.begin(state.task, state.total, state.unit)
            before = None
        self._progress.advance(state.done - (before.done if before else 0))
        self._last = state

    def end(self) -> None:
        """Ends the task that was shown last."""
        if self._last is not None:
            self._progress.end()
            self._last = None


def _error_in(line: bytes) -> Exception | None:
    try:
        return parse_error(json.loads(line), 500)
    except (ValueError, RecursionError):
        return None


def _split_lines(pieces: Iterator[bytes], most_bytes: int) -> Iterator[bytes]:
    """Yields whole lines only: what comes after the last line break was cut off."""
    held = bytearray()
    for piece in pieces:
        held += piece
        *lines, rest = held.split(b"\n")
        yield from map(bytes, lines)
        held = rest
        if len(held) > most_bytes:
            raise InvalidInput(f"the server sent a line of more than {most_bytes} bytes")
