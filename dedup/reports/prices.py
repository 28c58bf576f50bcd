"""What bytes cost: tables of prices (prices.toml), and a month's bill by one of their classes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from ..errors import InvalidInput
from ..model.report import Report, Traffic

GIB = 1 << 30
# Frames of a pull are read in runs; packs hold them in the order they were pushed in.
BYTES_PER_GET = 8 << 20


@dataclass(frozen=True, slots=True)
class Tier:
    """A price per GiB for what lies below `up_to_gib`, and above the tier before; None: no end."""

    price: float
    up_to_gib: float | None = None


@dataclass(frozen=True, slots=True)
class StorageClass:
    """One way to pay for storage; see prices.toml for the units of its prices. `unconfirmed` says
    which of them no dated source was found for."""

    name: str
    title: str
    currency: str
    date: date
    source: str
    storage: tuple[Tier, ...]
    puts: float = 0.0
    gets: float = 0.0
    upload: float = 0.0
    retrieval: float = 0.0
    egress: tuple[Tier, ...] = (Tier(0.0),)
    least_object_bytes: int = 0
    least_days: int = 0
    unconfirmed: str = ""

    @property
    def origin(self) -> str:
        """When the prices were looked at and where they come from, in words."""
        doubt = f"; not confirmed: {self.unconfirmed}" if self.unconfirmed else ""
        return f"{self.date}, {self.source}{doubt}"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a bill is made out for: bytes kept, bytes and requests of a month."""

    stored: float
    puts: float = 0.0
    gets: float = 0.0
    uploaded: float = 0.0
    read: float = 0.0
    sent: float = 0.0


@dataclass(frozen=True, slots=True)
class Bill:
    """Money a month, in `currency`: what is kept, requests, `transfer` in and out of the store,
    `egress` from the provider's network."""

    currency: str
    storage: float
    requests: float
    transfer: float
    egress: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.storage + self.requests + self.transfer + self.egress


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Classes by name; `default` is the name of one."""

    default: str
    classes: dict[str, StorageClass]

    def find(self, name: str | None = None) -> StorageClass:
        """Returns the class called `name`, or the default. Raises InvalidInput."""
        found = self.classes.get(name or self.default)
        if found is None:
            known = ", ".join(self.classes)
            raise InvalidInput(f"there are no prices of {name!r}", f"choose from {known}")
        return found


def load_prices(path: Path | None = None) -> PriceTable:
    """Reads a table of prices, by default the one that comes with weightvault.

    Raises InvalidInput naming what is wrong with it.
    """
    where = path or "prices.toml of weightvault"
    try:
        data = path.read_bytes() if path else _shipped()
        document = tomllib.loads(data.decode())
        classes = {n: _parse_class(n, c) for n, c in document["classes"].items()}
        table = PriceTable(document["default"], classes)
        table.find()
        return table
    except OSError as error:
        raise InvalidInput(f"cannot read prices from {where}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        hint = "the table that comes with weightvault shows the form; copy it and edit the copy"
        raise InvalidInput(f"{where} is no table of prices: {_say(error)}", hint) from error


def flat_class(price: float) -> StorageClass:
    """Returns a class of nothing but a price per GiB and month."""
    today = date.today()
    return StorageClass("flat", f"{price:g} per GiB", "", today, "as given", (Tier(price),))


def bill_for(prices: StorageClass, usage: Usage) -> Bill:
    """Returns what a month of `usage` costs."""
    return Bill(
        currency=prices.currency,
        storage=_tiered(prices.storage, usage.stored / GIB),
        requests=(usage.puts * prices.puts + usage.gets * prices.gets) / 1000,
        transfer=(usage.uploaded * prices.upload + usage.read * prices.retrieval) / GIB,
        egress=_tiered(prices.egress, usage.sent / GIB),
    )


class Measured(Protocol):
    """What usage is worked out from: a report, or a bill."""

    @property
    def stored(self) -> int:
        """Bytes that are kept."""
        ...

    @property
    def traffic(self) -> Traffic | None:
        """What came in of late."""
        ...


def usage_of(report: Measured, prices: StorageClass, pulls: float = 0.0) -> Usage:
    """Returns what a vault uses in a month in which its newest commits are pulled so often each.

    Clients that decode themselves are sent what is read: frames.
    """
    stored = report.stored + _padding(report, prices.least_object_bytes)
    if report.traffic is None:
        return Usage(stored)
    read = pulls * report.traffic.pull_frames
    return Usage(
        stored,
        puts=report.traffic.written,
        gets=read / BYTES_PER_GET,
        uploaded=report.traffic.written_bytes,
        read=read,
        sent=read,
    )


def plain_usage(report: Report, pulls: float = 0.0) -> Usage:
    """Returns what the same files would use as plain files, an object each."""
    if report.traffic is None:
        return Usage(report.logical)
    sent = pulls * report.traffic.pull_logical
    return Usage(
        report.logical,
        puts=report.traffic.files,
        gets=sent / BYTES_PER_GET,
        uploaded=report.traffic.files_bytes,
        read=sent,
        sent=sent,
    )


def _shipped() -> bytes:
    return resources.files(__package__ or "").joinpath("prices.toml").read_bytes()


def _tiered(tiers: tuple[Tier, ...], gib: float) -> float:
    cost, below = 0.0, 0.0
    for tier in tiers:
        end = gib if tier.up_to_gib is None else min(gib, tier.up_to_gib)
        cost += max(0.0, end - below) * tier.price
        below = max(below, end)
    return cost


def _padding(report: Measured, least: int) -> int:
    """What small objects cost in bytes beyond their own."""
    small = report.traffic.small if report.traffic else ()
    return sum(count * least - size for limit, count, size in small if limit <= least)


def _parse_class(name: str, outline: Mapping[str, Any]) -> StorageClass:
    values = dict(outline)
    unknown = values.keys() - {field.name for field in fields(StorageClass)}
    if unknown:
        raise ValueError(f"class {name!r} has {', '.join(sorted(unknown))}, which means nothing")
    for key in ("storage", "egress"):
        if key in values:
            values[key] = _parse_tiers(name, key, values[key])
    found = StorageClass(name, **values)
    _check_class(found)
    return found


def _parse_tiers(name: str, key: str, outline: list[dict[str, float]]) -> tuple[Tier, ...]:
    tiers = tuple(Tier(**tier) for tier in outline)
    ends = [tier.up_to_gib for tier in tiers]
    if not tiers or ends[-1] is not None or ends[:-1] != sorted(e for e in ends if e is not None):
        raise ValueError(f"the tiers of {key} of {name!r} do not ascend to one without an end")
    if any(not tier.price >= 0 for tier in tiers):
        raise ValueError(f"{key} of {name!r} has a price that is not 0 or more")
    return tiers


def _check_class(found: StorageClass) -> None:
    least = found.least_object_bytes
    numbers = (found.puts, found.gets, found.upload, found.retrieval, least, found.least_days)
    if any(not number >= 0 for number in numbers):
        raise ValueError(f"class {found.name!r} has a number that is not 0 or more")
    if least & (least - 1) or least > 1 << 20:
        raise ValueError(f"least_object_bytes of {found.name!r} is no power of two up to 1 MiB")
    if not isinstance(found.date, date):
        raise ValueError(f"the date of {found.name!r} is not written as 2026-12-31")


def _say(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
