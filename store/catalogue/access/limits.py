"""What a namespace may have at most: a plain value, so that whoever tells of it need not load what
the catalogue takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a namespace may have; None: no limit. Bytes of distinct chunks (`stored`) and
    of distinct files (`logical`), repos; bytes that were sent or are being sent and that no commit
    has yet (`in_flight`); and of each server process, requests and seconds of CPU that checks
    take."""

    stored: int | None = None
    logical: int | None = None
    repos: int | None = None
    in_flight: int | None = None
    requests_per_minute: int | None = None
    cpu_seconds_per_minute: int | None = None

    def any(self) -> bool:
        """Says whether there is a limit at all."""
        return any(value is not None for value in asdict(self).values())


LIMIT_NAMES = tuple(field.name for field in fields(Limits))
