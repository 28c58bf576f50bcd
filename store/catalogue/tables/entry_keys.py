"""The key of a journal entry, and what a catalogue notes of the entry besides."""

from __future__ import annotations

from collections.abc import Iterable

MOST_ABOUT_CHARS = 200


class EntryKey(str):
    """A key. `about` says in a few words what the entry changes, for people; `after` has the keys
    of the newest entries that its writer knew; `lost` those of entries that its writer found gone
    from the store, and whose loss is settled. A plain str is the key of an entry that tells none of
    it."""

    __slots__ = ("about", "after", "lost")

    about: str
    after: tuple[str, ...]
    lost: tuple[str, ...]

    def __new__(
        cls, key: str, about: str = "", after: Iterable[str] = (), lost: Iterable[str] = ()
    ) -> EntryKey:
        """Makes a key with what is known of its entry."""
        made = super().__new__(cls, key)
        made.about = about[:MOST_ABOUT_CHARS]
        made.after = tuple(after)
        made.lost = tuple(lost)
        return made
