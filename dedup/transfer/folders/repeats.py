"""Pushes that have nothing to do: neither the folder nor the vault has changed since the last one.

To open a vault takes half a second of imports, and a push that has nothing to store does little
else. So a push notes what it was asked, what the folder was, and the state that the vault was in
when it had the commit. Where all three are the same, so is the answer, and nobody opens the vault.
Whatever is different, the push runs as ever. Nothing of that is in a vault, and nothing goes by it
but what the user is told.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from blake3 import blake3

from ...formats.cutting.version import CUT_VERSION
from ...model.history import Commit, PushResult
from ...model.paths import Remark
from .notes import keep_note, note_name
from .survey import Survey


@dataclass(frozen=True, slots=True)
class Repeats:
    """What pushes of this user noted in `folder`. `asked`: all that decides what a push does beside
    the folder and the vault."""

    folder: Path
    asked: tuple[str, ...]

    def recall(self, found: Survey, state: str | None, seconds: float) -> PushResult | None:
        """Returns what a push of what was found would say of a vault in this state, None where that
        is not known. It took so many seconds."""
        if state is None:
            return None
        try:
            told = json.loads(self._file().read_bytes())
            if (told["version"], told["state"]) != (CUT_VERSION, state):
                return None
            if told["listing"] != _describe(found):
                return None
            commit = Commit(**told["commit"])
            odd = [Remark(*map(str, each)) for each in told["odd"]]
            files, logical, chunks = (int(told[name]) for name in ("files", "logical", "chunks"))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        left_out, warnings = tuple(found.left_out), (*found.warnings, *odd)
        return PushResult(commit, files, logical, 0, chunks, 0, 0, seconds, left_out, warnings)

    def keep(self, found: Survey, odd: list[Remark], result: PushResult, state: str) -> None:
        """Notes what a push said that stored what was found, of a vault that had its commit and was
        whole in this state; `odd` are the warnings that came of reading the files."""
        if not all(map(found.has_settled, found.stamps)):
            return
        note = {
            "version": CUT_VERSION,
            "state": state,
            "listing": _describe(found),
            "commit": asdict(result.commit),
            "odd": [[each.path, each.reason] for each in odd],
            "files": result.files,
            "logical": result.logical,
            "chunks": result.new_chunks + result.known_chunks,
        }
        keep_note(self._file(), json.dumps(note).encode())

    def _file(self) -> Path:
        return self.folder / note_name("repeat", *self.asked)


def _describe(found: Survey) -> str:
    """Returns a digest of the files that were found, by their names and stamps."""
    listing = "\0".join(f"{name}\0{stamp}" for name, stamp in sorted(found.stamps.items()))
    return blake3(listing.encode(errors="surrogateescape")).hexdigest()
