"""Which files a repo's .gitignore, or the one that is about to be sent, leaves out.

Rules are those of git, as `pathspec` knows them. Of unknown origin, they must not take long: a rule
has at most two stars in a part and one `**`, and what paths and rules take together is bounded.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...dedup.local_vault import LocalVault
from ...dedup.model.files.manifest import Manifest
from .errors import HubError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE = ".gitignore"
_MOST_BYTES = 64 << 10
_MOST_RULE = 256
_MOST_STARS = 2
# To understand one takes a tenth of a millisecond.
_MOST_RULES = 2000
# A rule may go back over a path for each of its characters: this many take a second at worst, and
# hundreds of rules for hundreds of paths are fewer.
_MOST_STEPS = 800_000_000


def find_ignored(rules: str, paths: Collection[str]) -> set[str]:
    """Returns those of `paths` that the text of a .gitignore leaves out. Raises HubError where that
    would take long."""
    lines = [line for line in rules[:_MOST_BYTES].splitlines() if _is_simple(line)]
    if len(lines) > _MOST_RULES:
        raise HubError(413, f"a .gitignore has at most {_MOST_RULES} rules here")
    if sum(len(path) ** 2 for path in paths) * len(lines) > _MOST_STEPS:
        raise HubError(413, "too many files for a .gitignore this long: ask for fewer at a time")
    spec = _compile(lines)
    return {path for path in paths if spec.match_file(path)} if lines else set()


def stored_rules(vault: LocalVault, manifest: Manifest) -> str:
    """Returns the .gitignore at the root of a revision; nothing where there is none."""
    entry = manifest.file(IGNORE)
    if entry is None or entry.size > _MOST_BYTES:
        return ""
    pieces = vault.read_entry(entry, manifest.chunk_bytes, 0, entry.size)
    return b"".join(map(bytes, pieces)).decode(errors="replace")


def _is_simple(line: str) -> bool:
    plain = line.strip()
    if not plain or plain.startswith("#") or len(plain) > _MOST_RULE or plain.count("**") > 1:
        return False
    return all(part == "**" or part.count("*") <= _MOST_STARS for part in plain.split("/"))


def _compile(lines: list[str]) -> GitIgnoreSpec:
    # Takes a while to load, which servers without such uploads need not pay.
    from pathspec import GitIgnoreSpec

    sound: list[Any] = []
    for line in lines:
        # As git does: a rule that is none leaves nothing out.
        with suppress(ValueError):
            sound += GitIgnoreSpec.from_lines([line]).patterns
    return GitIgnoreSpec(sound)
