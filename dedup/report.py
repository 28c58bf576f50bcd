"""Reports: where the bytes go, from the catalogue's sums and the backend's listing."""

from __future__ import annotations

from ..store.accounting import RepoSums, Sums, sum_repos, sum_vault
from ..store.backend import Backend
from ..store.catalogue import Catalogue
from .vault import RepoCost, Report, Stages


def report_vault(backend: Backend, catalogue: Catalogue, price: float) -> Report:
    """Returns where the vault's bytes go, at `price` per GiB and month.

    `stored` is what the backend lists, so nothing can hide from it: packs that no catalogue row
    knows (a push that died) count as garbage.
    """
    sums = sum_vault(catalogue)
    sizes = {info.key: info.size for info in backend.list()}
    stored = sum(sizes.values())
    packs = sum(size for key, size in sizes.items() if key.startswith("packs/"))
    garbage = sums.packed_frames - sums.live_frames + max(0, packs - sums.packs)
    return Report(
        repos=sums.repos,
        commits=sums.commits,
        files=sums.files,
        chunks=sums.chunks,
        logical=sums.logical,
        unique=sums.unique,
        frames=sums.live_frames,
        metadata=stored - sums.live_frames - garbage,
        garbage=garbage,
        stored=stored,
        stages=_stages(sums),
        price=price,
        by_repo=tuple(_cost(r) for r in sum_repos(catalogue)),
    )


def cost_of_repo(catalogue: Catalogue, repo: str) -> RepoCost:
    """Returns what one repo takes."""
    return _cost(sum_repos(catalogue, repo)[0])


def _stages(sums: Sums) -> Stages:
    """Splits logical - live frames among the stages (vault.Stages).

    A base that no commit uses any more has frames but no logical bytes: the deltas on it, for
    which it is kept, pay for it.
    """
    stranded = sums.live_frames - sums.used_frames
    return Stages(
        files=sums.logical - sums.distinct_files,
        tensors=sums.distinct_files - sums.unique,
        coding=(sums.unique - sums.unique_deltas) - (sums.used_frames - sums.live_deltas),
        deltas=sums.unique_deltas - sums.live_deltas - stranded,
    )


def _cost(sums: RepoSums) -> RepoCost:
    return RepoCost(sums.name, sums.commits, sums.logical, sums.unique, sums.exclusive, sums.shared)
