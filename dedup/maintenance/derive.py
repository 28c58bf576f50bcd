"""Replaces what can be computed from other chunks by recipes: quantised, cast, transposed copies.

A step looks through the tensors of one commit, guesses what each was computed from
(similarity/sources.py), measures the guesses, and puts the derived frames in use that are smaller
than what is stored. Sources are what all owners of a chunk may read, as for bases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from ...codecs.buffers import view_bytes
from ...codecs.dtypes import BY_ID
from ...store.cancel import check_cancelled
from ...store.catalogue.owners import reach_of, sharing_of
from ...store.catalogue.queues.encode_queue import allowed_bases, first_commits, read_ownership
from ...store.catalogue.sketches.relatives import find_built_on, find_relatives, find_sharing
from ...store.catalogue.sketches.sketches import FamilyRow, find_ids, read_family
from ...store.catalogue.tables.rows import CommitRow, Location
from ...store.catalogue.visibility import Scope
from ...store.errors import NotFound
from ...store.packs import DERIVED
from ..derivations.guesses import registry
from ..derivations.guesses.kinds import Guess
from ..derivations.guesses.tensors import Companions, FirstSketch, StoredTensor, Target
from ..derivations.operations.floats.formats import NAMES as FLOATS
from ..errors import BaseMissing, ChunksMissing, Corrupt, Missing
from ..model.files.entries import ChunkUse
from ..model.files.manifest import Manifest
from ..reading.chunk_reader import ChunkReader
from ..repository.repository import Repository
from ..similarity.sources import (
    MOST_REVISIONS,
    Sources,
    find_revisions,
    list_companions,
    list_tensors,
)
from ..similarity.stored_values import StoredValues
from ..transfer.new_frames import TemporaryPack, put_in_use
from ..vault import RevisionReader
from .collection.release import release_moved
from .guess_trials import LEAST_SAVED_BYTES, GuessTrials, most_bytes
from .unbase import encode_without, list_deltas

# What a derived frame must save: it is read with its inputs.
LEAST_SHARE_SAVED = 0.03
# Chunks beside targets that siblings are looked for by.
_MOST_OTHERS = 32
# Chunks that are read together with others: to fetch one takes as long as to decode 100 KB.
_SMALL_BYTES, _FETCHED_AT_ONCE = 64 << 10, 128
# Bases that relatives are looked for by.
_MOST_BASES = 8

Raw = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Derived:
    """What a step did: chunks with new frames, and their frame bytes before and after."""

    chunks: int = 0
    before: int = 0
    after: int = 0


def derive_commit(
    vault: Repository,
    commit: CommitRow,
    manifest: Manifest,
    among: Collection[bytes] | None = None,
) -> Derived:
    """Derives what can be derived of the tensors of a commit, whose manifest this is; with `among`,
    of those that have one of these chunks. Raises VaultError kinds."""
    tensors = list(list_tensors(manifest))
    wanted = set(among) if among is not None else {p.digest for t in tensors for p in t.pieces}
    targets = [
        tensor
        for tensor in tensors
        if registry.is_computable(tensor.dtype)
        and any(piece.digest in wanted for piece in tensor.pieces)
    ]
    if not targets:
        return Derived()
    mine = {
        piece.digest for tensor in tensors for piece in tensor.pieces if tensor.dtype not in FLOATS
    }
    others = [digest for digest in manifest.digests() if digest not in mine]
    step = max(1, len(others) // _MOST_OTHERS)
    companions = Companions(lambda: list_companions(manifest))
    return _Step(vault, tensors, targets, companions, commit, others[::step][:_MOST_OTHERS]).run()


def derive_chunks(vault: Repository, rows: Sequence[FamilyRow]) -> Derived:
    """Does as derive_commit for the tensors that have one of these chunks, in the commits that were
    the first to have them; of commits that are collected meanwhile, nothing."""
    commits = first_commits(vault.catalogue, [row.chunk_id for row in rows])
    digests: dict[CommitRow, list[bytes]] = defaultdict(list)
    for row in rows:
        if row.chunk_id in commits and may_be_computed(row):
            digests[commits[row.chunk_id]].append(row.place.digest)
    done: list[Derived] = []
    for commit, among in digests.items():
        # Its repo may have been deleted since it was listed.
        with suppress(NotFound, ChunksMissing, BaseMissing):
            manifest = vault.load_manifest(commit.manifest)
            done.append(derive_commit(vault, commit, manifest, among))
    return Derived(*(sum(values) for values in zip(*map(astuple, done), strict=True)))


def may_be_computed(row: FamilyRow) -> bool:
    """Tells whether a chunk is of a dtype that copies have."""
    return row.sketch is not None and registry.is_computable(BY_ID[row.sketch.dtype].name)


def _lineage_of(commit: CommitRow) -> list[tuple[str, str]]:
    """The revisions that a commit names as its base, and the one before it."""
    named = [(commit.base, "main")] if commit.base else []
    return [*named, (commit.repo, commit.parent)] if commit.parent else named


class _Step:
    """One commit's tensors on their way to recipes."""

    def __init__(
        self,
        vault: Repository,
        tensors: list[StoredTensor],
        targets: list[StoredTensor],
        companions: Companions,
        commit: CommitRow,
        others: Collection[bytes],
    ) -> None:
        self._companions = companions
        self._others = others
        self._vault = vault
        self._own = commit.repo, commit.oid
        self._lineage = _lineage_of(commit)
        self._reader = ChunkReader(vault.fetch_frames)
        self._read = StoredValues(self._chunk)
        self._trials = GuessTrials(self._reader, self._chunk)
        digests = [piece.digest for tensor in tensors for piece in tensor.pieces]
        self._rows = _read_rows(vault, digests)
        # The most telling first: what is derived is no source of what comes after it.
        known = [t for t in tensors if all(p.digest in self._rows for p in t.pieces)]
        self._tensors = registry.in_order(known, companions)
        self._wanted = {target.pieces[0].digest for target in targets}
        self._derived: set[bytes] = set()
        self._ahead: dict[bytes, Raw] = {}
        self._used: set[bytes] = set()

    def run(self) -> Derived:
        """Derives what can be, and puts it in use."""
        mine = [t for t in self._tensors if t.pieces[0].digest in self._wanted]
        targets = [self._target(tensor) for tensor in mine if self._is_open(tensor)]
        if not targets:
            return Derived()
        sources = self._find_sources(targets)
        groups: list[dict[Location, int]] = []
        with TemporaryPack(self._vault, "derive") as pack:
            for target in self._fetch_ahead(targets):
                check_cancelled()
                for group in self._derive(target, sources):
                    for frame in group.values():
                        pack.add(frame)
                    groups.append({place: len(frame) for place, frame in group.items()})
            if not groups:
                return Derived()
            name = pack.store()
        adopted = put_in_use(self._vault, name, groups)
        release_moved(self._vault, name, [place for group in groups for place in group])
        moved = [pair for group in groups for pair in group.items()]
        done = [(place, size) for place, size in moved if place.digest in adopted]
        before = sum(place.frame_bytes for place, _ in done)
        return Derived(len(done), before, sum(size for _, size in done))

    def _fetch_ahead(self, targets: Sequence[Target]) -> Iterator[Target]:
        """Yields targets, of which those that are small are fetched many at once."""
        pieces = [target.tensor.pieces for target in targets]
        for i, target in enumerate(targets):
            own = target.tensor.pieces[0]
            if own.raw_bytes < _SMALL_BYTES and own.digest not in self._ahead:
                coming = [each[0] for each in pieces[i : i + _FETCHED_AT_ONCE]]
                small = {p.digest: p for p in coming if p.raw_bytes < _SMALL_BYTES}
                uses = [ChunkUse(p.digest, 0, p.raw_bytes, "U8") for p in small.values()]
                with suppress(Missing, Corrupt):
                    raws = map(view_bytes, self._reader.read(uses))
                    self._ahead = dict(zip(small, raws, strict=True))
            yield target

    def _is_open(self, tensor: StoredTensor) -> bool:
        """Whether any of a tensor's chunks may still be derived."""
        return any(self._rows[p.digest].place.level < DERIVED for p in tensor.pieces)

    def _target(self, tensor: StoredTensor) -> Target:
        sketch = self._rows[tensor.pieces[0].digest].sketch
        first = None
        if tensor.dtype in FLOATS and sketch is not None:
            exponent = tensor.count(tensor.pieces[0].raw_bytes).bit_length() - 1
            first = FirstSketch(exponent, sketch.bits, sketch.words)
        return Target(tensor, self._read.values(tensor), self._companions, self._read, first)

    def _find_sources(self, targets: Sequence[Target]) -> Sources:
        """Gathers tensors that targets may be computed from, within what all who have one of the
        targets may read."""
        vault, ids = self._vault, [self._rows[t.tensor.pieces[0].digest].chunk_id for t in targets]
        known = read_ownership(vault.catalogue, ids).values()
        owners = {owner for each in known for owner in each.owners}
        shown = any(each.shown for each in known)
        with vault.catalogue.reading() as connection:
            reach = reach_of(owners, sharing_of(connection), shown=shown)
        found = find_revisions(vault.catalogue, targets, reach.weights, self._own)
        view = vault.for_owners(owners, shown=shown)
        sources = Sources()
        sources.add(self._tensors, self._rows)
        wanted = {view.elements for target in targets for view in registry.views(target)}
        any_size = any(registry.takes_any_size(target.tensor.dtype) for target in targets)
        found += [*self._lineage, *self._find_siblings(reach.weights)]
        found += self._find_relatives(targets, reach.weights)
        # Adapters are like nothing that they are merged into.
        bases = {repo for repo, _ in found}
        found += (
            find_built_on(vault.catalogue, bases, reach.weights, MOST_REVISIONS) if bases else []
        )
        for manifest in _manifests(view, [each for each in found if each != self._own]):
            tensors = [t for t in list_tensors(manifest) if any_size or t.elements in wanted]
            sources.add(tensors, _read_rows(vault, [t.pieces[0].digest for t in tensors]))
        return sources

    def _find_siblings(self, scopes: Sequence[Scope]) -> list[tuple[str, str]]:
        """Returns revisions that share what lies beside targets, as a tokenizer or norms: quantised
        sources have no sketch of their values to be found by, and pruned ones one of their own."""
        return find_sharing(self._vault.catalogue, self._others, scopes, MOST_REVISIONS)

    def _find_relatives(
        self, targets: Sequence[Target], scopes: Sequence[Scope]
    ) -> list[tuple[str, str]]:
        """Returns revisions that have what targets are deltas on, or deltas on that or on targets:
        one with many zeros is like its source, but hard to find by its sketch."""
        step = max(1, len(targets) // _MOST_BASES)
        first = [target.tensor.pieces[0].digest for target in targets[::step]]
        bases = {self._rows[digest].place.base or digest for digest in first}
        return find_relatives(self._vault.catalogue, bases, scopes, MOST_REVISIONS)

    def _derive(self, target: Target, sources: Sources) -> Iterator[dict[Location, bytes]]:
        """Yields the chunks of a tensor that a recipe is smaller for, each with its new frame, and
        those of what needed it."""
        if any(piece.digest in self._used for piece in target.tensor.pieces):
            return
        usable = [g for g in sources.guesses(target) if not self._derived & _digests(g.inputs)]
        best = self._trials.choose(target.tensor, usable)
        if best is None:
            return
        done = False
        for row, frame in self._encode(target.tensor, best):
            group = self._unbase(row, frame, target.tensor, best)
            if group:
                done = True
                yield group
        if done:
            self._derived |= _digests([target.tensor])
            self._used |= _digests(best.inputs)

    def _unbase(
        self, row: FamilyRow, frame: bytes, target: StoredTensor, guessed: Guess
    ) -> dict[Location, bytes]:
        """Returns the new frame of a chunk with those of the deltas on it, which cannot stay; none
        where all together do not save enough."""
        deltas = list_deltas(self._vault.catalogue, row.place.digest)
        if deltas is None or any(delta.place.digest in self._used for delta in deltas):
            return {}
        group = {row.place: frame}
        if deltas:
            inputs, columns = _digests(guessed.inputs), target.shape[-1] if target.shape else 0
            others = encode_without(self._vault.catalogue, deltas, inputs, self._chunk, columns)
            group |= dict(others)
            self._used |= {delta.place.digest for delta in deltas}
        before = sum(place.frame_bytes for place in group)
        saved = before - sum(map(len, group.values()))
        return group if saved >= max(LEAST_SAVED_BYTES, LEAST_SHARE_SAVED * before) else {}

    def _encode(self, target: StoredTensor, guessed: Guess) -> Iterator[tuple[FamilyRow, bytes]]:
        first = 0
        for piece in target.pieces:
            row = self._rows[piece.digest]
            raw = self._chunk(piece.digest, piece.raw_bytes)
            saved = max(LEAST_SAVED_BYTES, int(LEAST_SHARE_SAVED * row.place.frame_bytes))
            most = min(row.place.frame_bytes - saved, most_bytes(target, guessed, raw.size))
            frame = None
            if row.place.level < DERIVED and most > 0:
                frame = self._trials.encode(target, raw, piece.digest, guessed, first, most)
            if frame is not None and self._may_use(row, guessed):
                yield row, frame
            first += target.count(piece.raw_bytes)

    def _may_use(self, row: FamilyRow, guessed: Guess) -> bool:
        inputs = _digests(guessed.inputs)
        return inputs <= allowed_bases(self._vault.catalogue, row.chunk_id, inputs)

    def _chunk(self, digest: bytes, raw_bytes: int) -> Raw:
        if digest in self._ahead:
            return self._ahead[digest]
        return view_bytes(next(self._reader.read([ChunkUse(digest, 0, raw_bytes, "U8")])))


def _manifests(view: RevisionReader, named: Sequence[tuple[str, str]]) -> Iterator[Manifest]:
    for repo, revision in dict.fromkeys(named):
        try:
            yield view.resolve(repo, revision).manifest
        except (Missing, Corrupt):
            # Deleted or damaged since it was found, or not for these owners.
            continue


def _digests(tensors: Collection[StoredTensor]) -> set[bytes]:
    return {piece.digest for tensor in tensors for piece in tensor.pieces}


def _read_rows(vault: Repository, digests: Sequence[bytes]) -> dict[bytes, FamilyRow]:
    ids = find_ids(vault.catalogue, digests)
    rows = {row.place.digest: row for row in read_family(vault.catalogue, ids)}
    return {digest: rows[digest] for digest in digests if digest in rows}
