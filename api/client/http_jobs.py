"""Long work of a server: asked for, followed until it has ended, and cancelled when the caller is
interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from ...dedup.errors import Unreachable
from ...dedup.progress import Progress
from ..errors import parse_error
from ..protocol.following import Shown, State
from .transport import MAX_ANSWER_BYTES, Answer, Transport

# Soon after the beginning often, as most work is short.
_FIRST_SECONDS = 0.05
_MOST_SECONDS = 1.0


@dataclass(frozen=True)
class _Job:
    """A job as JSON has it."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    progress: State | None
    result: Any
    error: Any


Parse = Callable[[type[_Job], Answer], _Job]


def run_job(transport: Transport, parse: Parse, asked: dict[str, Any], progress: Progress) -> Any:
    """Has a server do long work, whose answers `parse` reads; returns its result as JSON has it.

    Raises what the work raised there, Conflict if other work of its kind is under way, and
    Unreachable if somebody else cancelled it.
    """
    job = parse(_Job, transport.request("POST", "/v1/jobs", json=asked))
    shown, pause = Shown(progress), _FIRST_SECONDS
    try:
        while job.state in ("waiting", "running"):
            if job.progress is not None:
                shown.show(job.progress)
            time.sleep(pause)
            pause = min(2 * pause, _MOST_SECONDS)
            address = f"/v1/jobs/{job.id}"
            job = parse(_Job, transport.request("GET", address, most_bytes=MAX_ANSWER_BYTES))
        if job.state == "done" and job.progress is not None:
            shown.show(job.progress)
    except KeyboardInterrupt:
        transport.request("DELETE", f"/v1/jobs/{job.id}")
        raise
    finally:
        shown.end()
    if job.state == "done":
        return job.result
    cancelled = Unreachable("somebody cancelled the work on the server", "run the command again")
    raise parse_error(job.error, 500) or cancelled
