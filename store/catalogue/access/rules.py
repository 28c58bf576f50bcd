"""Which commits a repo keeps: a plain value, so that whoever tells of it need not load what the
catalogue takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """What keeps a commit, in the words and with the meaning of restic's `forget`.

    `last` counts commits; `hourly` to `yearly` count hours, days, ISO weeks, months and years (UTC)
    that have a commit, of each of which the newest is kept. None: the rule is not set; UNLIMITED:
    all of them. `within_seconds`: what is less old than that, compared with the newest commit.
    `tagged` keeps nothing more, as what a tag names always stays: alone it is a rule that lets the
    rest go.
    """

    last: int | None = None
    hourly: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    yearly: int | None = None
    within_seconds: float | None = None
    tagged: bool = False

    def any(self) -> bool:
        """Says whether there is a rule at all."""
        return any(value not in (None, False) for value in asdict(self).values())


UNLIMITED = -1
RULE_NAMES = tuple(field.name for field in fields(RetentionRules))
COUNT_NAMES = RULE_NAMES[:6]
