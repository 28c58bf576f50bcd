"""A request and its answer as far as they have come, for logs, the audit and metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.types import Message, Scope


@dataclass(slots=True)
class Exchange:
    """`status` is 0 until the answer begins, `received` and `sent` are bytes of bodies, `whole`
    says that the answer has been sent to its end."""

    scope: Scope
    status: int = 0
    received: int = 0
    sent: int = 0
    whole: bool = False
    _start: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.perf_counter() - self._start

    def take(self, message: Message) -> None:
        """Counts a message from the client."""
        self.received += len(message.get("body", b""))

    def give(self, message: Message) -> None:
        """Counts a message to the client, once it is sent."""
        if message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
