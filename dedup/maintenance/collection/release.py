"""Frees what replaced frames take, as soon as others are in use for them.

Who reads a frame that is gone finds where its chunk lies now (repository/frame_reader.py). A delta
that is on its way to a base which has become a delta itself is told its depth when it arrives
(repository/deeper_packs.py). So on one catalogue nobody needs a frame that was replaced, and the
grace of collections is not for these. Catalogues of other machines may know no better frame yet:
where one is at work, all is left to collections and their grace. Whoever removes frames shows
itself before it looks for others: of two, one at least sees the other.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from ....store.catalogue.tables.database import MakeEntry
from ....store.catalogue.tables.rows import Location, batches
from ....store.catalogue.tombstones import (
    PackUse,
    catalogue_id,
    delete_removed,
    pack_uses,
    remove_replaced,
)
from ....store.object_keys import HEADS, name_of, pack_key, sketches_key
from ...model.journal_entries import Tombs
from ...progress import Progress
from ...repository.journal.heads import others_at_work
from ...repository.journal.writing import new_entry
from ...repository.pack_writing import PACK_BYTES
from ...repository.pins import show_presence
from ...repository.repository import Repository
from .plan import damaged_packs
from .repack import move_live_frames

# A pack of which a tenth was replaced is rewritten at once: nine bytes are read and written for
# each that is freed, and what is stored stays near 1.1 times what is in use. Less waits for a
# collection, which looks at all packs.
_REPLACED_SHARE = 0.1
# So much is always rewritten: the packs of a small vault.
_ALWAYS_BYTES = PACK_BYTES


def release_packs(vault: Repository, names: Collection[str]) -> int:
    """Removes those of the packs `names` whose frames have all been replaced; those of which much
    has been are rewritten first. Returns the bytes of packs that went less those written: nothing
    where other catalogues may refer to them. Raises VaultError kinds.
    """
    if not names or not _is_alone(vault):
        return 0
    copies = vault.base_copies() or None
    damaged = damaged_packs(vault)
    uses = [u for u in pack_uses(vault.catalogue, copies, names) if u.name not in damaged]
    gone = remove_packs(vault, [use.name for use in uses if use.is_replaced])
    freed = sum(use.bytes for use in gone)
    for use in _choose_packs(uses):
        # One by one: no more is stored twice at any moment.
        moved = move_live_frames(vault, [use], Progress(), unneeded_too=True)
        freed += sum(gone.bytes for gone in remove_packs(vault, [use.name])) - moved.written
    return freed


def release_moved(vault: Repository, pack: str, places: Iterable[Location]) -> int:
    """As release_packs, for frames that were at `places` and have moved to `pack`, whose bytes
    count as written."""
    (new,) = pack_uses(vault.catalogue, names=[pack]) or (None,)
    left = {place.pack for place in places} - {pack}
    return release_packs(vault, left) - (0 if new is None else new.bytes)


def remove_packs(vault: Repository, names: Collection[str]) -> list[PackUse]:
    """Removes packs, as far as they have nothing but replaced frames; returns those that went: none
    where another catalogue, or a backup, has shown itself since frames were moved out of them."""
    if not _is_alone(vault):
        return []
    copies, own = vault.base_copies() or None, catalogue_id(vault.catalogue)
    uses = {pack_key(use.name): use for use in pack_uses(vault.catalogue, copies, names)}
    removed: list[PackUse] = []
    for batch in batches(sorted(uses)):
        now = time.time()

        def entry_of(dead: list[str], now: float = now) -> MakeEntry:
            return new_entry(vault.backend, lambda _: Tombs("remove", tuple(dead), now, own))

        for key in remove_replaced(vault.catalogue, batch, now, entry_of, copies):
            if delete_removed(vault.catalogue, key, lambda key=key: _delete(vault, key)):
                removed.append(uses[key])
    return removed


def _is_alone(vault: Repository) -> bool:
    show_presence(vault.backend, vault.catalogue)
    return not others_at_work(vault.catalogue, vault.backend.list(HEADS))


def _choose_packs(uses: Iterable[PackUse]) -> list[PackUse]:
    chosen, rewritten = [], 0
    parts = [u for u in uses if not u.is_replaced and u.used_bytes < u.frame_bytes]
    for use in sorted(parts, key=lambda use: use.used_bytes / use.frame_bytes):
        rewritten += use.used_bytes
        replaced = use.frame_bytes - max(use.used_bytes, use.live_bytes)
        if replaced >= _REPLACED_SHARE * use.frame_bytes or (
            replaced and rewritten <= _ALWAYS_BYTES
        ):
            chosen.append(use)
    return chosen


def _delete(vault: Repository, key: str) -> None:
    vault.backend.delete(sketches_key(name_of(key)))
    vault.backend.delete(key)
