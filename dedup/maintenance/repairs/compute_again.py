"""Computes chunks again whose derived frames are damaged, from their inputs: by the recipe in what
is left of the frame, else by those that a copy of such a tensor may have. What comes out is right
if it has the chunk's digest."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from ....codecs.buffers import view_bytes
from ....codecs.derived import block_size
from ....codecs.errors import FrameError
from ....store.backend import Backend
from ....store.catalogue.queues.encode_queue import first_commits
from ....store.catalogue.sketches.sketches import find_ids
from ....store.catalogue.tables.rows import Location
from ....store.errors import StoreError
from ....store.object_keys import pack_key
from ....store.packs import DERIVED
from ...derivations import derived_frames
from ...derivations.guesses import registry
from ...derivations.guesses.kinds import Match, View
from ...derivations.guesses.layouts import arrangements
from ...derivations.guesses.tensors import Companions, StoredTensor, Target
from ...derivations.predict import Prediction
from ...derivations.recipe import Recipe
from ...errors import ChunksMissing, VaultError
from ...model.files.manifest import Manifest
from ...reading.chunk_reader import ChunkReader
from ...repository.repository import Repository
from ...similarity.sources import list_companions, list_tensors
from ...similarity.stored_values import StoredValues

Raw = NDArray[np.uint8]


def compute_again(
    vault: Repository, backend: Backend, reader: ChunkReader, place: Location
) -> bytes | None:
    """Returns a new frame of the chunk that should lie at `place`, a derived one; None where its
    inputs cannot be read, or do not give it."""
    found = _Inputs(vault, reader, place)
    for manifest in _manifests(vault, [place.digest]):
        for tensor, first in _tensors_with(manifest, place.digest):
            for recipe in found.recipes(backend, manifest, tensor, first):
                frame = found.try_recipe(recipe, tensor.dtype)
                if frame is not None:
                    return frame
    return None


def _manifests(vault: Repository, digests: Collection[bytes]) -> Iterator[Manifest]:
    """Yields the first manifest that has each of some chunks."""
    commits = first_commits(vault.catalogue, find_ids(vault.catalogue, digests))
    for name in dict.fromkeys(commit.manifest for commit in commits.values()):
        try:
            yield vault.load_manifest(name)
        except VaultError:
            # Damaged as well, which is said by itself.
            continue


def _tensors_with(manifest: Manifest, digest: bytes) -> Iterator[tuple[StoredTensor, int]]:
    """Yields tensors that have a chunk, and with which of their elements it begins."""
    for tensor in list_tensors(manifest):
        digests = [piece.digest for piece in tensor.pieces]
        if digest in digests:
            before = tensor.pieces[: digests.index(digest)]
            yield tensor, tensor.count(sum(piece.raw_bytes for piece in before))


class _Inputs:
    """The tensors that a damaged frame names (guesses.kinds.Pool): each in all arrangements, since
    nothing tells how the lost tensor lay."""

    def __init__(self, vault: Repository, reader: ChunkReader, place: Location) -> None:
        self.kept: dict[object, object] = {}
        self._reader = reader
        self._place = place
        wanted = set(place.inputs)
        tensors = (
            tensor
            for manifest in _manifests(vault, place.inputs)
            for tensor in list_tensors(manifest)
        )
        found = {t.pieces: t for t in tensors if wanted & {piece.digest for piece in t.pieces}}
        self._tensors = list(found.values())

    def all_tensors(self) -> Iterator[StoredTensor]:
        """See Pool.all_tensors."""
        return iter(self._tensors)

    def matches(self, target: Target, view: View) -> Iterator[Match]:
        """See Pool.matches."""
        for tensor in self._tensors:
            if tensor.elements == view.elements and view.admits(tensor):
                for way in arrangements(view.shape, tensor.shape):
                    yield Match(tensor, way, 0.0)

    def recipes(
        self, backend: Backend, manifest: Manifest, tensor: StoredTensor, first: int
    ) -> Iterator[Recipe]:
        """Yields what may have given the elements of a tensor from `first` on."""
        place = self._place
        try:
            left = backend.get(pack_key(place.pack), place.offset, place.offset + place.frame_bytes)
        except StoreError:
            left = b""
        salvaged = derived_frames.salvage_recipe(left, place.inputs)
        if salvaged is not None:
            yield salvaged
        companions = Companions(lambda: list_companions(manifest))
        target = Target(tensor, _no_values, companions, StoredValues(self._load))
        unknown = np.zeros(place.raw_bytes, np.uint8)
        try:
            for _, guess in registry.guesses(target, self):
                recipe = guess.recipe(first, unknown)
                if recipe is not None and recipe.inputs == place.inputs:
                    yield recipe
        except (VaultError, FrameError):
            # A kind that looks at the target itself, or at a companion that is lost, too.
            return

    def try_recipe(self, recipe: Recipe, dtype: str) -> bytes | None:
        """Returns the frame of the chunk if the recipe gives it exactly."""
        raw, size = np.empty(self._place.raw_bytes, np.uint8), block_size(dtype)
        digest = self._place.digest
        try:
            prediction = Prediction(recipe, dtype, raw.size, self._load)
            for start in range(0, raw.size, size):
                prediction.fill(start, raw[start : start + size])
            if blake3(raw.data, max_threads=1).digest() != digest:
                return None
            return derived_frames.encode(
                raw.data, dtype, digest, recipe, self._load, most_bytes=raw.size
            )
        except (FrameError, VaultError):
            # A recipe that does not fit, or an input that is damaged as well.
            return None

    def _load(self, digest: bytes, _size: int) -> Raw:
        return view_bytes(self._reader.read_input(digest, DERIVED))


def _no_values(_places: NDArray[np.intp]) -> NDArray[np.float32]:
    raise ChunksMissing("the values of a damaged tensor are not known")
