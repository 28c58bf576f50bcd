"""What a namespace may take at most, and what its commits take now.

Both are functions of its own repos alone, so that neither a refusal nor a figure tells what others
hold: `stored` counts each distinct chunk once, raw, and `logical` each distinct file once, whoever
else has them, and however they are stored. The sums are kept beside the quota and grow with each
commit, in its transaction; what takes something away lets them be recomputed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from ...errors import QuotaExceeded
from ...repo_names import namespace_of
from ..dependencies import hold_store
from ..tables.database import Database, MakeEntry
from ..tables.rows import FileRow, batches
from ..tables.schema import (
    chunks,
    commit_chunks,
    commits,
    files,
    loose_files,
    quotas,
    received,
    repos,
)
from ..tables.xet_schema import xet_generations, xet_xorbs
from ..visibility import Scope
from .limits import LIMIT_NAMES, Limits


@dataclass(frozen=True, slots=True)
class Usage:
    """What the commits of a namespace take: as in Limits."""

    stored: int
    logical: int
    repos: int


_LIMITS = [quotas.c[name] for name in LIMIT_NAMES]
_USED = {name: quotas.c[f"used_{name}"] for name in ("stored", "logical", "repos")}
_UNITS = {"stored": "bytes of distinct content", "logical": "bytes of files", "repos": "repos"}


def put_limits(catalogue: Database, namespace: str, limits: Limits, key: str | MakeEntry) -> None:
    """Sets the limits of a namespace, as the journal entry `key` says, unless a later one did."""
    with catalogue.writing() as connection:
        # Commits under way do not know the quota yet, so nobody adds up before they are done.
        hold_store(connection, exclusive=True)
        if not catalogue.take_entry(connection, key):
            return
        entry = catalogue.write_entry(connection, key)
        mine = quotas.c.namespace == namespace
        if (connection.scalar(select(quotas.c.entry).where(mine)) or "") > entry:
            return
        connection.execute(delete(quotas).where(mine))
        values = {"namespace": namespace, "entry": entry, **asdict(limits)}
        connection.execute(insert(quotas).values(values))


def find_limits(catalogue: Database, namespace: str) -> Limits:
    """Returns the limits of a namespace; one without a quota has none."""
    query = select(*_LIMITS).where(quotas.c.namespace == namespace)
    with catalogue.reading() as connection:
        row = connection.execute(query).first()
    return Limits(*row) if row else Limits()


def list_limits(catalogue: Database) -> dict[str, Limits]:
    """Returns the limits of all namespaces that have any, by name."""
    with catalogue.reading() as connection:
        rows = connection.execute(select(quotas.c.namespace, *_LIMITS)).all()
    found = {namespace: Limits(*limits) for namespace, *limits in sorted(map(tuple, rows))}
    return {namespace: limits for namespace, limits in found.items() if limits.any()}


def read_usage(catalogue: Database, namespace: str) -> Usage:
    """Returns what the commits of a namespace take now."""
    with catalogue.reading() as connection:
        return _known_usage(connection, namespace) or _sum_usage(connection, namespace)


def sum_in_flight(catalogue: Database, namespace: str, now: float) -> int:
    """Returns the bytes that were sent and that no commit of a namespace has: chunks `received`
    with tokens for it, files uploaded for its repos, and what Xet clients sent for it."""
    owner = Scope((namespace,))
    committed = _files_of(owner).where(files.c.digest == loose_files.c.digest)
    uploaded = select(func.sum(loose_files.c.bytes)).where(
        loose_files.c.expires > now,
        owner.owns(loose_files.c.repo),
        ~committed.correlate(loose_files).exists(),
    )
    xorbs = (
        select(func.sum(xet_xorbs.c.bytes))
        .join(xet_generations, xet_generations.c.id == xet_xorbs.c.generation_id)
        .where(xet_generations.c.namespace == namespace, xet_xorbs.c.kept)
    )
    with catalogue.reading() as connection:
        senders = connection.scalars(select(received.c.namespace).distinct()).all()
        # A token for several namespaces is named by all of them.
        mine = [sender for sender in senders if namespace in sender.split("+")]
        sent = (
            select(func.sum(chunks.c.raw_bytes))
            .join(received, received.c.chunk_id == chunks.c.id)
            .where(received.c.namespace.in_(mine))
        )
        return sum(int(connection.scalar(query) or 0) for query in (sent, uploaded, xorbs))


def charge_commit(
    connection: Connection,
    repo: str,
    entries: Sequence[FileRow],
    uses: Collection[bytes],
    *,
    new_repo: bool,
    enforce: bool,
) -> None:
    """Adds what a commit that is about to be recorded takes to the usage of its namespace. Raises
    QuotaExceeded, if it shall `enforce` that, where it takes more of something than is left.

    Other commits of the namespace wait until the transaction ends (PostgreSQL).
    """
    namespace = namespace_of(repo)
    mine = quotas.c.namespace == namespace
    row = connection.execute(select(quotas).where(mine).with_for_update()).first()
    if row is None:
        return
    grown = Usage(
        _new_chunk_bytes(connection, namespace, uses),
        _new_file_bytes(connection, namespace, entries),
        int(new_repo),
    )
    # The new repo is there already, and its commit is not.
    now = _known_usage(connection, namespace)
    if now is None:
        summed = _sum_usage(connection, namespace)
        now = Usage(summed.stored, summed.logical, summed.repos - grown.repos)
    if enforce:
        _check(namespace, asdict(now), asdict(grown), {name: row._mapping[name] for name in _USED})
    total = {name: asdict(now)[name] + asdict(grown)[name] for name in _USED}
    values = {_USED[name].name: size for name, size in total.items()}
    connection.execute(update(quotas).where(mine).values(values))


def forget_usage(connection: Connection, repo: str) -> None:
    """Lets the usage of a repo's namespace be recomputed: something of it was taken away."""
    nothing = {column.name: None for column in _USED.values()}
    mine = quotas.c.namespace == namespace_of(repo)
    connection.execute(update(quotas).where(mine).values(nothing))


def _check(
    namespace: str,
    used: Mapping[str, int],
    grown: Mapping[str, int],
    limits: Mapping[str, int | None],
) -> None:
    for name, unit in _UNITS.items():
        most = limits[name]
        if most is not None and grown[name] and used[name] + grown[name] > most:
            raise QuotaExceeded(
                f"{namespace} may have {most} {unit} and has {used[name]}; "
                f"this would add {grown[name]}"
            )


def _known_usage(connection: Connection, namespace: str) -> Usage | None:
    query = select(*_USED.values()).where(quotas.c.namespace == namespace)
    row = connection.execute(query).first()
    return None if row is None or None in tuple(row) else Usage(*row)


def _sum_usage(connection: Connection, namespace: str) -> Usage:
    owner = Scope((namespace,))
    of_owner = select(commit_chunks.c.chunk_id).where(
        commit_chunks.c.commit_id.in_(_commits(owner))
    )
    stored = select(func.sum(chunks.c.raw_bytes)).where(chunks.c.id.in_(of_owner))
    each = _files_of(owner).with_only_columns(files.c.digest, files.c.bytes).distinct().subquery()
    logical = select(func.sum(each.c.bytes))
    count = select(func.count()).select_from(repos).where(owner.condition())
    return Usage(*(int(connection.scalar(query) or 0) for query in (stored, logical, count)))


def _new_chunk_bytes(connection: Connection, namespace: str, uses: Collection[bytes]) -> int:
    """Raw bytes of those chunks that no commit of the namespace has yet."""
    held = (
        select(commit_chunks.c.chunk_id)
        .join(commits, commits.c.id == commit_chunks.c.commit_id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(commit_chunks.c.chunk_id == chunks.c.id, Scope((namespace,)).condition())
        .correlate(chunks)
        .exists()
    )
    query = select(func.sum(chunks.c.raw_bytes)).where(~held)
    found = (connection.scalar(query.where(chunks.c.digest.in_(b))) for b in batches(list(uses)))
    return sum(int(size or 0) for size in found)


def _new_file_bytes(connection: Connection, namespace: str, entries: Sequence[FileRow]) -> int:
    """Bytes of those files that no commit of the namespace has yet, each once."""
    sizes = {entry.digest: entry.bytes for entry in entries}
    query = _files_of(Scope((namespace,))).with_only_columns(files.c.digest).distinct()
    for batch in batches(list(sizes)):
        for digest in connection.scalars(query.where(files.c.digest.in_(batch))).all():
            sizes.pop(digest, None)
    return sum(sizes.values())


def _files_of(owner: Scope) -> Any:
    return select(files.c.id).where(files.c.commit_id.in_(_commits(owner)))


def _commits(owner: Scope) -> Any:
    return select(commits.c.id).join(repos).where(owner.condition())
