"""Which models a model comes from and which come from it, for the page of one repo.

`families` looks at every chunk of the vault; this asks about one repo. Its parent is the repo that
was first to hold most of the bases it uses now. To be quick beside thousands of relatives it goes
by a sample of bases, the same ones for all that share them.

What a chunk is coded against depends on all repos. Whoever may not read them all is told of a
lineage by what those have that they may read: equal tensors, and the bases that commits declare.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.reports.lineage import (
    SizeRow,
    centres_of,
    computed_from,
    declared_base,
    declaring,
    first_repos,
    has_repo,
    sizes_of,
    users_of,
)
from ...store.catalogue.visibility import EVERYTHING, Scope
from ..model.history import Commit

# As in families: what models share by chance stays below it.
_MIN_SHARE = 0.2
_SAMPLE = 16
_MAX_DEPTH = 8
_MAX_CHILDREN = 40


@dataclass(frozen=True, slots=True)
class Relative:
    """A repo in its family: raw and frame bytes of its newest commit, each chunk once (None: not
    told), the repos that come from it, and how many more of those are not listed."""

    repo: str
    raw: int
    stored: int | None
    children: tuple[Relative, ...]
    more: int


def find_lineage(catalogue: Catalogue, repo: str, seen: Scope = EVERYTHING) -> Relative:
    """Returns the tree around `repo`: the way from its root to it, and the children of each repo on
    that way; of the repos `seen`, as if there were no others."""
    path = _find_path(catalogue, repo, seen)
    children = _find_children(catalogue, path, seen)
    for parent, child in pairwise(path):
        children[parent].insert(0, child)
    listed = {name for found in children.values() for name in found[:_MAX_CHILDREN]}
    sizes = sizes_of(catalogue, [*path, *listed])
    return _tree(path[0], children, sizes, frames=seen.everything)


def shown_base(catalogue: Catalogue, commit: Commit, seen: Scope) -> tuple[str, bool] | None:
    """Returns the repo that a commit names as its base, and whether it is one of those `seen`: a
    card may name what the vault has not got."""
    return (commit.base, has_repo(catalogue, commit.base, seen)) if commit.base else None


def _find_path(catalogue: Catalogue, repo: str, seen: Scope) -> list[str]:
    """The repos from the root to `repo`."""
    path = [repo]
    while len(path) < _MAX_DEPTH:
        parent = _find_parent(catalogue, path[0], seen)
        # Two may rest on each other in different tensors.
        if parent is None or parent in path:
            break
        path.insert(0, parent)
    return path


def _find_parent(catalogue: Catalogue, repo: str, seen: Scope) -> str | None:
    sample = _sample(catalogue, repo, seen)
    owners = first_repos(catalogue, list(sample), seen)
    owned: dict[str, int] = defaultdict(int)
    for centre, size in sample.items():
        if centre in owners:
            owned[owners[centre]] += size
    owned.pop(repo, None)
    parent = max(owned, key=lambda name: owned[name], default=None)
    enough = _MIN_SHARE * sum(sample.values())
    if parent is not None and owned[parent] >= enough:
        return parent
    return None if seen.everything else declared_base(catalogue, repo, seen)


def _find_children(catalogue: Catalogue, path: Sequence[str], seen: Scope) -> dict[str, list[str]]:
    """The repos that come from each of `path`, those that use most of its sample first; a repo
    that comes from several is the child of the one it uses most of, and the nearest to `repo`."""
    best: dict[str, tuple[float, int]] = {}
    for depth, name in enumerate(path):
        for child in () if seen.everything else declaring(catalogue, name, seen):
            if child not in path:
                best[child] = (0.0, depth)
        sample = _own(catalogue, name, seen)
        enough = max(1.0, _MIN_SHARE * sum(sample.values()))
        for user in users_of(catalogue, list(sample), seen) if sample else ():
            if user.raw_bytes >= enough and user.repo not in path:
                share = user.raw_bytes / sum(sample.values())
                best[user.repo] = max(best.get(user.repo, (0.0, 0)), (share, depth))
    children: dict[str, list[str]] = {name: [] for name in path}
    for child in sorted(best, key=lambda name: (-best[name][0], name)):
        children[path[best[child][1]]].append(child)
    return children


def _own(catalogue: Catalogue, repo: str, seen: Scope) -> dict[bytes, int]:
    """Those centres of the sample that `repo` was the first to hold, and of its deltas some that
    others are computed from."""
    sample = _sample(catalogue, repo, seen)
    if seen.everything:
        sample |= {r.centre: r.raw_bytes for r in computed_from(catalogue, repo, _SAMPLE)}
    owners = first_repos(catalogue, list(sample), seen)
    return {centre: size for centre, size in sample.items() if owners.get(centre, repo) == repo}


def _sample(catalogue: Catalogue, repo: str, seen: Scope) -> dict[bytes, int]:
    """Some of the centres that a repo uses, with the raw bytes that rest on each: of those that
    together are four fifths of it, the first ones by digest, which is as good as by chance."""
    sizes: dict[bytes, int] = defaultdict(int)
    for row in centres_of(catalogue, repo, seen):
        sizes[row.centre] += row.raw_bytes
    large: list[bytes] = []
    missing = 0.8 * sum(sizes.values())
    for centre in sorted(sizes, key=lambda c: (-sizes[c], c)):
        if missing <= 0:
            break
        large.append(centre)
        missing -= sizes[centre]
    return {centre: sizes[centre] for centre in sorted(large)[:_SAMPLE]}


def _tree(
    repo: str,
    children: Mapping[str, Sequence[str]],
    sizes: Mapping[str, SizeRow],
    *,
    frames: bool,
) -> Relative:
    mine = children.get(repo, ())
    size = sizes.get(repo, SizeRow(0, 0))
    below = tuple(_tree(name, children, sizes, frames=frames) for name in mine[:_MAX_CHILDREN])
    stored = size.frame_bytes if frames else None
    return Relative(repo, size.raw_bytes, stored, below, len(mine) - len(below))
