"""Chooses the bases that a chunk may be coded against.

The tensor of the same name, dtype and size in the commit that the branch points to now is always
tried, or else that of the declared base: what a checkpoint or a sparse tune was made from is nearer
than all else. Beside it content decides: the vault is asked for chunks with a related sketch,
whatever they are called and wherever they lie. Opaque bytes are matched by their place in
the file that they were edited in (edits.py). Whether a delta pays is measured when it
is encoded: the smaller of delta and standalone frame wins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import Corrupt, InvalidName, Missing
from ..model.cards import CARD, MAX_CARD_HEAD_BYTES, read_front_matter
from ..model.files.entries import ChunkUse, FileEntry
from ..model.files.manifest import Manifest
from ..model.files.segments import Bundle, Tensor
from ..model.names import check_repo
from ..model.sketch_file import Sketches
from ..vault import BaseFinder, Candidate, RevisionReader, Snapshot
from .edits import match_edits

# Sketches of one question: 600 KB of JSON to a server, and a second of its catalogue's work.
_ASK_SKETCHES = 500

# Predicted sizes this close may well be in another order really (they are off by 1 to 2 % of the
# tensor on average): both are encoded.
_CLOSE = 1.05


@dataclass(frozen=True, slots=True)
class Base:
    """A revision to code against, and the chunks of its tensors by what they are part of.
    `patched`: texts may be coded against it, too."""

    repo: str
    revision: str
    manifest: Manifest
    chunks: dict[tuple[object, ...], ChunkUse]
    patched: bool

    def name(self, use: ChunkUse) -> Candidate:
        """Returns one of its chunks as a candidate that nothing was predicted of."""
        return Candidate(use.digest, use.size, 0, self.repo, self.revision)


Lineage = tuple[Base, ...]
"""What a push is declared or assumed to be from, the declared base first: both tensors and edited
files are matched with the last that has them, which is the commit before on the branch if there is
one."""


def find_base(
    vault: RevisionReader, files: dict[str, Path], repo: str, branch: str, declared: str | None
) -> tuple[str | None, Lineage]:
    """Returns the declared base's name, if any, and what to code against.

    `declared` is a repo named by the user, and must exist; without it the model card's
    `base_model` counts: of several the first that the vault holds, or else the first. Raises Repo-
    or RevisionNotFound.
    """
    name, base = _find_declared(vault, files, declared)
    found = (base, _try_resolve(vault, repo, branch))
    return name, tuple(_index(snapshot) for snapshot in found if snapshot)


def find_lineage(
    vault: RevisionReader, files: dict[str, Path], repo: str, parent: str | None
) -> Lineage:
    """Returns what a commit that is there already was made from: as find_base, with the model card
    among `files`, and the id of its `parent`."""
    _, base = _find_declared(vault, files, None)
    before = _try_resolve(vault, repo, parent) if parent else None
    return tuple(_index(snapshot) for snapshot in (base, before) if snapshot)


def _find_declared(
    vault: RevisionReader, files: dict[str, Path], declared: str | None
) -> tuple[str | None, Snapshot | None]:
    if declared is not None:
        check_repo(declared)
        return declared, vault.resolve(declared)
    named = card_bases(files)
    for name in named:
        snapshot = _try_resolve(vault, name, "main")
        if snapshot:
            return name, snapshot
    # One that comes later is known by its name: an adapter's base, say.
    return next(iter(named), None), None


def choose_bases(
    vault: BaseFinder,
    manifest: Manifest,
    missing: Collection[bytes],
    sketches: Sketches,
    lineage: Lineage,
) -> dict[bytes, tuple[Candidate, ...]]:
    """Returns for each of the `missing` chunks of `manifest` the one or two stored chunks to
    encode it against, if there are any."""
    named = _match_tensors(manifest, lineage)
    found = _ask_candidates(vault, missing, sketches)
    edited = _match_edited(manifest, lineage)
    chosen: dict[bytes, tuple[Candidate, ...]] = {}
    for digest in missing:
        before = named.get(digest, [])
        best = take_best(found[digest], {c.digest for c in before}) if digest in found else ()
        edit = [edited[digest]] if digest in edited else []
        candidates = (*edit, *before[:1], *best, *before[1:])
        if candidates:
            # Twice the same base would be read but once.
            chosen[digest] = tuple({c.digest: c for c in candidates}.values())[:2]
    return chosen


def _match_tensors(manifest: Manifest, lineage: Lineage) -> dict[bytes, list[Candidate]]:
    """Returns the chunks of the same name, the nearest revision's first."""
    matches: dict[bytes, list[Candidate]] = {}
    for base in reversed(lineage):
        for digest, use in match_chunks(manifest, base).items():
            matches.setdefault(digest, []).append(base.name(use))
    return matches


def _match_edited(manifest: Manifest, lineage: Lineage) -> dict[bytes, Candidate]:
    matches: dict[bytes, Candidate] = {}
    for base in (base for base in lineage if base.patched):
        edits = match_edits(manifest, base.manifest)
        matches.update((digest, base.name(use)) for digest, use in edits.items())
    return matches


def _ask_candidates(
    vault: BaseFinder, missing: Collection[bytes], sketches: Sketches
) -> dict[bytes, tuple[Candidate, ...]]:
    mine = {digest: sketches[digest] for digest in missing if digest in sketches}
    found = _ask_all(vault, mine)
    # A vocabulary of a few rows more or less: its base may have another kind of sketch.
    for i in range(2):
        left = {d: s.others[i] for d, s in mine.items() if d not in found and len(s.others) > i}
        found |= _ask_all(vault, left)
    return found


def _ask_all(vault: BaseFinder, sketches: Sketches) -> dict[bytes, tuple[Candidate, ...]]:
    telling = [digest for digest, sketch in sketches.items() if sketch.kind is not None]
    found: dict[bytes, tuple[Candidate, ...]] = {}
    for start in range(0, len(telling), _ASK_SKETCHES):
        part = telling[start : start + _ASK_SKETCHES]
        answers = vault.find_bases([sketches[digest] for digest in part])
        found.update((d, answer) for d, answer in zip(part, answers, strict=True) if answer)
    return found


def take_best(
    candidates: tuple[Candidate, ...], named: Collection[bytes] = ()
) -> tuple[Candidate, ...]:
    """Returns the best, and the next where it comes close; `named` ones are preferred among those
    that are as good."""
    limit = _CLOSE * min(c.predicted for c in candidates)
    close = [c for c in candidates if c.predicted <= limit]
    close.sort(key=lambda c: (c.digest not in named, c.predicted))
    return tuple(close[:2])


def match_chunks(manifest: Manifest, base: Base) -> dict[bytes, ChunkUse]:
    """Returns, for chunks of `manifest`, the chunk of `base` that is the same part of a tensor of
    the same name, dtype and shape."""
    matches: dict[bytes, ChunkUse] = {}
    for entry in manifest.files:
        for key, use in _tensor_chunks(entry, manifest.chunk_bytes):
            candidate = base.chunks.get(key)
            if candidate is not None and candidate.size == use.size > 0:
                matches[use.digest] = candidate
    return matches


def card_bases(files: dict[str, Path]) -> list[str]:
    """Returns what the model card among `files` names as `base_model`, as repo names.

    A card is free text of unknown origin: whatever is not understood names nothing.
    """
    path = files.get(CARD)
    if path is None:
        return []
    with path.open("rb") as file:
        card = read_front_matter(file.read(MAX_CARD_HEAD_BYTES))
    named = card.get("base_model")
    listed = named if isinstance(named, list) else [named]
    return [name for name in listed if isinstance(name, str) and _is_repo(name)]


def _is_repo(name: str) -> bool:
    try:
        check_repo(name)
    except InvalidName:
        return False
    return True


def _try_resolve(vault: RevisionReader, repo: str, revision: str) -> Snapshot | None:
    try:
        return vault.resolve(repo, revision)
    except (Missing, Corrupt):
        # What cannot be read is nothing to code against, and pushing again may be what mends it.
        return None


def _index(snapshot: Snapshot) -> Base:
    manifest = snapshot.manifest
    chunks = {
        key: use
        for entry in manifest.files
        for key, use in _tensor_chunks(entry, manifest.chunk_bytes)
    }
    commit = snapshot.commit
    return Base(commit.repo, commit.id, manifest, chunks, snapshot.patched)


def _tensor_chunks(
    entry: FileEntry, chunk_bytes: int
) -> Iterator[tuple[tuple[object, ...], ChunkUse]]:
    """Yields each chunk of each tensor of a file with what it is part of."""
    uses = entry.chunks(chunk_bytes)
    for segment in entry.segments:
        for index in range(len(getattr(segment, "chunks", ()))):
            use = next(uses)
            if isinstance(segment, Tensor):
                yield (segment.name, segment.dtype, segment.shape, index), use
            elif isinstance(segment, Bundle):
                names = tuple((tensor.name, tensor.shape) for tensor in segment.tensors)
                yield (names, segment.dtype, index), use
