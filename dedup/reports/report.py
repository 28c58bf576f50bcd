"""Puts a report together, from the catalogue's rows and the backend's listing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from ...codecs.frame import CODEC_IDS
from ...store.backend import Backend
from ...store.cancel import carry
from ...store.catalogue.access.limits import Limits
from ...store.catalogue.access.quotas import list_limits
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.reports.bulk import read_ledger
from ...store.catalogue.reports.inventory import read_inventory
from ...store.catalogue.reports.statistics import (
    FileSums,
    database_bytes,
    list_days,
    sum_files,
    sum_repo,
)
from ...store.catalogue.visibility import EVERYTHING, Scope
from ..errors import InvalidInput
from ..maintenance.collection.plan import DEFAULT_GRACE_SECONDS
from ..model.files.rows import TENSOR
from ..model.report import DIMENSIONS, Breakdown, Query, RepoCost, Report, Stages, Traffic
from ..repository.repository import Repository
from .attribution import Integers, sum_by
from .breakdown import Account
from .growth import join_days, today_of
from .object_usage import Contents, weigh_objects

_MONTH_SECONDS = 30 * 24 * 3600.0
_SMALL_OBJECTS = [1 << bits for bits in range(10, 21)]


def report_vault(vault: Repository, query: Query) -> Report:
    """Returns where the vault's bytes go. `stored` is what the backend lists, so nothing can hide
    from it. Raises InvalidInput for a query that cannot be."""
    check_query(query)
    at = time.time()
    copies = vault.base_copies() or None
    with ThreadPoolExecutor(1, "listing") as lister:
        listing = lister.submit(carry(_list_objects), vault.backend, at - _MONTH_SECONDS)
        with vault.catalogue.reading() as connection:
            files = sum_files(connection)
            inventory = read_inventory(connection, copies)
            account = Account(read_ledger(connection), files.by_format)
        listed = listing.result()
    live = _live_by_pack(account)
    space = database_bytes(vault.catalogue)
    contents = weigh_objects(listed.sizes, inventory, live, space, DEFAULT_GRACE_SECONDS)
    found = _sum_up(at, account, files, contents, sum(listed.sizes.values()))
    growth = join_days(account, list_days(vault.catalogue), today_of(found), query.since)
    rows = tuple(account.breakdown(query, by) for by in query.by)
    if "namespace" in query.by:
        limits = list_limits(vault.catalogue)
        rows = tuple(
            _with_quotas(found, limits) if found.by == "namespace" else found for found in rows
        )
    traffic = _weigh_traffic(account, listed, at)
    return replace(found, breakdowns=rows, growth=tuple(growth), traffic=traffic)


def _with_quotas(found: Breakdown, limits: dict[str, Limits]) -> Breakdown:
    rows = (replace(row, quota=limits.get(row.name)) for row in found.rows)
    return replace(found, rows=tuple(rows))


def cost_of_repo(catalogue: Catalogue, repo: str, seen: Scope = EVERYTHING) -> RepoCost:
    """Returns what one repo takes, for somebody who may read the repos `seen`."""
    sums = sum_repo(catalogue, repo, seen)
    figures = (sums.commits, sums.logical, sums.unique, sums.exclusive, sums.shared)
    return RepoCost(repo, *figures, counted="frames" if seen.everything else "raw")


def check_query(query: Query) -> None:
    """Raises InvalidInput unless a query names dimensions, a positive number and a day."""
    unknown = set(query.by) - set(DIMENSIONS)
    if unknown:
        raise InvalidInput(
            f"no report is by {', '.join(sorted(unknown))}", f"choose from {', '.join(DIMENSIONS)}"
        )
    if query.top is not None and query.top < 1:
        raise InvalidInput(f"the {query.top} largest rows are none", "ask for 1 or more")
    try:
        date.fromisoformat(query.since or "2000-01-01")
    except ValueError as error:
        raise InvalidInput(f"{query.since!r} is no day", "write it as 2026-12-31") from error


@dataclass(frozen=True, slots=True)
class _Listing:
    """What a store holds: bytes of objects by key, and of those that came in lately."""

    sizes: dict[str, int]
    recent: list[int]


def _list_objects(backend: Backend, since: float) -> _Listing:
    found = _Listing({}, [])
    for info in backend.list():
        found.sizes[info.key] = info.size
        if info.modified >= since:
            found.recent.append(info.size)
    return found


def _live_by_pack(account: Account) -> dict[int, int]:
    chunks, live = account.ledger.chunks, account.live
    count = int(chunks.pack.max(initial=0)) + 1
    sums = sum_by(chunks.pack[live], chunks.frame_bytes[live], count)
    return {pack: size for pack, size in enumerate(sums.tolist()) if size}


def _sum_up(
    at: float, account: Account, files: FileSums, contents: Contents, stored: int
) -> Report:
    chunks, used, live = account.ledger.chunks, account.used, account.live
    frames = int(chunks.frame_bytes[live].sum())
    uploads = frames - int(chunks.frame_bytes[account.with_inputs(used)].sum())
    return Report(
        at=at,
        repos=len({commit.repo for commit in account.ledger.commits}),
        commits=len(account.ledger.commits),
        files=files.files,
        chunks=int(used.sum()),
        logical=files.logical,
        distinct_files=files.distinct,
        unique=int(chunks.raw_bytes[used].sum()),
        frames=frames,
        uploads=uploads,
        stored=stored,
        missing=contents.missing,
        stages=_stages(account, files, frames - uploads),
        metadata_parts=contents.metadata,
        garbage_parts=contents.garbage,
    )


def _stages(account: Account, files: FileSums, frames: int) -> Stages:
    """Splits logical - frames among the stages (model.Stages).

    A base that no commit uses any more has frames but no logical bytes: deltas, for which it is
    mostly kept, pay for it.
    """
    ledger, used = account.ledger, account.used
    in_tensors = np.zeros(len(used), np.bool_)
    in_tensors[ledger.chunk[ledger.uses & TENSOR != 0]] = True
    derived = ledger.chunks.codec == CODEC_IDS["derived"]
    alone = ledger.chunks.needs.counts == 0
    deltas = ~alone & ~derived

    def raw(mask: np.ndarray) -> int:
        return int(ledger.chunks.raw_bytes[used & mask].sum())

    def coded(mask: np.ndarray) -> int:
        return int(ledger.chunks.frame_bytes[used & mask].sum())

    stranded = frames - coded(used)
    others = files.distinct - files.tensors - files.inlined
    return Stages(
        files=files.logical - files.distinct,
        inlined=files.inlined,
        tensors=files.tensors - raw(in_tensors),
        chunks=others - raw(~in_tensors),
        coding=raw(alone) - coded(alone),
        deltas=raw(deltas) - coded(deltas) - stranded,
        derivations=raw(derived) - coded(derived),
    )


def _weigh_traffic(account: Account, listed: _Listing, at: float) -> Traffic:
    commits = account.ledger.commits
    pushed = [commit for commit in commits if commit.created >= at - _MONTH_SECONDS]
    newest = {commit.repo: i for i, commit in enumerate(commits)}
    is_newest = np.zeros(len(commits), np.bool_)
    is_newest[list(newest.values())] = True
    taken = is_newest[account.ledger.commit]
    chunks = account.ledger.chunks
    # A commit has each chunk once, but may have many deltas on one base.
    chunk = account.ledger.chunk[taken]
    place, source = chunks.needs.of(chunk)
    pairs = account.ledger.commit[taken][place].astype(np.int64) * len(chunks) + source
    pairs.sort()
    inputs = pairs[np.diff(pairs, prepend=-1) != 0] % max(len(chunks), 1)
    return Traffic(
        written=len(listed.recent),
        written_bytes=sum(listed.recent),
        files=sum(commit.files for commit in pushed),
        files_bytes=sum(commit.logical for commit in pushed),
        pull_frames=int(chunks.frame_bytes[chunk].sum() + chunks.frame_bytes[inputs].sum()),
        pull_logical=sum(commits[i].logical for i in newest.values()),
        small=_count_small(np.fromiter(listed.sizes.values(), np.int64)),
    )


def _count_small(sizes: Integers) -> tuple[tuple[int, int, int], ...]:
    classes = np.searchsorted(_SMALL_OBJECTS, sizes, "right")
    counts = np.bincount(classes, minlength=len(_SMALL_OBJECTS)).tolist()
    totals = sum_by(classes, sizes, len(counts)).tolist()
    return tuple(zip(_SMALL_OBJECTS, counts, totals, strict=False))
