"""Which file paths a commit may add and a pull may write: none that a tool would obey.

`names.check_path` says which paths can be read at all, so that old stores stay readable. The rules
here are stricter. They hold where a file enters a vault, and again where a pull writes it, because
a server is not trusted. A part of a path is refused if it is

1. a folder or file that tools execute from, or read an account's settings or secrets from, merely
   because it lies where it lies (`_OBEYED`): version control, shells, editors, credentials. What
   files of a model are about cannot depend on one. Names that only describe a repo are fine:
   `.gitattributes`, `.gitignore`, `.eval_results`.
2. any other spelling of such a name that some file system takes for the same one: another case,
   characters that HFS+ ignores, compatibility forms, dots or spaces at the end, a stream after
   `:`, a short name of eight characters and three.
3. longer than 255 bytes: no common file system can hold it.
4. made to look like another name: control characters, line separators, and characters that are
   invisible or change the direction of text.
5. one of more than 32: each folder of a path is listed, hashed and made by itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InvalidName
from .names import basic_fault, check_path

TEMPORARY_FOLDER = ".weightvault"
"""Where a pull keeps what is not whole yet, below its destination."""

MAX_PARTS = 32
"""Folders of a path, and its name."""

MAX_PART_BYTES = 255
"""Bytes of one part of a path: NAME_MAX of ext4, XFS, APFS, NTFS and others."""

_VERSION_CONTROL = ".git .hg .svn .bzr .jj .sl _darcs .gitmodules .githooks .husky"
_EDITORS = (
    ".vscode .vscode-server .idea .vs .fleet .zed .cursor .devcontainer .claude .mcp.json "
    ".vim .vimrc .nvim .exrc .emacs .emacs.d .dir-locals.el .ipython .jupyter"
)
_SHELLS = (
    ".profile .login .logout .bashrc .bash_profile .bash_login .bash_logout .zshrc .zshenv "
    ".zprofile .zlogin .zlogout .cshrc .tcshrc .kshrc .mkshrc .inputrc .envrc .direnv "
    ".xinitrc .xsession .xsessionrc .xprofile .tmux.conf .screenrc .pythonrc .pythonrc.py "
    ".gdbinit .lldbinit .pdbrc .config .local .cache .pam_environment .forward"
)
_CREDENTIALS = (
    ".ssh .gnupg .aws .azure .gcloud .kube .docker .netrc .pgpass .my.cnf .boto .s3cfg "
    ".git-credentials .gitconfig .npmrc .yarnrc .yarnrc.yml .pypirc .pip .condarc .cargo "
    ".rhosts .shosts .htaccess .htpasswd"
)
_OBEYED = frozenset(
    " ".join((_VERSION_CONTROL, _EDITORS, _SHELLS, _CREDENTIALS, TEMPORARY_FOLDER)).split()
)

# What Unicode calls default ignorable and is not of the category Cf; the tags beyond U+E0000 too.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\uffa0\U000e0000-\U000e0fff]"
)
# Selectors of a glyph follow pictures in honest names, and are ignored by HFS+.
_SELECTORS = re.compile("[\ufe00-\ufe0f]")
_SHORT = re.compile(r"(.{1,6})~[0-9]+(?:\..{0,3})?")


@dataclass(frozen=True, slots=True)
class Remark:
    """A path of a file or folder, and what is to be said of it."""

    path: str
    reason: str


def check_new_path(path: str) -> str:
    """Returns `path` if a commit may add a file of it; raises InvalidName otherwise."""
    check_path(path)
    reason = refusal(path)
    if reason is not None:
        raise InvalidName(
            f"file path {path!r} is not allowed: {reason}", "rename the file or leave it out"
        )
    return path


def check_new_paths(paths: Iterable[str]) -> None:
    """Raises InvalidName unless a commit may add files of all these paths."""
    for path in paths:
        check_new_path(path)


def path_fault(path: str) -> str | None:
    """Returns which rule a path breaks that `check_new_path` refuses, None for one it lets pass."""
    return basic_fault(path) or refusal(path)


def refusal(path: str) -> str | None:
    """Returns why no file of this path is written, None if one may be."""
    # Most paths are plain: one look at all of it instead of one for each character.
    if not path.isprintable() or not path.isascii():
        for character in path:
            if _deceives(character):
                return f"it holds the invisible or control character {character!a}"
    parts = path.split("/")
    if len(parts) > MAX_PARTS:
        return f"it has more than {MAX_PARTS} parts"
    for part in parts:
        if len(part.encode(errors="surrogatepass")) > MAX_PART_BYTES:
            return f"a part of it is longer than {MAX_PART_BYTES} bytes"
        name = _obeyed_name(part)
        if name is not None:
            return f"tools read settings, secrets or programs from {name}"
    return None


def _deceives(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cf", "Cs", "Zl", "Zp") or _INVISIBLE.match(character) is not None


def _obeyed_name(part: str) -> str | None:
    """Returns which of the refused names a part is on some file system."""
    if part.isascii():
        folded = part.lower()
    else:
        folded = unicodedata.normalize("NFKC", _SELECTORS.sub("", part)).upper().casefold()
    name = folded.partition(":")[0].rstrip(". ")
    if name in _OBEYED:
        return name
    short = _SHORT.fullmatch(name)
    return _SHORT_NAMES.get(short[1]) if short else None


def _short_names() -> dict[str, str]:
    """Returns what FAT and NTFS begin the short forms of the refused names with."""
    found: dict[str, str] = {}
    for name in sorted(_OBEYED):
        stem, _, _ = name.lstrip(".").partition(".")
        found.setdefault(stem[:6], name)
    return found


_SHORT_NAMES = _short_names()
