"""Which models form families: those whose tensors are deltas on the same bases, or the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from ...store.cancel import check_cancelled
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.reports.families import SharedRow, read_shared
from ..model.families import Family, FamilyMember
from ..model.sketch import SKETCH_BITS

# A repo belongs to the family of another whose bases it uses for this share of its raw bytes;
# what models share by chance (a tokenizer, a position table) stays below it.
_MIN_SHARE = 0.2


@dataclass(slots=True)
class _Repo:
    """Sums over the chunks of one repo. `owners`: raw bytes by the repo that has the base;
    `sources`: those of computed chunks by the repo that has what they are computed from."""

    raw: int = 0
    stored: int = 0
    chunks: int = 0
    centres: int = 0
    differing_bits: int = 0
    owners: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    computed: int = 0
    sources: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def find_families(catalogue: Catalogue) -> list[Family]:
    """Returns the families among the newest commits of all repos, largest first."""
    repos: dict[str, _Repo] = {}
    owners: dict[bytes, str] = {}
    sizes: dict[bytes, tuple[int, int]] = {}
    holders: dict[bytes, str] = {}
    keys: dict[str, dict[bytes, int]] = {}
    for row in read_shared(catalogue):
        check_cancelled()
        _add_row(repos.setdefault(row.repo, _Repo()), row)
        centre = row.root
        keys.setdefault(row.repo, {})[row.digest] = row.raw_bytes
        holders.setdefault(row.digest, row.repo)
        sizes[row.digest] = (row.raw_bytes, row.frame_bytes)
        if row.root == row.digest:
            owners.setdefault(centre, row.repo)
            repos[row.repo].centres += owners[centre] == row.repo
    for row in read_shared(catalogue):
        check_cancelled()
        centre = row.root
        repos[row.repo].owners[owners.setdefault(centre, row.repo)] += row.raw_bytes
        if row.source is not None:
            source = holders.get(row.source, owners[centre])
            repos[row.repo].sources[source] += row.raw_bytes
    groups = _group(repos)
    families = [_family(names, repos, keys, sizes) for names in groups]
    return sorted(families, key=lambda f: (-f.raw, f.centre))


def _add_row(repo: _Repo, row: SharedRow) -> None:
    repo.raw += row.raw_bytes
    repo.stored += row.frame_bytes
    repo.chunks += 1
    repo.computed += row.source is not None
    if row.root_bits is not None:
        pair = (int.from_bytes(bits, "little") for bits in (row.bits, row.root_bits))
        repo.differing_bits += (next(pair) ^ next(pair)).bit_count()


def _group(repos: dict[str, _Repo]) -> list[list[str]]:
    """Joins each repo with those that own enough of its bases."""
    leader = {name: name for name in repos}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for name, repo in repos.items():
        for owner, raw in repo.owners.items():
            if raw >= _MIN_SHARE * repo.raw:
                leader[find(name)] = find(owner)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in repos:
        groups[find(name)].append(name)
    return list(groups.values())


def _family(
    names: list[str],
    repos: dict[str, _Repo],
    keys: dict[str, dict[bytes, int]],
    sizes: dict[bytes, tuple[int, int]],
) -> Family:
    """Sums up a family, its centre first, then its members, nearest first."""
    distinct: set[bytes] = {digest for name in names for digest in keys[name]}
    held = {name: sum(repos[other].owners.get(name, 0) for other in names) for name in names}
    centre = max(names, key=lambda name: held[name])
    members = (_member(name, repos[name]) for name in names)
    return Family(
        centre=centre,
        raw=sum(sizes[digest][0] for digest in distinct),
        stored=sum(sizes[digest][1] for digest in distinct),
        members=tuple(sorted(members, key=lambda m: (m.repo != centre, m.distance, m.repo))),
    )


def _member(name: str, repo: _Repo) -> FamilyMember:
    # The sketch of a computed chunk is of other values than that of what it is computed from.
    distance = repo.differing_bits / (SKETCH_BITS * max(1, repo.chunks - repo.computed))
    source = max(repo.sources, key=lambda other: repo.sources[other], default=None)
    if source == name or 2 * sum(repo.sources.values()) < repo.raw:
        source = None
    sums = repo.raw, repo.stored, distance, repo.centres, repo.chunks, repo.computed
    return FamilyMember(name, *sums, source)
