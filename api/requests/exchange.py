"""A request and its answer as far as they have come, for logs, the audit and metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.types import Scope


@dataclass(slots=True)
class Exchange:
    """`status` is 0 until the answer begins, `received` and `sent` are bytes of bodies, `whole`
    says that the answer has been sent to its end, `seconds` how long that took, 0 before it,
    `start` when it began by time.perf_counter."""

    scope: Scope
    status: int = 0
    received: int = 0
    sent: int = 0
    whole: bool = False
    seconds: float = 0.0
    start: float = field(default_factory=time.perf_counter)
