"""What the tensors that are stored as recipes are computed from: which tensor of which repo.

A recipe names chunks. The first of them tells most of what it gives; whose it is, the first commit
says that has it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...codecs.frame import CODEC_IDS
from ...store.catalogue.reports.pages import FrameRow, first_commits_with, frames_of
from ..errors import VaultError
from ..model.files.entries import TensorPlace
from ..model.files.manifest import Manifest
from ..vault import Computed

if TYPE_CHECKING:
    from ..repository.repository import Repository

_DERIVED = CODEC_IDS["derived"]


@dataclass(frozen=True, slots=True)
class Origin:
    """A tensor that others are computed from, and the repo that was first to have it; both None
    where no commit has it any more."""

    tensor: str | None
    repo: str | None


def find_origins(vault: Repository, frames: Collection[FrameRow]) -> dict[bytes, Origin]:
    """Returns for the first input of each derived frame what it is."""
    wanted = {frame.inputs[0] for frame in frames if frame.codec == _DERIVED}
    found = dict.fromkeys(wanted, Origin(None, None))
    commits = first_commits_with(vault.catalogue, wanted)
    for name in {commit.manifest for commit in commits.values()}:
        mine = {digest for digest, commit in commits.items() if commit.manifest == name}
        try:
            tensors = _tensors_with(vault.load_manifest(name), mine)
        except VaultError:
            # Its damage is said where it is looked for.
            tensors = {}
        found |= {digest: Origin(tensors.get(digest), commits[digest].repo) for digest in mine}
    return found


def origin_of(frames: Sequence[FrameRow], origins: dict[bytes, Origin]) -> Origin | None:
    """Returns what a tensor of these frames is computed from; None where it is not."""
    return next((origins[f.inputs[0]] for f in frames if f.codec == _DERIVED), None)


def list_computed(vault: Repository, manifest: Manifest) -> tuple[Computed, ...]:
    """Returns what of a revision is computed, by dtype and the repo it is computed from, the
    largest first."""
    places = [place for entry in manifest.files for place in entry.places()]
    frames = frames_of(vault.catalogue, {d for place in places for d in place.chunks})
    origins = find_origins(vault, frames.values())
    groups: dict[tuple[str, str | None], list[tuple[TensorPlace, Origin, int]]] = {}
    for place in places:
        mine = [frames[d] for d in dict.fromkeys(place.chunks) if d in frames]
        origin = origin_of(mine, origins)
        if origin is not None:
            stored = sum(frame.frame_bytes for frame in mine)
            kind = place.tensor.dtype, origin.repo
            groups.setdefault(kind, []).append((place, origin, stored))
    computed = (
        Computed(
            dtype=dtype,
            repo=repo,
            source=members[0][1].tensor,
            tensors=len(members),
            raw=sum(place.tensor.size for place, _, _ in members),
            stored=sum(stored for _, _, stored in members),
        )
        for (dtype, repo), members in groups.items()
    )
    return tuple(sorted(computed, key=lambda each: (-each.raw, each.dtype, each.repo or "")))


def _tensors_with(manifest: Manifest, digests: Collection[bytes]) -> dict[bytes, str]:
    """The names of the first tensors of a revision that have each of some chunks."""
    found: dict[bytes, str] = {}
    for entry in manifest.files:
        for place in entry.places():
            for digest in place.chunks:
                if digest in digests:
                    found.setdefault(digest, place.tensor.name)
    return found
