"""Sets and tells quotas: what each namespace may have and do at most
(store/catalogue/access/quotas.py)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ...store.catalogue.access import quotas
from ...store.catalogue.access.limits import LIMIT_NAMES, Limits
from ...store.catalogue.access.quotas import Usage, list_limits, read_usage, sum_in_flight
from ..errors import InvalidInput
from ..model.journal_entries import QuotaChange
from ..model.names import check_namespace
from ..repository.repository import Repository


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of a namespace, and what it has: its commits' `usage`, and bytes `in_flight`."""

    namespace: str
    limits: Limits
    usage: Usage
    in_flight: int


def set_limits(vault: Repository, namespace: str, limits: Limits) -> None:
    """Gives a namespace limits in place of those it has; none at all takes its quota away. What it
    has already stays, whatever they are. Raises InvalidName, InvalidInput."""
    check_namespace(namespace)
    for name in LIMIT_NAMES:
        value = getattr(limits, name)
        if value is not None and not 0 <= value < 1 << 62:
            raise InvalidInput(f"{name} of a quota cannot be {value}", "use a number from 0 on")
    vault.record(QuotaChange(namespace, limits, time.time()))


def find_limits(vault: Repository, namespace: str) -> Limits:
    """Returns the limits of a namespace; one without a quota has none."""
    return quotas.find_limits(vault.catalogue, namespace)


def describe_quota(vault: Repository, namespace: str) -> Quota:
    """Returns what a namespace may have and has, with a quota or without."""
    check_namespace(namespace)
    limits = find_limits(vault, namespace)
    usage = read_usage(vault.catalogue, namespace)
    sent = sum_in_flight(vault.catalogue, namespace, time.time())
    return Quota(namespace, limits, usage, sent)


def list_quotas(vault: Repository) -> list[Quota]:
    """Returns the quotas of all namespaces that have one, by name."""
    names = list_limits(vault.catalogue)
    return [describe_quota(vault, name) for name in names]
