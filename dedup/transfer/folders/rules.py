"""What a push leaves out of a folder, and what it refuses, by rules that everybody can read.

In this order, the first that matches:

1. `--include PATTERN` stores, whatever comes below.
2. `--exclude PATTERN` leaves out.
3. `.wvignore`, in any folder, as git reads `.gitignore`: leaves out, or stores after a `!`.
4. USUAL leaves out: what tools and systems keep beside a model.
5. SECRETS are refused: keys and passwords that nobody means to share. Whoever does names them by 1
   or 3.

What lies in a folder that is left out is left out, too, unless 1 names it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from ...model.paths import TEMPORARY_FOLDER

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".wvignore"

USUAL = (
    *(".git", ".hg", ".svn", ".cache", "__pycache__", ".vscode", ".idea", ".ipynb_checkpoints"),
    *(".DS_Store", "Icon\r", "__MACOSX", ".Spotlight-V100", ".Trashes", ".fseventsd"),
    *("Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information"),
    TEMPORARY_FOLDER,
)
"""Names of files and folders that tools and systems keep beside a model; no part of it."""

SECRETS = (
    *(".env", ".env.*", ".netrc", "_netrc", "credentials.json", "client_secret*.json"),
    *("secrets.json", "secrets.toml", "secrets.yaml", "secrets.yml", "service_account*.json"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.p12", "*.pfx", "*.jks", "*.keystore"),
)
"""Patterns of the names of files that hold keys or passwords, whatever the case."""
_NO_SECRETS = (".env.example", ".env.sample", ".env.template", ".env.dist")
_SECRET = re.compile("|".join(map(fnmatch.translate, SECRETS)))

# A certificate is for everybody, and has the same ending as its key.
_KEY_ENDINGS = (".pem", ".key", ".ppk")
_KEY_MARKS = (b"PRIVATE KEY-----", b"PuTTY-User-Key-File")
_KEY_BYTES = 1 << 16
# What macOS writes beside a file on a disk that keeps no attributes: RFC 1740, AppleDouble.
_APPLE_DOUBLE = b"\x00\x05\x16\x07"


class Verdict(Enum):
    """What is to be done with a file or a folder."""

    STORE = 1
    LEAVE_OUT = 2
    REFUSE = 3


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user says: patterns as in `.gitignore`, relative to the folder that is pushed;
    whether to go on without what is broken; and files and folders of the vault itself, which are
    never stored."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    skip_broken: bool = False
    own: tuple[Path, ...] = ()


@dataclass(slots=True)
class Matcher:
    """Judges paths by the rules; `add_ignore_file` before what lies beside such a file."""

    rules: Rules
    _include: GitIgnoreSpec | None = field(init=False)
    _exclude: GitIgnoreSpec | None = field(init=False)
    _ignored: dict[str, GitIgnoreSpec] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._include = _parse(self.rules.include)
        self._exclude = _parse(self.rules.exclude)

    def add_ignore_file(self, folder: str, lines: Iterable[str]) -> None:
        """Heeds the lines of an ignore file in `folder`, "" for the topmost."""
        spec = _parse(lines)
        if spec is not None:
            self._ignored[folder] = spec

    def judge(self, path: str, *, folder: bool) -> tuple[Verdict, str]:
        """Returns what to do with a path, by its name alone, and which rule says so, "" for
        none."""
        if self.includes(path, folder=folder):
            return Verdict.STORE, "--include"
        if _says(self._exclude, path, folder):
            return Verdict.LEAVE_OUT, "--exclude"
        for above in _folders_above(path):
            spec = self._ignored.get(above)
            below = path[len(above) + 1 :] if above else path
            said = None if spec is None else _says(spec, below, folder)
            if said is not None:
                where = f"{above}/{IGNORE_FILE}" if above else IGNORE_FILE
                return (Verdict.LEAVE_OUT if said else Verdict.STORE), where
        name = path.rpartition("/")[2]
        if name in USUAL:
            return Verdict.LEAVE_OUT, "kept beside models by tools or systems"
        if not folder and _SECRET.fullmatch(name.lower()) and name.lower() not in _NO_SECRETS:
            return Verdict.REFUSE, "its name is that of keys or passwords"
        return Verdict.STORE, ""

    def includes(self, path: str, *, folder: bool) -> bool:
        """Says whether `--include` names a path."""
        return _says(self._include, path, folder) is True

    @property
    def looks_everywhere(self) -> bool:
        """Whether something may be included that lies in a folder that is left out."""
        return self._include is not None


def judge_content(path: Path) -> tuple[Verdict, str]:
    """Returns what to do with a file, by what is in it, and why; few names are worth a look."""
    name = path.name.lower()
    if name.startswith("._") and _head(path, 4) == _APPLE_DOUBLE:
        return Verdict.LEAVE_OUT, "attributes of another file that macOS wrote"
    if name.endswith(_KEY_ENDINGS):
        head = _head(path, _KEY_BYTES)
        if any(mark in head for mark in _KEY_MARKS):
            return Verdict.REFUSE, "it holds a private key"
    return Verdict.STORE, ""


def _head(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _parse(lines: Iterable[str]) -> GitIgnoreSpec | None:
    given = list(lines)
    if not given:
        return None
    # Most pushes have no patterns, and importing it takes longer than walking a small folder.
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(given)


def _says(spec: GitIgnoreSpec | None, path: str, folder: bool) -> bool | None:
    """Returns whether the last pattern that matches says yes or, after a `!`, no; None where none
    does."""
    if spec is None:
        return None
    return spec.check_file(f"{path}/" if folder else path).include


def _folders_above(path: str) -> Iterator[str]:
    """Yields the folders that a path lies in, from the innermost to the topmost, ""."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
    yield ""
