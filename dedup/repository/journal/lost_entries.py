"""Journal entries that were there and are gone: a journal that was rolled back or cut.

Entries never disappear by themselves: a repair that takes a damaged one away settles its loss. What
must be there is known from three sides: the catalogue knows what it took in, entries name the ones
before them, and the objects in `heads/` name the newest ones. All three name only what is durable,
and each is read before the store is asked for it, so that nothing is missed that is being written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from ....store.backend import Backend
from ....store.catalogue.catalogue import Catalogue
from ....store.catalogue.lost_entries import known_entries, settled_among, unknown_named
from ....store.catalogue.tokens import has_tokens, was_closed
from ....store.errors import StoreError
from ....store.object_keys import JOURNAL
from ...errors import Corrupt, JournalCut
from ...model.journal_entries import key_time
from .heads import read_heads

ACCEPT = "weightvault repair --accept-lost-entries"
_MOST_NAMED = 5
# Of an entry; no other object is looked for.
_KEY = re.compile(f"{JOURNAL}[0-9a-f]{{16}}-[0-9a-f]{{16}}")


@dataclass(frozen=True, slots=True)
class LostEntry:
    """An entry that is gone. `about` says what it changed; `known`: this catalogue has done what it
    said, so that nothing but the entry is lost."""

    key: str
    about: str | None
    known: bool

    def describe(self) -> str:
        """Returns a sentence for people."""
        about = f" ({self.about})" if self.about else ""
        what = "this catalogue knows what it said" if self.known else "nobody knows what it said"
        return f"journal entry {self.key}{_time_of(self.key)}{about} is gone; {what}"


def find_lost(backend: Backend, catalogue: Catalogue) -> list[LostEntry]:
    """Returns all entries that are gone and whose loss is not settled, in order."""
    unknown = find_unknown_lost(backend, catalogue)
    return sorted([*find_known_lost(backend, catalogue), *unknown], key=lambda entry: entry.key)


def find_known_lost(backend: Backend, catalogue: Catalogue) -> list[LostEntry]:
    """Returns those that this catalogue took in."""
    known = {k: about for k, about in known_entries(catalogue).items() if _KEY.fullmatch(k)}
    present = {info.key for info in backend.list(JOURNAL)}
    # A listing may be late: what it lacks is asked for by name.
    lost = (key for key in known.keys() - present if not backend.exists(key))
    return [LostEntry(key, known[key], True) for key in lost]


def find_unknown_lost(backend: Backend, catalogue: Catalogue) -> list[LostEntry]:
    """Returns those that this catalogue never took in: what they changed, a revoked token perhaps,
    is not so here. Costs a few requests, whatever the length of the journal. Raises Corrupt where
    an object in `heads/` is damaged."""
    heads = read_heads(backend)
    if heads.damaged:
        raise Corrupt(f"{heads.damaged[0]} is damaged", "`weightvault repair` rebuilds it")
    named = heads.named | unknown_named(catalogue)
    unknown = set(catalogue.unknown_entries(named)) - settled_among(catalogue, named)
    return [LostEntry(key, None, False) for key in sorted(unknown) if not backend.exists(key)]


def require_whole(backend: Backend, catalogue: Catalogue) -> None:
    """Raises JournalCut where there are tokens and some that were made or revoked may be unknown:
    nobody may be admitted by what is left."""
    if not was_closed(catalogue):
        return
    lost = find_unknown_lost(backend, catalogue)
    if lost:
        named = "; ".join(entry.describe() for entry in lost[:_MOST_NAMED])
        raise JournalCut(
            f"the journal of this store is not whole, and {len(lost)} of its entries may have made "
            f"or revoked tokens: {named}",
            "put back the objects in journal/ from a backup, and open the store with the catalogue "
            f"that knows them; or run `{ACCEPT}`, look at `weightvault token list`, and start the "
            "server again",
        )
    if not has_tokens(catalogue):
        raise JournalCut(
            "tokens were made for this store, and its journal knows none of them",
            "put back the objects in journal/ from a backup; or make a new one with "
            "`weightvault token create`",
        )


def describe_lost(backend: Backend, catalogue: Catalogue) -> Iterator[str]:
    """Yields a sentence for each entry that is gone, or for what keeps from telling."""
    try:
        lost = find_lost(backend, catalogue)
    except StoreError:
        # The store or the catalogue does not answer as it should; no object in `heads/` is meant.
        raise
    except Corrupt as error:
        yield f"{error.message}; {error.hint}"
        return
    for entry in lost:
        hint = "`weightvault repair` tells it again" if entry.known else f"see `{ACCEPT}`"
        yield f"{entry.describe()}; {hint}"


def _time_of(key: str) -> str:
    with suppress(ValueError, OverflowError, OSError):
        return f" of {datetime.fromtimestamp(key_time(key), UTC):%Y-%m-%d %H:%M:%S} UTC"
    return ""
