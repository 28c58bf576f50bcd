"""Which names of repos, revisions and files a vault accepts; checked before anything is touched."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...store.repo_names import KINDS
from ..errors import InvalidInput, InvalidName

MODELS = "models"
"""The kind of repos whose names begin with their namespace."""

_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAX_REVISION = 255
_MAX_PATH_BYTES = 1024
MAX_MESSAGE_BYTES = 4096
"""Of what a commit says of itself: it travels in an address."""
_BAD_CHARACTER = re.compile(r"[\\\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class RepoName:
    """The name of a repo in its parts. `kind` is "models", or one of KINDS, which then comes first
    in the name: `str` gives that."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> RepoName:
        """Takes a name apart; raises InvalidName where it is none."""
        *kind, namespace, name = check_repo(text).split("/")
        return cls(kind[0] if kind else MODELS, namespace, name)

    @property
    def id(self) -> str:
        """What clients of hubs call it, whatever its kind: `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def __str__(self) -> str:
        return self.id if self.kind == MODELS else f"{self.kind}/{self.id}"


def check_repo(repo: str) -> str:
    """Returns `repo` if it is `namespace/name`, of a model, or such a name after `datasets/` or
    `spaces/`; raises InvalidName otherwise."""
    parts = repo.split("/")
    if len(parts) == 3 and parts[0] in KINDS:
        del parts[0]
    if (
        len(parts) != 2
        or parts[0] in KINDS
        or not all(_PART.fullmatch(p) and ".." not in p for p in parts)
    ):
        raise InvalidName(
            f"repo name {repo!r} is not allowed",
            "a repo is namespace/name: letters, digits, '.', '_' and '-', "
            "each part starting and ending with a letter or digit",
        )
    return repo


def check_namespace(namespace: str) -> str:
    """Returns `namespace` if repos may be in one of that name; raises InvalidName otherwise."""
    if namespace in KINDS or ".." in namespace or not _PART.fullmatch(namespace):
        raise InvalidName(
            f"namespace {namespace!r} is not allowed",
            "letters, digits, '.', '_' and '-', starting and ending with a letter or digit",
        )
    return namespace


def check_branch(name: str) -> str:
    """Returns `name` if a branch may be called so; raises InvalidName otherwise."""
    check_revision(name)
    if is_commit_id(name):
        raise InvalidName(
            f"branch name {name!r} looks like a commit id",
            "choose a name that is not 40 hexadecimal digits",
        )
    return name


def check_revision(revision: str) -> str:
    """Returns `revision` if it can be a branch or a commit id; raises InvalidName otherwise."""
    parts = revision.split("/")
    if len(revision) > _MAX_REVISION or not all(
        _PART.fullmatch(p) and ".." not in p for p in parts
    ):
        raise InvalidName(
            f"revision {revision!r} is not allowed",
            "a revision is a branch or tag such as main or dev/x, or 7 to 40 digits of a commit",
        )
    return revision


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


def _utf8_length(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
