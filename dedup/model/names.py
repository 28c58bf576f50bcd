"""Which names of repos, revisions and files a vault accepts; checked before anything is touched."""

from __future__ import annotations

import re

from ...store.repo_names import KINDS, MODELS, RepoName
from ..errors import InvalidInput, InvalidName

# Source: validate_repo_id of huggingface_hub.
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
# What git check-ref-format refuses anywhere in a name, and what nobody sees.
_BAD_IN_REVISION = re.compile(r"\.\.|@\{|//|[\x00-\x20\x7f~^:?*\[\\]")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAX_REVISION = 255
_MAX_PATH_BYTES = 1024
MAX_MESSAGE_BYTES = 4096
"""Of what a commit says of itself: it travels in an address."""
_BAD_CHARACTER = re.compile(r"[\\\x00-\x1f\x7f]")


def check_repo(repo: str) -> str:
    """Returns `repo` if it is `namespace/name`, of a model, or such a name after `datasets/` or
    `spaces/`; raises InvalidName otherwise."""
    if not _is_repo(repo):
        raise InvalidName(
            f"repo name {repo!r} is not allowed",
            "a repo is namespace/name: letters, digits, '.', '_' and '-', "
            f"each part starting and ending with a letter, a digit or '_'{_suggest_repo(repo)}",
        )
    return repo


def _suggest_repo(text: str) -> str:
    """Returns the name that was probably meant by one that is not allowed, as the end of a hint."""
    path = re.sub(r"^[a-z]+://[^/]*/", "", text.strip()).partition("/tree/")[0].strip("/")
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-.") for part in path.split("/")]
    meant = "/".join(re.sub(r"\.\.+", ".", part) for part in parts)
    if len(parts) == 1:
        meant = f"me/{meant}"
    return f": {meant}?" if meant != text and _is_repo(meant) else ""


def check_namespace(namespace: str) -> str:
    """Returns `namespace` if repos may be in one of that name; raises InvalidName otherwise."""
    if namespace in KINDS or not _is_part(namespace):
        raise InvalidName(
            f"namespace {namespace!r} is not allowed",
            "letters, digits, '.', '_' and '-', starting and ending with a letter, a digit or '_'",
        )
    return namespace


def check_branch(name: str) -> str:
    """Returns `name` if a branch may be called so; raises InvalidName otherwise."""
    check_revision(name)
    if any(part.endswith(".lock") for part in name.split("/")):
        raise InvalidName(f"branch name {name!r} is not allowed: a part of it ends with '.lock'")
    if is_commit_id(name):
        raise InvalidName(
            f"branch name {name!r} looks like a commit id",
            "choose a name that is not 40 hexadecimal digits",
        )
    return name


def check_revision(revision: str) -> str:
    """Returns `revision` if it can be a branch or a commit id; raises InvalidName otherwise."""
    fault = _revision_fault(revision)
    if fault is not None:
        raise InvalidName(
            f"revision {revision!r} is not allowed: {fault}",
            "a revision is a branch or tag such as main or dev/x, or 7 to 40 digits of a commit",
        )
    return revision


def _revision_fault(name: str) -> str | None:
    """Returns which of git's rules for the names of branches and tags one breaks, or that nobody
    could see what it is. Source: git check-ref-format."""
    length = _utf8_length(name)
    bad = _BAD_IN_REVISION.search(name)
    if length is None or length > _MAX_REVISION:
        return f"it is longer than {_MAX_REVISION} bytes, or no Unicode"
    if bad is not None or not name.isprintable():
        return f"it holds {bad[0]!a}" if bad else "it holds an invisible character"
    if name in ("", "@") or name.startswith(("-", "/")) or name.endswith((".", "/")):
        return "it is empty or '@', starts with '-' or '/', or ends with '.' or '/'"
    if any(part.startswith(".") for part in name.split("/")):
        return "a part of it starts with '.'"
    return None


def split_message(message: str | None) -> tuple[str | None, str | None]:
    """Returns the title of a commit and what else is said of it: the first line, and those after
    it. Raises InvalidInput for more than MAX_MESSAGE_BYTES, and for a NUL character."""
    if message is None or not message.strip():
        return None, None
    length = _utf8_length(message)
    if length is None or length > MAX_MESSAGE_BYTES:
        raise InvalidInput(
            f"the message has more than {MAX_MESSAGE_BYTES} bytes, or is no Unicode", "shorten it"
        )
    if "\x00" in message:
        raise InvalidInput("the message holds a NUL character")
    title, _, rest = message.strip().partition("\n")
    return title.strip(), rest.strip() or None


def is_commit_id(revision: str) -> bool:
    """Says whether `revision` has the form of a commit id."""
    return _COMMIT.fullmatch(revision) is not None


def check_path(path: str) -> str:
    """Returns `path` if it is a safe relative POSIX path of a file; raises InvalidName otherwise.

    Refused: absolute paths, empty, `.` and `..` parts, backslashes, control characters, paths
    that are not valid Unicode and paths over 1,024 bytes, so that no file of a revision can be
    written outside the folder it is pulled into.
    """
    fault = basic_fault(path)
    if fault is not None:
        raise InvalidName(
            f"file path {path!r} is not allowed: {fault}",
            "a path is relative, uses '/', and has no '.', '..' or empty part",
        )
    return path


def basic_fault(path: str) -> str | None:
    """Returns which rule of `check_path` a path breaks, None where it is safe."""
    bad = _BAD_CHARACTER.search(path)
    if bad is not None:
        what = "backslash" if bad[0] == "\\" else f"control character {bad[0]!a}"
        return f"it holds a {what}"
    length = _utf8_length(path)
    if length is None:
        return "it is not valid UTF-8"
    if length > _MAX_PATH_BYTES:
        return f"it is longer than {_MAX_PATH_BYTES:,} bytes"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return f"it has the part {part!r}" if part else "it has an empty part"
    return None


def _is_repo(text: str) -> bool:
    try:
        named = RepoName.of(text)
    except ValueError:
        return False
    # Of a model, the kind is not written.
    known = named.kind in KINDS or (named.kind == MODELS and str(named) == text)
    parts = named.namespace, named.name
    return known and named.namespace not in KINDS and all(map(_is_part, parts))


def _is_part(text: str) -> bool:
    return _PART.fullmatch(text) is not None and ".." not in text


def _utf8_length(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
