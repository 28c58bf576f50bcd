"""Walks what is to be pushed, before a byte of it is read: nothing is left out in silence."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ....store.object_keys import MARKER
from ...errors import InvalidFile, Unfit, UnfitFiles, UnfitNames
from ...model.paths import MAX_PARTS, Remark, path_fault
from .hf_cache import find_snapshot, list_unused
from .rules import IGNORE_FILE, Matcher, Rules, Verdict, judge_content

# Links to folders can name each other so that there are more paths than atoms.
_MOST_ENTRIES = 2_000_000
_MAX_IGNORE_BYTES = 1 << 20
# As restic and git do. File systems note times of up to two seconds.
_SETTLED_NS = 2_000_000_000
# What a vault in a folder is made of (api/config.py).
_OBJECTS, _CATALOGUE = "objects", "catalogue.sqlite"

# Whether the system says what the user may read that a process acts for.
_EFFECTIVE = os.access in os.supports_effective_ids

_ODD_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


Stamp = tuple[int, int, int, int]
"""What a file is recognised by: inode, size, and when content and inode last changed, in
nanoseconds."""


@dataclass(slots=True)
class Survey:
    """What a push finds: `files` to store, by their path in the repo, sorted, and the `stamps` that
    they had; what is `left_out` by a rule; what is `broken`, since it cannot be read; `misnamed`,
    since no vault takes the name; `secrets`; and `warnings`, of what is stored all the same. It
    `began` at that time, in nanoseconds."""

    files: dict[str, Path] = field(default_factory=dict)
    stamps: dict[str, Stamp] = field(default_factory=dict)
    left_out: list[Remark] = field(default_factory=list)
    broken: list[Remark] = field(default_factory=list)
    misnamed: list[Remark] = field(default_factory=list)
    secrets: list[Remark] = field(default_factory=list)
    warnings: list[Remark] = field(default_factory=list)
    began: int = field(default_factory=time.time_ns)

    def has_settled(self, name: str) -> bool:
        """Tells whether any later change of a file gives it another stamp."""
        _, _, *times = self.stamps[name]
        return max(times) < self.began - _SETTLED_NS

    def count_others(self) -> int:
        """Returns how many there are that are not left out."""
        groups = (self.files, self.broken, self.misnamed, self.secrets)
        return sum(map(len, groups))

    def check(self, path: Path) -> None:
        """Raises UnfitFiles or UnfitNames for what cannot be stored, InvalidFile where nothing is
        left to push."""
        if self.broken or self.misnamed or self.secrets:
            raise _unfit(self)
        if not self.files:
            raise InvalidFile(f"{path} holds no files", _empty_hint(self.left_out))


def survey(path: Path, rules: Rules | None = None) -> Survey:
    """Returns what to push of `path`: one file, a folder, or a cache of huggingface_hub.

    Links are followed, to folders too. A single file was named, and is neither left out nor
    refused as a secret. Raises InvalidFile where there is nothing of that name, or it is the vault.
    """
    rules = rules or Rules()
    found = Survey()
    if path.is_file():
        _Walk(found, rules).add_named(path)
        return found
    if not path.is_dir():
        where = f"a link to {os.readlink(path)!a}, where there is" if path.is_symlink() else ""
        what = f"{where} nothing" if where else "neither a file nor a folder"
        raise InvalidFile(f"{path} is {what}", "name what to push")
    _refuse_vault(path, rules)
    find_snapshot(path)
    _Walk(found, rules).enter(path)
    found.files = dict(sorted(found.files.items()))
    if rules.skip_broken:
        found.left_out += [*found.broken, *found.misnamed]
        found.broken, found.misnamed = [], []
    return found


def survey_checked(path: Path, rules: Rules | None = None) -> Survey:
    """As `survey`; raises, besides, UnfitFiles or UnfitNames where something cannot be stored."""
    found = survey(path, rules)
    found.check(path)
    return found


class _Walk:
    """Walks one folder, and adds what it finds to a survey."""

    def __init__(self, found: Survey, rules: Rules) -> None:
        self._found = found
        self._matcher = Matcher(rules)
        self._own = {identity for path in rules.own if (identity := _identify(path)) is not None}
        self._entries = 0

    def add_named(self, path: Path) -> None:
        """Adds a file that the user named."""
        self._add_file(path.name, path, path.stat())

    def enter(self, folder: Path) -> None:
        """Adds all that lies below the topmost folder."""
        self._enter(folder, "", (_identify(folder),), excluded=False)

    def _enter(self, folder: Path, name: str, above: Sequence[object], *, excluded: bool) -> None:
        """Adds what lies in a folder; of a cache of huggingface_hub the files of a revision."""
        try:
            snapshot = find_snapshot(folder)
        except InvalidFile as error:
            self._add_broken(name, f"{error.message}; {error.hint}")
            return
        self._list(snapshot or folder, name, above, excluded=excluded)
        if snapshot is not None:
            begin = f"{name}/" if name else ""
            files = [path for key, path in self._found.files.items() if key.startswith(begin)]
            for unused, reason in list_unused(folder, snapshot, files):
                self._leave_out(begin + unused, reason)
            said = f"a cache of huggingface_hub: its snapshot {snapshot.name} is stored"
            self._found.warnings.append(Remark(name or str(folder), said))

    def _list(self, folder: Path, name: str, above: Sequence[object], *, excluded: bool) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._add_broken(name or ".", f"a folder that cannot be read: {error.strerror}")
            return
        self._entries += len(entries)
        if self._entries > _MOST_ENTRIES:
            raise InvalidFile(
                f"{folder}: more than {_MOST_ENTRIES} files, counting those behind links to "
                "folders each time",
                "leave out links that lead to the same folders",
            )
        if any(entry.name == IGNORE_FILE for entry in entries):
            self._heed(folder / IGNORE_FILE, name)
        for entry in entries:
            below = f"{name}/{entry.name}" if name else entry.name
            self._look_at(entry, below, above, excluded=excluded)

    def _heed(self, path: Path, folder: str) -> None:
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_IGNORE_BYTES)
        except OSError:
            # Named as broken when its turn comes.
            return
        self._matcher.add_ignore_file(folder, text.decode(errors="surrogateescape").splitlines())

    def _look_at(
        self, entry: os.DirEntry[str], name: str, above: Sequence[object], *, excluded: bool
    ) -> None:
        path = Path(entry.path)
        try:
            status = entry.stat()
        except OSError as error:
            self._add_unreachable(path, name, error, excluded=excluded)
            return
        identity = (status.st_dev, status.st_ino)
        if identity in self._own:
            self._leave_out(name, "the vault's own")
        elif stat.S_ISDIR(status.st_mode):
            self._look_at_folder(path, name, (*above, identity), excluded=excluded)
        elif stat.S_ISREG(status.st_mode):
            self._look_at_file(path, name, status, excluded=excluded)
        else:
            kinds = (kind for test, kind in _ODD_KINDS if test(status.st_mode))
            self._leave_out(name, f"{next(kinds, 'no file')}, which has no bytes to keep")

    def _look_at_folder(
        self, path: Path, name: str, above: Sequence[object], *, excluded: bool
    ) -> None:
        verdict, rule = self._matcher.judge(name, folder=True)
        if excluded and rule != "--include":
            verdict = Verdict.LEAVE_OUT
        if above[-1] in above[:-1]:
            self._leave_out(name, "a link to a folder that it lies in")
        elif rule != "--include" and _is_vault(path):
            self._leave_out(name, "a vault")
        elif name.count("/") + 1 >= MAX_PARTS:
            reason = f"what lies in it has more than {MAX_PARTS} parts in its path"
            self._found.misnamed.append(Remark(name, reason))
        elif verdict is Verdict.STORE:
            self._enter(path, name, above, excluded=False)
        elif self._matcher.looks_everywhere:
            self._enter_excluded(path, name, above, rule)
        else:
            self._leave_out(name, rule)

    def _enter_excluded(self, path: Path, name: str, above: Sequence[object], rule: str) -> None:
        """Looks for what is included in a folder that is left out, which is named as a whole where
        there is nothing of that kind."""
        found = self._found
        left_out, others = len(found.left_out), found.count_others()
        self._enter(path, name, above, excluded=True)
        if found.count_others() == others:
            del found.left_out[left_out:]
            self._leave_out(name, rule)

    def _look_at_file(
        self, path: Path, name: str, status: os.stat_result, *, excluded: bool
    ) -> None:
        verdict, rule = self._matcher.judge(name, folder=False)
        if excluded and rule != "--include":
            self._leave_out(name, "in a folder that is left out")
            return
        if verdict is Verdict.STORE and not rule:
            try:
                verdict, rule = judge_content(path)
            except OSError as error:
                self._add_broken(name, f"cannot be read: {error.strerror}")
                return
        if verdict is Verdict.STORE:
            self._add_file(name, path, status)
        elif verdict is Verdict.REFUSE:
            self._found.secrets.append(Remark(name, rule))
        else:
            self._leave_out(name, rule)

    def _add_file(self, name: str, path: Path, status: os.stat_result) -> None:
        fault = path_fault(name)
        if fault is not None:
            self._found.misnamed.append(Remark(name, f"its name is not allowed: {fault}"))
        elif not os.access(path, os.R_OK, effective_ids=_EFFECTIVE):
            self._add_broken(name, "cannot be read: Permission denied")
        else:
            self._found.files[name] = path
            self._found.stamps[name] = (
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )

    def _add_unreachable(self, path: Path, name: str, error: OSError, *, excluded: bool) -> None:
        verdict, rule = self._matcher.judge(name, folder=False)
        if excluded or verdict is Verdict.LEAVE_OUT:
            self._leave_out(name, rule)
        elif path.is_symlink():
            where = os.readlink(path)
            self._add_broken(name, f"a link to {where!a}, which leads to no file: {error.strerror}")
        else:
            self._add_broken(name, f"cannot be read: {error.strerror}")

    def _add_broken(self, name: str, reason: str) -> None:
        self._found.broken.append(Remark(name, reason))

    def _leave_out(self, name: str, reason: str) -> None:
        self._found.left_out.append(Remark(name, reason))


def _identify(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _refuse_vault(path: Path, rules: Rules) -> None:
    if _identify(path) in {_identify(own) for own in rules.own} - {None}:
        raise InvalidFile(f"{path} is the vault itself", "name the folder of a model")


def _is_vault(path: Path) -> bool:
    # Of a folder that cannot be read, these say no instead of raising.
    objects, exists = path / _OBJECTS, os.path.exists
    return os.path.isdir(objects) and (exists(path / _CATALOGUE) or exists(objects / MARKER))


def _unfit(found: Survey) -> Unfit:
    remarks = [*found.broken, *found.misnamed, *found.secrets]
    hints = ["nothing was stored"]
    if found.broken or found.misnamed:
        hints.append("mend or rename them, or store the rest with --skip-broken")
    if found.secrets:
        hints.append("leave secrets out with --exclude PATTERN, or store them with --include")
    many = len(remarks) > 1
    count = f"{len(remarks)} files or folders" if many else "a file or folder"
    lines = (f"{count} cannot be stored:", *(f"{each.path!a}: {each.reason}" for each in remarks))
    kind = UnfitFiles if found.broken or found.secrets else UnfitNames
    problems = [(each.path, each.reason) for each in remarks]
    return kind("\n".join(lines), "; ".join(hints), problems)


def _empty_hint(left_out: list[Remark]) -> str:
    if not left_out:
        return "name a folder with a model in it"
    return f"all of it is left out, the first by this rule: {left_out[0].reason}"
