"""Everything in a place that keeps many repos: a cache of huggingface_hub with all its revisions,
or a folder with a folder for each repo."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ....store.repo_names import RepoName
from ...errors import InvalidInput, InvalidName
from ...model.names import check_branch, check_repo, is_commit_id
from ...model.paths import Remark
from ...repository.refs import DEFAULT_BRANCH
from ..folders.hf_cache import read_ref

_MOST_REFS = 1000
_MOST_TREE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class FoundRevision:
    """A revision in a folder: the repo, the id that it has elsewhere if it has one, and the refs
    that name it. `whole`: as far as can be known, no file lacks."""

    repo: str
    folder: Path
    commit: str | None = None
    refs: tuple[str, ...] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class FoundRepos:
    """Revisions, those of a repo oldest first, and what is not taken for one, with the reason."""

    revisions: tuple[FoundRevision, ...]
    left_out: tuple[Remark, ...]


def find_cached(cache: Path, namespace: str | None = None) -> FoundRepos:
    """Returns all revisions of a cache of huggingface_hub. Repos whose names have no namespace get
    `namespace`. Raises InvalidInput where the folder is no such cache."""
    # Those that came first are most often what later ones are tunes of.
    folders = sorted((each for each in _folders(cache) if "--" in each.name), key=_oldest)
    found: list[FoundRevision] = []
    left_out: list[Remark] = []
    for folder in folders:
        kind, *names = folder.name.split("--")
        if len(names) == 1 and namespace is not None:
            names = [namespace, *names]
        if len(names) == 1:
            left_out.append(
                Remark(folder.name, "a name without a namespace: --namespace gives one")
            )
            continue
        try:
            repo = check_repo(str(RepoName(kind, names[0], "--".join(names[1:]))))
            found += _revisions_of(repo, folder, left_out)
        except InvalidName as error:
            left_out.append(Remark(folder.name, error.message))
    if not found and not left_out:
        raise InvalidInput(f"{cache} is no cache of huggingface_hub, or an empty one")
    return FoundRepos(tuple(found), tuple(left_out))


def find_folders(root: Path, namespace: str | None = None) -> FoundRepos:
    """Returns a revision for each folder `namespace/name` below a folder, or with a `namespace` for
    each folder in it. Raises InvalidInput where there is none."""
    if namespace is None:
        pairs = [(f"{a.name}/{b.name}", b) for a in _folders(root) for b in _folders(a)]
    else:
        pairs = [(f"{namespace}/{each.name}", each) for each in _folders(root)]
    found: list[FoundRevision] = []
    left_out: list[Remark] = []
    for name, folder in sorted(pairs):
        try:
            found.append(FoundRevision(check_repo(name), folder, refs=(DEFAULT_BRANCH,)))
        except InvalidName as error:
            left_out.append(Remark(name, error.message))
    if not found:
        hint = "each repo is a folder namespace/name, or with --namespace a folder"
        raise InvalidInput(f"there is no repo in {root}", hint)
    return FoundRepos(tuple(found), tuple(left_out))


def _revisions_of(repo: str, folder: Path, left_out: list[Remark]) -> Iterator[FoundRevision]:
    refs = _refs_of(folder)
    snapshots = list(_folders(folder / "snapshots"))
    # The one that main names comes last: it is the newest of the branch then.
    snapshots.sort(key=lambda each: (DEFAULT_BRANCH in refs.get(each.name, ()), _time_of(each)))
    for snapshot in snapshots:
        where = f"{folder.name}/snapshots/{snapshot.name}"
        if not is_commit_id(snapshot.name):
            left_out.append(Remark(where, "its name is no commit"))
        elif not any(snapshot.iterdir()):
            left_out.append(Remark(where, "it has no files"))
        else:
            whole = _is_whole(folder, snapshot)
            named = tuple(refs.get(snapshot.name, ()))
            yield FoundRevision(repo, snapshot, snapshot.name, named, whole)


def _refs_of(folder: Path) -> dict[str, list[str]]:
    """Returns the refs of a cached repo by the commits that they name."""
    found: dict[str, list[str]] = {}
    root = folder / "refs"
    for path in sorted(root.rglob("*"))[:_MOST_REFS]:
        name = path.relative_to(root).as_posix()
        if not path.is_file() or not _is_branch(name):
            continue
        found.setdefault(read_ref(path), []).append(name)
    return found


def _is_branch(name: str) -> bool:
    try:
        return bool(check_branch(name))
    except InvalidName:
        return False


def _is_whole(folder: Path, snapshot: Path) -> bool:
    """Says whether a snapshot has all files that the cache knows of its commit."""
    listing = folder / "trees" / f"{snapshot.name}.json"
    try:
        if listing.stat().st_size > _MOST_TREE_BYTES:
            return True
        paths = [str(path) for path in json.loads(listing.read_bytes())["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        # Older clients keep no listing.
        return True
    return all(os.path.exists(snapshot / path) for path in paths)


def _folders(path: Path) -> list[Path]:
    try:
        return [each for each in sorted(path.iterdir()) if each.is_dir() and each.name[0] != "."]
    except OSError:
        return []


def _oldest(folder: Path) -> float:
    """Returns when the first revision of a cached repo came."""
    return min(map(_time_of, _folders(folder / "snapshots")), default=0.0)


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
