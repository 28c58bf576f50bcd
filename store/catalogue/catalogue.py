"""The catalogue: where each digest lives, and which commits of which repos need it.

It holds nothing that the object store cannot give back: packs carry their index, manifests and
journal entries are objects (ARCHITECTURE.md, "The journal"). Every public method is one
transaction and raises only StoreError kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, or_, select, update

from ..packs import DELTA, PackEntry
from ..private import PRIVATE_UMASK
from .access.quotas import charge_commit, forget_usage
from .commits import insert_commit
from .dependencies import hold_readers, hold_store, lift_pack, replace_unusable
from .edges import dependent_ids, inputs_of, needed_by
from .files.hashes import HashRow, add_hashes
from .owners import chunks_of_repo, queue_by_digest, queue_dependents
from .refs import check_head, hold_repo, move_branch, refresh_newest, tagged_commit
from .repo_list import Wanted, list_all
from .sketches.bands import add_sketches
from .spare_frames import hold_chunks, place_frames, settle, spare_inputs
from .tables.database import Database, MakeEntry, open_engine
from .tables.migrate import OnStep
from .tables.rows import (
    CommitRow,
    FileRow,
    Location,
    RepoRow,
    SketchRow,
    batches,
    by_digest,
    commit_columns,
    location_columns,
)
from .tables.schema import (
    chunks,
    commit_chunks,
    commits,
    damage,
    journal,
    loose_files,
    packs,
    refs,
    repos,
    settings,
)

# So that what is no commit is not looked for among them, and few digits name none by accident.
_ID_BEGINS = re.compile("[0-9a-f]{7,39}")


class Catalogue(Database):
    """The SQL side of a vault. Safe to use from several threads and processes."""

    # The store it belongs to

    def is_empty(self) -> bool:
        """Says whether the catalogue records nothing yet."""
        with self.reading() as connection:
            tables = (packs, journal)
            return not any(connection.execute(select(t).limit(1)).first() for t in tables)

    def store_id(self, default: str | None = None) -> str | None:
        """Returns the identity of the store; `default` becomes it where there is none."""
        query = select(settings.c.value).where(settings.c.name == "store_id")
        if default is None:
            with self.reading() as connection:
                return connection.scalar(query)
        with self.writing() as connection:
            self.add_once(connection, settings, [{"name": "store_id", "value": default}])
            return connection.scalar(query)

    def set_store_id(self, store_id: str) -> None:
        """Ties the catalogue to the store of that identity."""
        mine = update(settings).where(settings.c.name == "store_id").values(value=store_id)
        with self.writing() as connection:
            # Servers that share it may do the same at the same moment.
            if not connection.execute(mine).rowcount:
                self.add_once(connection, settings, [{"name": "store_id", "value": store_id}])

    # Chunks and packs

    def known(self, digests: Collection[bytes]) -> dict[bytes, int]:
        """Returns those of `digests` that have a frame, with their raw size in bytes."""
        columns = select(chunks.c.digest, chunks.c.raw_bytes)
        with self.reading() as connection:
            rows = by_digest(connection, columns, digests)
            return {row.digest: row.raw_bytes for row in rows}

    def locate(self, digests: Collection[bytes]) -> dict[bytes, Location]:
        """Returns where the frames of `digests` lie; unknown ones are left out."""
        with self.reading() as connection:
            rows = by_digest(connection, location_columns(), digests)
            return {row.digest: Location(*row) for row in rows}

    def add_pack(
        self,
        name: str,
        size: int,
        entries: Sequence[PackEntry],
        found: Sequence[SketchRow] = (),
        ensure: Callable[[], object] = lambda: None,
    ) -> int:
        """Records a stored pack of `size` bytes; returns how many of its chunks were new.

        `found`: sketches of its chunks. A chunk that already has a frame keeps it, and the pack's
        becomes a spare one; an input whose frame has too high a level by now gets a lower one.
        Recording a pack again changes nothing. `ensure` stores the object if it was taken away;
        inside the transaction nobody does.
        """
        frame_bytes = sum(e.frame_bytes for e in entries)
        values = {"name": name, "bytes": size, "frame_bytes": frame_bytes}
        with self.writing() as connection:
            hold_store(connection)
            ensure()
            if not self.add_once(connection, packs, [values]):
                # A transaction that changes nothing ends sooner, which would tell that others have
                # sent the same bytes.
                mine = packs.c.name == name
                connection.execute(update(packs).where(mine).values(bytes=packs.c.bytes))
            lift_pack(connection, name)
            pack_id = connection.scalar(select(packs.c.id).where(packs.c.name == name))
            # It has just been stored whole, whatever happened to it before.
            connection.execute(delete(damage).where(damage.c.pack_id == pack_id))
            new = self.add_new(connection, chunks, [_chunk_values(e, pack_id) for e in entries])
            new_ids = {row.id for row in new}
            place_frames(connection, self.add_once, pack_id, entries, new_ids)
            add_sketches(connection, self.add_once, found)
            digests = {e.digest for e in entries}
            inputs = {digest for e in entries for digest in e.inputs}
            under = {digest for e in entries if e.level > DELTA for digest in e.inputs}
            # All that the next two may change, at once.
            hold_chunks(connection, digests | inputs | spare_inputs(connection, under))
            settle(connection, inputs)
            queue_by_digest(connection, replace_unusable(connection, digests))
            return len(new)

    def pack_names(self) -> set[str]:
        """Returns the names of all packs recorded."""
        with self.reading() as connection:
            return set(connection.scalars(select(packs.c.name)))

    # Commits

    def add_commit(
        self,
        row: CommitRow,
        entries: Sequence[FileRow],
        uses: Mapping[bytes, int],
        key: str | MakeEntry,
        *,
        hashes: Collection[HashRow] = (),
        exact: bool = False,
        partial: bool = False,
        moves: bool = True,
    ) -> None:
        """Records a commit, what it needs and the journal entry `key`, and `moves` its branch.

        `uses`: the digests of its chunks, with what commit_chunks.uses says of each. An entry that
        is still to be written (MakeEntry) is stored with its manifest inside the transaction: what
        it stores is relied on by nobody else before, and never stored for what does not happen.
        `hashes` are those of files. Raises NotFound when a chunk, or a base of one, is gone, unless
        it may be `partial`, and with `exact` Superseded unless the branch is where the commit's
        parent says; QuotaExceeded for an entry still to be written that takes more than is left.
        """
        with self.writing() as connection:
            hold_store(connection)
            if not self.take_entry(connection, key):
                return
            made = self.add_once(connection, repos, [{"name": row.repo}])
            repo_id = hold_repo(connection, row.repo)
            if exact:
                check_head(connection, repo_id, row.branch, row.parent)
            add_hashes(connection, self.add_once, hashes)
            # What the journal says has happened, whatever it takes.
            enforce = not isinstance(key, str)
            charge_commit(connection, row.repo, entries, uses, new_repo=bool(made), enforce=enforce)
            commit_id = insert_commit(connection, repo_id, row, entries, uses, partial=partial)
            if moves:
                move_branch(connection, repo_id, row.branch, commit_id)
            self.write_entry(connection, key)

    def pass_entry(self, key: str | MakeEntry, *, repo: str = "") -> None:
        """Records that the journal entry `key` is known, or writes it, without doing what it
        says, but for making the `repo` that it names, if any."""
        with self.writing() as connection:
            if self.take_entry(connection, key):
                if repo:
                    self.add_once(connection, repos, [{"name": repo}])
                self.write_entry(connection, key)

    def delete_repo(
        self,
        repo: str,
        key: str | MakeEntry,
        confirm: Callable[[], object] = lambda: None,
        *,
        keep: Collection[str] = (),
    ) -> None:
        """Removes a repo with its commits, as the journal entry `key` says, which may be still to
        be written. Nobody commits to the repo between `confirm`, which may raise, and that. A repo
        with commits whose ids are to `keep` stays, with these alone."""
        with self.writing() as connection:
            hold_readers(connection)
            if not self.take_entry(connection, key):
                return
            if not isinstance(key, str):
                hold_repo(connection, repo)
                confirm()
            read = chunks_of_repo(connection, repo)
            mine = select(repos.c.id).where(repos.c.name == repo)
            gone = delete(repos).where(repos.c.name == repo)
            if keep:
                others = commits.c.repo_id.in_(mine) & commits.c.oid.not_in(keep)
                gone = delete(commits).where(others)
            connection.execute(gone)
            refresh_newest(connection, connection.scalar(mine))
            forget_usage(connection, repo)
            connection.execute(delete(loose_files).where(loose_files.c.repo == repo))
            queue_dependents(connection, read)
            self.write_entry(connection, key)

    def find_commit(self, repo: str, revision: str) -> CommitRow | None:
        """Returns the commit that a branch, commit id or tag of `repo` names, in this order, or
        the first seven digits and more of the id of one alone."""
        by_branch = (
            select(refs.c.commit_id)
            .join(repos, refs.c.repo_id == repos.c.id)
            .where(repos.c.name == repo, refs.c.name == revision)
        )
        wanted = or_(commits.c.oid == revision, commits.c.id.in_(by_branch))
        with self.reading() as connection:
            row = connection.execute(commit_columns().where(repos.c.name == repo, wanted)).first()
            if row is None:
                row = connection.execute(tagged_commit(repo, revision)).first()
            if row is None and _ID_BEGINS.fullmatch(revision):
                begins = (commits.c.oid >= revision) & (commits.c.oid < f"{revision}g")
                query = commit_columns().where(repos.c.name == repo, begins).limit(2)
                found = connection.execute(query).all()
                row = found[0] if len(found) == 1 else None
            return CommitRow(*row) if row else None

    def has_repo(self, repo: str) -> bool:
        """Says whether there is a repo of that name."""
        with self.reading() as connection:
            return connection.scalar(select(repos.c.id).where(repos.c.name == repo)) is not None

    def branches(self, repo: str) -> dict[str, CommitRow]:
        """Returns the branches of a repo with the commits they point to."""
        query = (
            commit_columns(refs.c.name)
            .join(refs, refs.c.commit_id == commits.c.id)
            .where(repos.c.name == repo)
            .order_by(refs.c.name)
        )
        with self.reading() as connection:
            return {name: CommitRow(*row) for *row, name in connection.execute(query)}

    def all_commits(self) -> list[CommitRow]:
        """Returns every commit of every repo, by repo, oldest first."""
        query = commit_columns().order_by(repos.c.name, commits.c.id)
        with self.reading() as connection:
            return [CommitRow(*row) for row in connection.execute(query)]

    def list_repos(self) -> list[RepoRow]:
        """Returns all repos by name. Where one page will do, repo_list.list_rows."""
        return list(list_all(self, Wanted()))

    def chunks_of(self, repo: str, oid: str, digests: Collection[bytes]) -> set[bytes]:
        """Returns those of `digests` that a commit needs, what its frames need included."""
        mine = (
            select(commit_chunks.c.chunk_id)
            .join(commits, commits.c.id == commit_chunks.c.commit_id)
            .join(repos, repos.c.id == commits.c.repo_id)
            .where(repos.c.name == repo, commits.c.oid == oid)
        )
        used = select(chunks.c.digest).where(chunks.c.id.in_(mine))
        with self.reading() as connection:
            found = {r.digest for r in by_digest(connection, used, digests)}
            # Most are inputs of its chunks: only for others all that they need is followed.
            direct, column = inputs_of(mine)
            rest = [d for d in digests if d not in found]
            found.update(r.input for r in by_digest(connection, direct, rest, column))
            if rest := [d for d in digests if d not in found]:
                needed = select(chunks.c.digest).where(chunks.c.digest.in_(needed_by(mine)))
                found.update(r.digest for r in by_digest(connection, needed, rest))
        return found

    def chunks_in(self, pack: str) -> list[Location]:
        """Returns the chunks whose frames lie in a pack, in order of offset."""
        query = location_columns().where(packs.c.name == pack).order_by(chunks.c.offset)
        with self.reading() as connection:
            return [Location(*row) for row in connection.execute(query)]

    def repos_needing(self, pack: str) -> list[str]:
        """Returns the repos that need a frame of a pack, for a chunk or for what needs one."""
        held = select(chunks.c.id, chunks.c.digest).join(packs).where(packs.c.name == pack)
        query = (
            select(repos.c.name)
            .distinct()
            .join(commits, commits.c.repo_id == repos.c.id)
            .join(commit_chunks, commit_chunks.c.commit_id == commits.c.id)
        )
        found: set[str] = set()
        with self.reading() as connection:
            rows = connection.execute(held).all()
            ids = {row.id for row in rows}
            ids |= dependent_ids(connection, [row.digest for row in rows])
            for batch in batches(sorted(ids)):
                used = query.where(commit_chunks.c.chunk_id.in_(batch))
                found.update(connection.scalars(used))
        return sorted(found)

    # The journal

    def unknown_entries(self, keys: Iterable[str]) -> list[str]:
        """Returns those journal keys that this catalogue has not taken in, in order."""
        wanted = list(keys)
        with self.reading() as connection:
            seen: set[str] = set()
            for batch in batches(wanted):
                seen.update(
                    connection.scalars(select(journal.c.key).where(journal.c.key.in_(batch)))
                )
        return sorted(set(wanted) - seen)

    def entries_after(self, key: str) -> set[str]:
        """Returns the journal keys taken in that are greater than `key`."""
        with self.reading() as connection:
            return set(connection.scalars(select(journal.c.key).where(journal.c.key > key)))

    def last_entry(self) -> str | None:
        """Returns the greatest journal key taken in."""
        with self.reading() as connection:
            return connection.scalar(select(func.max(journal.c.key)))


def open_catalogue(
    url: str,
    *,
    migrate: bool = False,
    on_step: OnStep | None = None,
    umask: int = PRIVATE_UMASK,
) -> Catalogue:
    """Opens the catalogue at a SQLAlchemy URL, making its tables if the database is new.

    `migrate`, `on_step` and `umask` as in engine.open_engine. Raises ValueError for a URL that is
    none, StoreError when it cannot be opened.
    """
    return Catalogue(open_engine(url, migrate=migrate, on_step=on_step, umask=umask))


def _chunk_values(entry: PackEntry, pack_id: int | None) -> dict[str, Any]:
    return {
        "digest": entry.digest,
        "pack_id": pack_id,
        "offset": entry.offset,
        "frame_bytes": entry.frame_bytes,
        "raw_bytes": entry.raw_bytes,
        "codec": entry.codec,
        "inputs": entry.inputs,
        "dtype": entry.dtype,
        "level": entry.level,
    }
