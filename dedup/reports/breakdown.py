"""The rows of reports: who and what the live frames are put down to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ...codecs.dtypes import BY_ID
from ...codecs.frame import CODEC_IDS
from ...store.catalogue.reports.bulk import CommitLine, Ledger
from ...store.repo_names import namespace_of
from ..model.file_kinds import KINDS
from ..model.report import UPLOADS, Breakdown, Dimension, Partner, Query, Row
from .attribution import Integers, Reach, Shares, find_partners, find_reach, split_frames, sum_by

# Finding them takes some milliseconds a row; of more rows than are read at once nobody misses them.
ROWS_WITH_PARTNERS = 20
PARTNERS = 5

_CODECS = {number: name for name, number in CODEC_IDS.items()}


@dataclass(frozen=True)
class Account:
    """A ledger, with what is worked out from it once. Masks are over chunks: `used` are in a file
    of a commit, `live` besides those all that commits and uploads need."""

    ledger: Ledger
    logical_by_format: dict[int, int]

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Chunks that a commit has."""
        return np.bincount(self.ledger.chunk, minlength=len(self.ledger.chunks)) > 0

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """Chunks that a commit or an upload reaches."""
        every = self.used.copy()
        every[self.ledger.loose] = True
        return self.with_inputs(every)

    def with_inputs(self, chunks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns the mask with all that the frames of the chunks in it need."""
        needs = self.ledger.chunks.needs
        found = chunks.copy()
        found[needs.input[np.repeat(chunks, needs.counts)]] = True
        return found

    def breakdown(self, query: Query, by: Dimension) -> Breakdown:
        """Returns the rows of one dimension."""
        if by in ("dtype", "codec"):
            rows = self._by_fact(by)
        elif by == "format":
            rows = self._by_format()
        else:
            return self._by_owner(query, by)
        return _cut(by, rows, query.top)

    def _by_owner(self, query: Query, by: Dimension) -> Breakdown:
        groups = [list(g) for _, g in groupby(self.ledger.commits, lambda c: _owner(c, by))]
        names = [_owner(group[0], by) for group in groups]
        reach = self.reach_of([len(group) for group in groups])
        shares = self._split(reach, len(groups) + 1)
        logical = [sum(commit.logical for commit in group) for group in groups]
        rows = list(_rows([*names, UPLOADS], [*logical, 0], shares))
        uploads = rows.pop()
        for i, group in enumerate(groups):
            if by == "revision":
                rows[i] = replace(rows[i], label=", ".join(group[0].branches))
            else:
                rows[i] = replace(rows[i], commits=len(group))
        found = _cut(by, [*rows, uploads] if uploads.billed else rows, query.top)
        if by == "revision":
            return found
        return self._with_partners(found, reach, [*names, UPLOADS])

    def reach_of(self, group_sizes: Sequence[int]) -> Reach:
        """Returns what groups of neighbouring commits reach, by their numbers of commits; uploads
        are one more owner, the last."""
        count = len(group_sizes)
        of_commit = np.repeat(np.arange(count, dtype=np.int32), group_sizes)
        uploads = np.full(self.ledger.loose.size, count, np.int32)
        owners = np.append(of_commit[self.ledger.commit], uploads)
        chunks = np.append(self.ledger.chunk, self.ledger.loose)
        return find_reach(owners, chunks, self.ledger.chunks.needs, count + 1)

    def _with_partners(self, found: Breakdown, reach: Reach, names: list[str]) -> Breakdown:
        number = {name: i for i, name in enumerate(names)}
        sizes = self.ledger.chunks.frame_bytes

        def add(row: Row) -> Row:
            pairs = find_partners(reach, number[row.name], sizes, PARTNERS) if row.shared else []
            return replace(row, partners=tuple(Partner(names[i], size) for i, size in pairs))

        head = found.rows[:ROWS_WITH_PARTNERS]
        return replace(found, rows=(*map(add, head), *found.rows[ROWS_WITH_PARTNERS:]))

    def _by_format(self) -> list[Row]:
        """A chunk's owners are the formats of the files that have it, by name, uploads last."""
        names = sorted(KINDS)
        uploads = np.full(self.ledger.loose.size, len(names), np.int32)
        owners, chunks = [uploads], [self.ledger.loose]
        for owner, name in enumerate(names):
            number = KINDS[name].number
            has = self.ledger.uses >> number & 1 if number else self.ledger.uses >> 1 == 0
            found = np.flatnonzero(np.bincount(self.ledger.chunk[has != 0]))
            chunks.append(found.astype(np.int32))
            owners.append(np.full(len(found), owner, np.int32))
        pairs = np.concatenate(owners), np.concatenate(chunks)
        reach = find_reach(*pairs, self.ledger.chunks.needs, len(names) + 1)
        logical = [self.logical_by_format.get(KINDS[name].number, 0) for name in names]
        shares = self._split(reach, len(names) + 1)
        rows = _rows([*names, UPLOADS], [*logical, 0], shares)
        return [row for row in rows if row.logical or row.billed]

    def _by_fact(self, by: Dimension) -> list[Row]:
        chunks = self.ledger.chunks
        facts = chunks.dtype if by == "dtype" else chunks.codec
        # From 0 on, for what is not known.
        index, count = facts + np.int16(1), int(facts.max(initial=-1)) + 2
        unique = sum_by(index[self.used], chunks.raw_bytes[self.used], count)
        frames = sum_by(index[self.live], chunks.frame_bytes[self.live], count)
        return [
            Row(_fact_name(by, i - 1), None, int(unique[i]), int(frames[i]), 0, 0)
            for i in range(count)
            if frames[i]
        ]

    def _split(self, reach: Reach, owners: int) -> Shares:
        chunks = self.ledger.chunks
        return split_frames(reach, chunks.frame_bytes, chunks.raw_bytes, owners)


def sum_rows(rows: Sequence[Row], name: str) -> Row:
    """Adds up rows of one breakdown."""
    logical = [row.logical for row in rows if row.logical is not None]
    return Row(
        name,
        sum(logical) if logical else None,
        sum(row.unique for row in rows),
        sum(row.exclusive for row in rows),
        sum(row.shared for row in rows),
        sum(row.attributed for row in rows),
        sum(row.commits for row in rows),
    )


def _owner(commit: CommitLine, by: Dimension) -> str:
    if by == "namespace":
        return namespace_of(commit.repo)
    return commit.repo if by == "repo" else f"{commit.repo}@{commit.oid[:12]}"


def _rows(names: Sequence[str], logical: Sequence[int], shares: Shares) -> Iterator[Row]:
    columns: list[Integers] = [shares.unique, shares.exclusive, shares.shared, shares.attributed]
    numbers = (column.tolist() for column in columns)
    for name, size, *found in zip(names, logical, *numbers, strict=True):
        yield Row(name, size, *found)


def _cut(by: Dimension, rows: list[Row], top: int | None) -> Breakdown:
    ranked = sorted(rows, key=lambda row: (-row.billed, row.name))
    shown, rest = (ranked, []) if top is None else (ranked[:top], ranked[top:])
    others = sum_rows(rest, f"({len(rest)} others)") if rest else None
    return Breakdown(by, len(rows), tuple(shown), others)


def _fact_name(by: Dimension, number: int) -> str:
    if by == "dtype":
        return BY_ID[number].name if number in BY_ID else "unknown"
    return _CODECS.get(number, str(number))
