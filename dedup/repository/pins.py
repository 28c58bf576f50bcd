"""Keeps what a push is about to rely on from being collected (ARCHITECTURE.md, "Collection")."""

from __future__ import annotations

import time
from collections.abc import Collection

from ...store.backend import Backend
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.tombstones import lift_tombstones, packs_holding, tombstones_among
from ...store.object_keys import manifest_key, pack_key
from ..errors import Conflict
from ..model.journal_entries import Tombs
from .journal.heads import is_shown, note_shown, write_heads
from .journal.replay import catch_up
from .journal.writing import new_entry

# Whoever announces in the journal that it removes objects deletes them within this time, or
# announces it again. Ten minutes are thousands of deletions; the same again is for clocks.
REMOVAL_SECONDS = 600.0
CLAIM_SECONDS = 2 * REMOVAL_SECONDS


def pin_chunks(
    backend: Backend, catalogue: Catalogue, manifests: Collection[str], digests: Collection[bytes]
) -> None:
    """Takes tombstones away from the packs of these chunks, those of their bases, and manifests.

    Catalogues of other machines learn of it through the journal; theirs is read first, so that
    what they took away is missing here too before a commit counts on it.
    """
    catch_up(backend, catalogue)
    show_presence(backend, catalogue)
    keys = {pack_key(name) for name in packs_holding(catalogue, digests)}
    _restore(backend, catalogue, keys | {manifest_key(name) for name in manifests})


def show_presence(backend: Backend, catalogue: Catalogue) -> None:
    """Lets others see that this catalogue is at work, unless they do, and reads the journal then:
    from now on nobody takes away at once what it may count on, and it knows what went before."""
    if not is_shown(catalogue):
        began = time.time()
        write_heads(backend, catalogue, again=True)
        catch_up(backend, catalogue)
        note_shown(catalogue, began)


def reclaim_pack(backend: Backend, catalogue: Catalogue, name: str) -> None:
    """Makes sure that a pack that is about to be stored will not be deleted.

    Raises Conflict while another catalogue is deleting an older pack of the same bytes: when
    exactly it will have done so cannot be known here.
    """
    for tomb in tombstones_among(catalogue, [pack_key(name)]):
        if tomb.foreign and tomb.removed and time.time() < tomb.removed + CLAIM_SECONDS:
            raise Conflict(
                f"pack {name} is being removed by another machine",
                f"push again in {CLAIM_SECONDS / 60:.0f} minutes",
            )
    _restore(backend, catalogue, {pack_key(name)})


def _restore(backend: Backend, catalogue: Catalogue, keys: Collection[str]) -> None:
    found = tuple(sorted(tomb.key for tomb in tombstones_among(catalogue, keys)))
    if not found:
        return
    entry = new_entry(backend, lambda at: Tombs("restore", found, at))
    lift_tombstones(catalogue, found, entry)
    # Somebody may have begun to remove them before that could be read.
    catch_up(backend, catalogue)
