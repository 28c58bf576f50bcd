"""Which repos somebody may see: one predicate for pages, the API, pushes and bases.

A namespace is compared exactly: `acme` is neither `Acme` nor `ACME-x`, whatever the database's LIKE
says. It owns repos of every kind (repo_names.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, false, func, or_, select, true

from ..repo_names import namespace_of, namespace_prefixes
from .tables.mirror_schema import mirrors
from .tables.schema import repos


@dataclass(frozen=True, slots=True)
class Scope:
    """The repos of some `namespaces`, with `public` those that are public, too, or `everything`."""

    namespaces: tuple[str, ...] = ()
    public: bool = False
    everything: bool = False

    def includes(self, repo: str, public: bool) -> bool:
        """Says whether a repo of that name, public or not, is one of them."""
        own = namespace_of(repo) in self.namespaces
        return self.everything or own or (self.public and public)

    def condition(self) -> Any:
        """Returns the condition that a row of `repos` is one of them."""
        if self.everything:
            return true()
        own = repos.c.namespace.in_(self.namespaces)
        public = [repos.c.public] if self.public else []
        # Who may read these is for the hub to say that they are copies of.
        guarded = select(mirrors.c.repo).where(mirrors.c.guarded)
        return and_(or_(own, *public), repos.c.name.not_in(guarded))

    def owns(self, name: Any) -> Any:
        """Returns the condition that a column holds the name of a repo of the namespaces."""
        return or_(false(), *self._own(name))

    def _own(self, name: Any) -> Iterator[Any]:
        for namespace in self.namespaces:
            for prefix in namespace_prefixes(namespace):
                # Not LIKE, which takes upper case for lower in SQLite.
                yield func.substr(name, 1, len(prefix)) == prefix


EVERYTHING = Scope(everything=True)
