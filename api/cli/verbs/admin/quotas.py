"""The verbs about quotas: what a namespace may have and do at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ....formatting import format_bytes, format_table
from ...console import Session
from ...options import BytesType, verb

if TYPE_CHECKING:
    from .....dedup.maintenance.quotas import Quota

# How an option says that there shall be no limit.
_NONE, _NO_LIMIT = "none", -1
# As store.catalogue.access.quotas.Limits has them, which takes a catalogue to import.
_BYTES = ("stored", "logical", "in_flight")
_COUNTS = ("repos", "requests_per_minute", "cpu_seconds_per_minute")
_HELP = {
    "stored": "Bytes of distinct content, each chunk once and not compressed.",
    "logical": "Bytes of distinct files.",
    "in_flight": "Bytes that are being uploaded, or were and are in no commit yet.",
    "repos": "Number of repos.",
    "requests_per_minute": "Requests a minute, of each server process.",
    "cpu_seconds_per_minute": "CPU seconds a minute of checking uploads, of each server process.",
}


class LimitType(click.ParamType):
    """A limit: what `kind` reads, or `none`."""

    def __init__(self, kind: click.ParamType) -> None:
        self._kind = kind
        self.name = kind.name

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Returns it as a whole number, negative for none."""
        if value == _NONE:
            return _NO_LIMIT
        return int(self._kind.convert(value, param, ctx))


def _limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each limit, in the order of the tables above."""
    for name in reversed((*_BYTES, *_COUNTS)):
        kind = BytesType() if name in _BYTES else click.IntRange(min=0)
        flag = f"--{name.replace('_', '-')}"
        option = click.option(flag, type=LimitType(kind), help=_HELP[name])
        function = option(function)
    return function


@click.group("quota")
def quota() -> None:
    """Limit what a namespace may have and do at most.

    Bytes are counted as if the namespace were alone in the vault, so that no quota tells anybody
    what others hold. What a namespace has already stays, whatever its limits are.
    """


@verb("set")
@click.argument("namespace")
@_limit_options
def set_quota(session: Session, namespace: str, **limits: int | None) -> None:
    """Set limits of NAMESPACE: those that are given; `none` takes one away."""
    from .....dedup.maintenance.quotas import describe_quota, find_limits, set_limits
    from .....store.catalogue.access.limits import Limits

    given = {name: limit for name, limit in limits.items() if limit is not None}
    if not given:
        raise click.UsageError("give at least one limit, such as --stored 10G")
    with session.open_local() as vault:
        changed = {n: None if limit == _NO_LIMIT else limit for n, limit in given.items()}
        wanted = Limits(**(asdict(find_limits(vault, namespace)) | changed))
        set_limits(vault, namespace, wanted)
        found = describe_quota(vault, namespace)
    session.emit(asdict(found), _describe([found]))


@verb("show")
@click.argument("namespace", required=False)
def show(session: Session, namespace: str | None) -> None:
    """Show the limits of NAMESPACE, or of all that have any, and what of them is used."""
    from .....dedup.maintenance.quotas import describe_quota, list_quotas

    with session.open_local() as vault:
        found = [describe_quota(vault, namespace)] if namespace else list_quotas(vault)
    text = _describe(found) if found else "no namespace has a quota"
    session.emit({"quotas": [asdict(each) for each in found]}, text)


@verb("remove")
@click.argument("namespace")
def remove(session: Session, namespace: str) -> None:
    """Take all limits of NAMESPACE away."""
    from .....dedup.maintenance.quotas import set_limits
    from .....store.catalogue.access.limits import Limits

    with session.open_local() as vault:
        set_limits(vault, namespace, Limits())
    session.emit({"removed": namespace}, f"{namespace} has no quota any more")


for _command in (set_quota, show, remove):
    quota.add_command(_command)


def _describe(found: list[Quota]) -> str:
    rows = [("namespace", "stored", "logical", "in flight", "repos", "requests/min", "CPU s/min")]
    for each in found:
        limits, usage = each.limits, each.usage
        rows.append(
            (
                each.namespace,
                f"{format_bytes(usage.stored)} of {_bytes(limits.stored)}",
                f"{format_bytes(usage.logical)} of {_bytes(limits.logical)}",
                f"{format_bytes(each.in_flight)} of {_bytes(limits.in_flight)}",
                f"{usage.repos} of {_count(limits.repos)}",
                _count(limits.requests_per_minute),
                _count(limits.cpu_seconds_per_minute),
            )
        )
    return format_table(rows)


def _bytes(limit: int | None) -> str:
    return "any" if limit is None else format_bytes(limit)


def _count(limit: int | None) -> str:
    return "any" if limit is None else str(limit)
