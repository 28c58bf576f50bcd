"""Which base a chunk may have: one that all its owners may read.

An *owner* of a chunk is the namespace of a repo that has it, in a commit or as a loose file. It may
read the commits of its own repos, and of public ones. So a delta tells its owners nothing but what
they may read anyway, neither by its frame nor by its size. Text, and whatever else is no tensor, is
easier to guess than weights: its base is a chunk that every owner has itself, public or not.

What a public repo has is a delta on nothing but what public repos have: weights on weights. Whoever
else commits these may read the base, too, so the frame stays as it is, and tells nobody that they
did.

Where no token was ever limited to a namespace everybody reads everything, and all may be coded
against all (`Sharing.FREE`). An operator may let weights of one namespace be coded against those of
another all the same (`Sharing.WEIGHTS`), and have the rule held before there is a token (`OWN`).

Owners and readers come and go by commits, uploads, deletions and changes of visibility. Each of
these queues the deltas that it made break the rule (store/catalogue/queues/encode_queue.py), to be
encoded again (dedup/maintenance/background_encode.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, or_, select

from ..repo_names import namespace_of
from .edges import has_inputs, join_inputs
from .tables.database import insert_of
from .tables.rows import batches, by_digest
from .tables.schema import (
    chunks,
    commit_chunks,
    commits,
    loose_chunks,
    loose_files,
    repos,
    settings,
    uncoded,
)
from .tokens import has_tenants
from .visibility import EVERYTHING, Scope

BASE_SHARING = "base_sharing"
"""The setting by which an operator decides: "all" or "own"; none where the tokens decide."""

CHOICES = ("all", "own")

AUDITED = "public_bases_audited"
"""The setting that tells how far the chunks were checked that were there before the rule was."""

_BEFORE = "bases_audited"
"""As AUDITED, from when chunks of public repos could be deltas on private ones."""

_TENSOR = 1
_DONE = "all"


class Sharing(Enum):
    """Whose chunks may be bases of whose: everybody's of everybody's; or weights alone; or only
    what the owners may read."""

    FREE = "free"
    WEIGHTS = "weights"
    OWN = "own"


def sharing_of(connection: Connection) -> Sharing:
    """Returns the rule that holds at present."""
    asked = select(settings.c.value).where(settings.c.name == BASE_SHARING)
    chosen = connection.scalar(asked)
    if chosen == "own":
        return Sharing.OWN
    if not has_tenants(connection):
        return Sharing.FREE
    return Sharing.WEIGHTS if chosen == "all" else Sharing.OWN


def choose_sharing(connection: Connection, choice: str | None) -> None:
    """Sets what an operator decides, one of CHOICES; None leaves it to the tokens."""
    for name in (BASE_SHARING, AUDITED, _BEFORE):
        connection.execute(delete(settings).where(settings.c.name == name))
    if choice is not None:
        connection.execute(settings.insert().values(name=BASE_SHARING, value=choice))


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the bases of chunks of some owners may lie: in each of `weights`, for those of
    tensors; in each of `texts`, for those of anything else. With no scope, anywhere. Those of
    chunks that are `shown` to everybody lie in public repos."""

    weights: tuple[Scope, ...] = ()
    texts: tuple[Scope, ...] = ()
    shown: bool = False

    def includes(self, repo: str, public: bool) -> bool:
        """Says whether tensors of a repo, public or not, may be bases."""
        return all(scope.includes(repo, public) for scope in self.weights)

    def may_patch(self, repo: str, public: bool) -> bool:
        """Says whether texts of a repo, public or not, may be bases."""
        own = all(scope.includes(repo, public) for scope in self.texts)
        return own and (public or not self.shown)


ANYWHERE = Reach()


def reach_of(owners: Iterable[str], sharing: Sharing, *, shown: bool = False) -> Reach:
    """Returns where chunks of these owners may have their bases; `shown`: a public repo has them,
    too."""
    named = sorted(set(owners))
    if sharing is Sharing.FREE:
        return ANYWHERE
    texts = tuple(Scope((owner,)) for owner in named)
    shared = sharing is Sharing.WEIGHTS
    if shown and not shared:
        return Reach((Scope(public=True),), texts, shown)
    weights = (Scope((owner,), public=True, everything=shared) for owner in named)
    return Reach(tuple(weights), texts, shown)


def newcomer_scope(connection: Connection, repo: str) -> Scope:
    """Returns the repos of which a chunk must be new for a family to have grown by a commit of
    `repo`."""
    reach = reach_of([namespace_of(repo)], sharing_of(connection))
    return reach.weights[0] if reach.weights else EVERYTHING


def reach_of_any(owners: Iterable[str], sharing: Sharing) -> tuple[Scope, ...]:
    """Returns where the weights of a chunk may have their bases that one of these owners will have,
    nobody knows yet which."""
    if sharing is Sharing.FREE:
        return ()
    return (Scope(tuple(sorted(owners)), True, sharing is Sharing.WEIGHTS),)


@dataclass(slots=True)
class Holding:
    """Who has a chunk: its `owners`; the namespaces that have it in a commit (`held`); whether
    anybody, and a `public` repo, has it as part of a `tensor`; whether a public repo has it at all
    (`shown`)."""

    owners: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    tensor: bool = False
    public: bool = False
    shown: bool = False

    @property
    def opaque(self) -> bool:
        """Whether it is no part of a tensor, as far as is known: an upload does not tell."""
        return bool(self.held) and not self.tensor

    def allows(self, base: Holding, sharing: Sharing) -> bool:
        """Says whether this chunk may be a delta on `base`."""
        if sharing is Sharing.FREE:
            return True
        if sharing is Sharing.WEIGHTS and not (self.opaque or base.opaque):
            return True
        if self.shown and not (base.shown if self.opaque else base.public):
            return False
        return self.owners <= base.held or (base.public and not self.opaque)

    def group(self, sharing: Sharing) -> tuple[Any, ...] | None:
        """Returns what chunks have in common that may be coded against each other; None for one
        that is no base for its own owners."""
        if sharing is Sharing.FREE:
            return ()
        if not self.opaque and (self.public or sharing is Sharing.WEIGHTS):
            return ("weights",)
        own = (self.opaque, self.shown, *sorted(self.owners))
        return own if self.owners <= self.held else None


def readable_in(scopes: Sequence[Scope], chunk_id: Any) -> Any:
    """The condition that a repo of each scope has the chunk `chunk_id`, in a commit; one of another
    namespace has it as part of a tensor."""
    return and_(True, *(_held_in(scope, chunk_id) for scope in scopes))


def _held_in(scope: Scope, chunk_id: Any) -> Any:
    using = commit_chunks.alias()
    return exists().where(using.c.chunk_id == chunk_id, used_in(scope, using))


def used_in(scope: Scope, using: Any) -> Any:
    """The condition that a row of `commit_chunks` is of a repo in a scope (scope_condition).

    A value for each row, not a join, which a planner would begin with the repos that are public.
    """
    query = select(scope_condition(scope, using.c.uses)).select_from(commits.join(repos))
    return query.where(commits.c.id == using.c.commit_id).correlate(using).scalar_subquery()


def scope_condition(scope: Scope, uses: Any) -> Any:
    """The condition that a row of `repos` is in a scope, and where it is not of its namespaces,
    that a commit with these `uses` of a chunk has it as part of a tensor."""
    own = Scope(scope.namespaces).condition()
    if not (scope.public or scope.everything):
        return own
    return or_(own, scope.condition() & _of_tensor(uses))


def _of_tensor(uses: Any) -> Any:
    # Catalogues of old versions do not know what a chunk is part of.
    return (uses == 0) | (uses.op("&")(_TENSOR) == _TENSOR)


def read_holdings(connection: Connection, chunk_ids: Collection[int]) -> dict[int, Holding]:
    """Returns who has each of these chunks."""
    found = {chunk_id: Holding() for chunk_id in chunk_ids}
    for batch in batches(list(found)):
        for row in connection.execute(_committed(batch)):
            one, tensor = found[row.chunk_id], row.uses == 0 or bool(row.uses & _TENSOR)
            namespace = namespace_of(row.name)
            one.owners.add(namespace)
            one.held.add(namespace)
            one.tensor |= tensor
            one.public |= row.public and tensor
            one.shown |= row.public
        for row in connection.execute(_uploaded(batch)):
            found[row.chunk_id].owners.add(namespace_of(row.repo))
    return found


def _committed(chunk_ids: list[int]) -> Any:
    return (
        select(commit_chunks.c.chunk_id, commit_chunks.c.uses, repos.c.name, repos.c.public)
        .join(commits, commits.c.id == commit_chunks.c.commit_id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(commit_chunks.c.chunk_id.in_(chunk_ids))
        .distinct()
    )


def _uploaded(chunk_ids: list[int]) -> Any:
    return (
        select(loose_chunks.c.chunk_id, loose_files.c.repo)
        .join(loose_files, loose_files.c.id == loose_chunks.c.loose_id)
        .where(loose_chunks.c.chunk_id.in_(chunk_ids))
        .distinct()
    )


def allowed_among(connection: Connection, chunk_id: int, bases: Collection[bytes]) -> set[bytes]:
    """Returns those of the digests `bases` that a chunk may be coded against."""
    sharing = sharing_of(connection)
    if sharing is Sharing.FREE:
        return set(bases)
    query = select(chunks.c.id, chunks.c.digest)
    ids = {row.digest: row.id for row in by_digest(connection, query, bases)}
    holdings = read_holdings(connection, [chunk_id, *ids.values()])
    mine = holdings[chunk_id]
    return {digest for digest, i in ids.items() if mine.allows(holdings[i], sharing)}


def violating_among(connection: Connection, chunk_ids: Collection[int]) -> set[int]:
    """Returns those of these chunks whose frame in use needs one that the rule does not allow."""
    sharing = sharing_of(connection)
    if sharing is Sharing.FREE:
        return set()
    found: set[int] = set()
    for batch in batches(sorted(chunk_ids)):
        edges = connection.execute(_edges().where(chunks.c.id.in_(batch))).all()
        holdings = read_holdings(connection, {edge.id for edge in edges})
        # Most inputs are public and need no closer look: the chunks of a model that many build on
        # are in thousands of commits.
        rest = [e for e in edges if not e.public or holdings[e.id].opaque]
        inputs = read_holdings(connection, {edge.input_id for edge in rest})
        found |= {e.id for e in rest if not holdings[e.id].allows(inputs[e.input_id], sharing)}
    return found


@lru_cache(1)
def _edges() -> Any:
    pairs, source = join_inputs()
    public = readable_in((Scope(public=True),), source.c.id).label("public")
    return select(chunks.c.id, source.c.id.label("input_id"), public).select_from(pairs)


def queue_violations(connection: Connection, chunk_ids: Collection[int]) -> None:
    """Lets those of these chunks wait to be encoded again whose base the rule does not allow."""
    found = violating_among(connection, chunk_ids) if chunk_ids else ()
    if not found:
        return
    add = insert_of(connection.dialect.name)
    # In one order, so that no two transactions wait for each other.
    rows = [{"chunk_id": chunk_id, "claimed": 0.0} for chunk_id in sorted(found)]
    connection.execute(add(uncoded).on_conflict_do_nothing(), rows)


def queue_by_digest(connection: Connection, digests: Collection[bytes]) -> None:
    """As queue_violations, of the chunks of these digests."""
    if digests and sharing_of(connection) is not Sharing.FREE:
        query = select(chunks.c.id)
        queue_violations(connection, [row.id for row in by_digest(connection, query, digests)])


def queue_new_owner(connection: Connection, commit_id: int) -> None:
    """As queue_violations, of the chunks of a commit that its parent has not in the same way."""
    if sharing_of(connection) is Sharing.FREE:
        return
    parent, child = commits.alias("parent"), commits.alias("child")
    before = (
        select(parent.c.id)
        .join(child, (child.c.repo_id == parent.c.repo_id) & (child.c.parent == parent.c.oid))
        .where(child.c.id == commit_id)
    )
    parent_id = connection.scalar(before)
    earlier = commit_chunks.alias("earlier")
    same = exists().where(
        earlier.c.commit_id == parent_id,
        earlier.c.chunk_id == commit_chunks.c.chunk_id,
        earlier.c.uses == commit_chunks.c.uses,
    )
    mine = select(commit_chunks.c.chunk_id).where(commit_chunks.c.commit_id == commit_id, ~same)
    queue_violations(connection, list(connection.scalars(mine)))


def chunks_of_repo(connection: Connection, repo: str) -> list[int]:
    """Returns the ids of all chunks that the commits of a repo have; nothing where bases are free,
    as then nobody asks."""
    if sharing_of(connection) is Sharing.FREE:
        return []
    mine = (
        select(commit_chunks.c.chunk_id)
        .join(commits, commits.c.id == commit_chunks.c.commit_id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(repos.c.name == repo)
        .distinct()
    )
    return list(connection.scalars(mine))


def queue_of_repo(connection: Connection, repo: str) -> None:
    """As queue_violations, of the chunks of a repo: it has become public."""
    queue_violations(connection, chunks_of_repo(connection, repo))


def queue_dependents(connection: Connection, chunk_ids: Collection[int]) -> None:
    """As queue_violations, of what needs these chunks: fewer may read them than before."""
    pairs, source = join_inputs()
    query = select(chunks.c.id).select_from(pairs)
    found: list[int] = []
    for batch in batches(list(chunk_ids)):
        found += connection.scalars(query.where(source.c.id.in_(batch)))
    queue_violations(connection, found)


def needs_audit(connection: Connection) -> bool:
    """Says whether deltas that were there before the rule was are still to be checked."""
    return sharing_of(connection) is not Sharing.FREE and _audited(connection) != _DONE


def audit_bases(connection: Connection, limit: int) -> int:
    """Queues the violations among the next `limit` deltas to be checked; returns how many it looked
    at, 0 when all were."""
    if not needs_audit(connection):
        return 0
    after = int(_audited(connection))
    ids = list(connection.scalars(_deltas_after(after).limit(limit)))
    queue_violations(connection, ids)
    connection.execute(delete(settings).where(settings.c.name == AUDITED))
    reached = str(ids[-1]) if ids else _DONE
    connection.execute(settings.insert().values(name=AUDITED, value=reached))
    return len(ids)


def _audited(connection: Connection) -> str:
    asked = select(settings.c.value).where(settings.c.name == AUDITED)
    return connection.scalar(asked) or "0"


def _deltas_after(chunk_id: int) -> Any:
    later = chunks.c.id > chunk_id
    return select(chunks.c.id).where(later, has_inputs()).order_by(chunks.c.id)


def forget_audit(connection: Connection) -> None:
    """Lets audit_bases begin again."""
    connection.execute(delete(settings).where(settings.c.name == AUDITED))
