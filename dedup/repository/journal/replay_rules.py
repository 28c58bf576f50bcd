"""What an entry of the journal may still do that is read after younger ones were carried out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ...model.journal_entries import AnyEntry, Entry, Forgotten, RefChange, Visibility

_Told = Entry | RefChange | Visibility


class LaterEntries:
    """Entries that a catalogue has carried out, by their keys: older ones that it reads only now,
    because they were written elsewhere meanwhile, change nothing that these have changed."""

    def __init__(self, entries: Iterable[tuple[str, AnyEntry]]) -> None:
        self._of_repo: dict[str, list[tuple[str, _Told]]] = defaultdict(list)
        # The last entry that forgets each commit, by repo and id.
        self._forgotten: dict[tuple[str, str], str] = {}
        for key, entry in entries:
            if isinstance(entry, Forgotten):
                self._forgotten |= {(entry.repo, oid): key for oid in entry.parents}
            elif isinstance(entry, _Told):
                self._of_repo[entry.repo].append((key, entry))

    def delete(self, repo: str, key: str) -> bool:
        """Says whether the repo was deleted after the entry `key`."""
        return any(isinstance(e, Entry) and not e.commit for e in self._after(repo, key))

    def commits(self, repo: str, key: str) -> set[str]:
        """Returns the ids of the commits that the repo got after the entry `key`."""
        told = (e.commit for e in self._after(repo, key) if isinstance(e, Entry))
        return {commit.oid for commit in told if commit}

    def forget(self, repo: str, oid: str, key: str) -> bool:
        """Says whether a commit of the repo was forgotten after the entry `key`."""
        return key < self._forgotten.get((repo, oid), "")

    def decide(self, entry: _Told, key: str) -> bool:
        """Says whether what `entry`, a commit or a change, is about was changed after it."""
        what = _subject(entry)
        return any(_subject(e) == what for e in self._after(entry.repo, key))

    def _after(self, repo: str, key: str) -> list[_Told]:
        return [entry for k, entry in self._of_repo.get(repo, ()) if k > key]


def _subject(entry: _Told) -> tuple[str, str]:
    """Returns the kind and the name of the ref that an entry moves; "" for a repo's visibility, and
    for what deletes it."""
    if isinstance(entry, RefChange):
        return entry.kind, entry.name
    if isinstance(entry, Entry):
        return ("branch", entry.commit.branch) if entry.commit else ("deletion", "")
    return "visibility", ""
