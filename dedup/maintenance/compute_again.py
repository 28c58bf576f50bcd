"""Computes chunks again whose derived frames are damaged, from their inputs: by the recipe in what
is left of the frame, else by those that a copy of such a tensor may have. What comes out is right
if it has the chunk's digest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from blake3 import blake3

from ...codecs.buffers import view_bytes
from ...codecs.derived import block_size
from ...codecs.dtypes import find_dtype
from ...codecs.errors import FrameError
from ...store.backend import Backend
from ...store.catalogue.encode_queue import first_commits
from ...store.catalogue.sketches.sketches import find_ids
from ...store.catalogue.tables.rows import Location
from ...store.errors import StoreError
from ...store.object_keys import pack_key
from ...store.packs import DERIVED
from ..derivations import derived_frames
from ..derivations.predict import Prediction
from ..derivations.propose import StoredTensor, arrangements, guess
from ..derivations.recipe import Recipe
from ..errors import VaultError
from ..reading.chunk_reader import ChunkReader
from ..repository.repository import Repository
from ..similarity.sources import list_tensors


def compute_again(
    vault: Repository, backend: Backend, reader: ChunkReader, place: Location
) -> bytes | None:
    """Returns a new frame of the chunk that should lie at `place`, a derived one; None where its
    inputs cannot be read, or do not give it."""
    for target, first in _tensors_with(vault, place.digest):
        for recipe in _recipes(vault, backend, place, target, first):
            frame = _try(recipe, target.dtype, place, reader)
            if frame is not None:
                return frame
    return None


def _tensors_with(vault: Repository, digest: bytes) -> Iterator[tuple[StoredTensor, int]]:
    """Yields tensors that have a chunk, and with which of their elements it begins."""
    commits = first_commits(vault.catalogue, find_ids(vault.catalogue, [digest]))
    for commit in commits.values():
        try:
            manifest = vault.load_manifest(commit.manifest)
        except VaultError:
            continue
        for tensor in list_tensors(manifest):
            digests = [piece.digest for piece in tensor.pieces]
            if digest in digests:
                before = tensor.pieces[: digests.index(digest)]
                yield tensor, _elements(tensor.dtype, sum(piece.raw_bytes for piece in before))


def _elements(dtype: str, raw_bytes: int) -> int:
    kind = find_dtype(dtype)
    return raw_bytes // (kind.item_bytes * kind.group_bytes) * kind.group_elements


def _recipes(
    vault: Repository, backend: Backend, place: Location, target: StoredTensor, first: int
) -> Iterator[Recipe]:
    try:
        left = backend.get(pack_key(place.pack), place.offset, place.offset + place.frame_bytes)
    except StoreError:
        left = b""
    salvaged = derived_frames.salvage_recipe(left, place.inputs)
    if salvaged is not None:
        yield salvaged
    sources = (source for source, _ in _tensors_with(vault, place.inputs[0]))
    count = _elements(target.dtype, place.raw_bytes)
    for source in sources:
        for way in arrangements(target.shape, source.shape):
            for guessed in guess(target, source, way):
                recipe = guessed.recipe(first, count)
                if recipe is not None and recipe.inputs == place.inputs:
                    yield recipe


def _try(recipe: Recipe, dtype: str, place: Location, reader: ChunkReader) -> bytes | None:
    """Returns the frame of a chunk with a recipe that gives it exactly; None for any other."""

    def load(digest: bytes, _size: int) -> np.ndarray:
        return view_bytes(reader.read_input(digest, DERIVED))

    raw = np.empty(place.raw_bytes, np.uint8)
    size = block_size(dtype)
    try:
        prediction = Prediction(recipe, dtype, raw.size, load)
        for start in range(0, raw.size, size):
            prediction.fill(start, raw[start : start + size])
        if blake3(raw.data, max_threads=1).digest() != place.digest:
            return None
        return derived_frames.encode(
            raw.data, dtype, place.digest, recipe, load, most_bytes=raw.size
        )
    except (FrameError, VaultError):
        # A recipe that does not fit, or an input that is damaged as well.
        return None
