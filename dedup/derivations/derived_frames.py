"""Derived frames: encodes a chunk against what a recipe gives, and decodes it (FORMAT.md, "Derived
frames")."""

from __future__ import annotations

import numpy as np
from blake3 import blake3

from ...codecs import derived
from ...codecs.buffers import view_bytes
from ...codecs.errors import CorruptFrame, FrameError
from ...codecs.frame import FrameHeader, recipe_bytes
from .predict import Load, LoadPart, Prediction
from .recipe import Recipe, pack_recipe, parse_recipe

Buffer = bytes | bytearray | memoryview


def encode(
    raw: Buffer,
    dtype: str,
    digest: bytes,
    recipe: Recipe,
    load: Load,
    *,
    level: str = "default",
    columns: int = 0,
    most_bytes: int,
) -> bytes | None:
    """Returns the frame of a chunk that holds `raw`, with the recipe; None where it would take more
    than `most_bytes`. `columns`: elements in a row, where some may have been set to zero; else 0.
    Raises InvalidRecipe where the recipe does not fit the chunk."""
    data = view_bytes(raw)
    prediction = Prediction(recipe, dtype, data.size, load)
    packed = pack_recipe(recipe)
    frame = derived.encode_derived(
        data,
        dtype,
        digest,
        recipe.inputs,
        packed,
        prediction,
        level=level,
        columns=columns,
        most_bytes=most_bytes,
    )
    return None if frame is None else bytes(frame)


def read_recipe(header: FrameHeader) -> Recipe:
    """Returns the recipe of a derived frame. Raises InvalidRecipe."""
    return parse_recipe(header.recipe, header.recipe_inputs)


def salvage_recipe(frame: Buffer, inputs: tuple[bytes, ...]) -> Recipe | None:
    """Returns the recipe in what is left of a derived frame over `inputs`; None where it is damaged
    itself. Nothing says that it is the one that was there."""
    try:
        return parse_recipe(recipe_bytes(frame, len(inputs)), inputs)
    except FrameError:
        return None


def decode(
    frame: Buffer,
    header: FrameHeader,
    load: Load,
    start: int,
    stop: int,
    out: Buffer,
    *,
    load_part: LoadPart | None = None,
) -> memoryview:
    """Decodes the raw bytes [start, stop) of a derived frame into `out`, of that length, and
    returns a view of it; whole chunks are checked against their digest. Raises CorruptFrame kinds,
    and what `load` raises, or `load_part`, where inputs are read by parts."""
    room = np.frombuffer(out, np.uint8)
    prediction = Prediction(read_recipe(header), header.dtype, header.raw_bytes, load, load_part)
    derived.decode_derived(header, view_bytes(frame), start, prediction, room)
    whole = start == 0 and stop == header.raw_bytes
    if whole and blake3(room.data, max_threads=1).digest() != header.digest:
        raise CorruptFrame("the decoded tensor does not match its digest")
    return memoryview(out)
