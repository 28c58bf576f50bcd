"""Blocks of quantised tensors that are coded in stages, each predicted from those before it."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from gguf_samples import make_edges
from hypothesis import given, settings
from hypothesis import strategies as st
from staged_samples import (
    GOLDEN_KINDS,
    encode,
    make_pair,
    make_random,
    make_recipe,
    quantise,
)

from weightvault.codecs.blocks.parallel import choose_effort
from weightvault.codecs.buffers import view_bytes
from weightvault.codecs.delta.blocks import IDENTICAL, PATCH
from weightvault.codecs.dtypes import find_dtype
from weightvault.codecs.errors import CorruptFrame, UnsupportedFrame
from weightvault.codecs.frame import checksum_block, pack_derived, parse_header
from weightvault.codecs.quantised import staged
from weightvault.codecs.rans.streams import StreamReader
from weightvault.dedup.derivations import derived_frames
from weightvault.dedup.derivations.operations.gguf.layout import KINDS, find_geometry
from weightvault.dedup.derivations.predict import Prediction

GOLDEN = Path(__file__).parent / "golden"


def decode(frame: bytes, source: np.ndarray, start: int = 0, stop: int | None = None) -> bytes:
    header = parse_header(frame)
    stop = header.raw_bytes if stop is None else stop
    out = bytearray(stop - start)
    derived_frames.decode(frame, header, lambda *_: source.view(np.uint8), start, stop, out)
    return bytes(out)


def stored_block(frame: bytes) -> bytes:
    return frame[parse_header(frame).body_offset :]


def with_block(frame: bytes, block: bytes) -> bytes:
    """A frame of one block with another one in its place."""
    header = parse_header(frame)
    assert len(list(header.spans())) == 1
    head = pack_derived(
        header.dtype,
        header.raw_bytes,
        header.digest,
        header.recipe_inputs,
        header.recipe,
        header.block_bytes,
        [(len(block), checksum_block(block))],
    )
    return head + block


@pytest.mark.parametrize("kind", KINDS)
def test_a_near_source_tells_nearly_all(kind: str):
    groups, source = make_pair(kind, 64)
    frame = encode(kind, groups, source)
    assert decode(frame, source) == groups.tobytes()
    assert stored_block(frame)[0] in (IDENTICAL, PATCH, staged.STAGED)
    assert len(stored_block(frame)) < 0.3 * groups.size


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_any_groups_come_back(kind: str, data: st.DataObject):
    count = data.draw(st.integers(1, 4))
    elements = 256 * count
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 2**32, elements, np.uint32).view(np.float32)
    if data.draw(st.booleans()):
        source = rng.normal(0, 0.02, elements).astype(np.float32)
    with np.errstate(all="ignore"):
        groups = quantise(kind, source * np.float32(data.draw(st.floats(0.5, 2, width=32))))
    changed = rng.random(groups.size) < data.draw(st.sampled_from([0, 0.01, 1]))
    groups[changed] = rng.integers(0, 256, int(changed.sum()), np.uint8)
    frame = encode(kind, groups, source)
    assert decode(frame, source) == groups.tobytes()
    unit = find_geometry(kind).block_bytes
    start = unit * data.draw(st.integers(0, groups.size // unit - 1))
    assert decode(frame, source, start, groups.size) == groups[start:].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_sources_that_no_tensor_has(kind: str):
    source = make_edges()
    size = find_geometry(kind)
    groups = make_random(kind, source.size // size.elements)
    assert decode(encode(kind, groups, source), source) == groups.tobytes()
    stages = staged_bytes(kind, groups, source)
    out = np.empty(groups.size, np.uint8)
    unstage(kind, stages, source, out)
    assert out.tobytes() == groups.tobytes()


def predict(kind: str, source: np.ndarray, size: int) -> tuple[Prediction, np.ndarray]:
    prediction = Prediction(make_recipe(source), kind, size, lambda *_: source.view(np.uint8))
    first = np.empty(size, np.uint8)
    prediction.fill(0, first)
    return prediction, first


def staged_bytes(kind: str, groups: np.ndarray, source: np.ndarray) -> bytes:
    """The block of groups in stages, though another layout were smaller."""
    prediction, first = predict(kind, source, groups.size)
    plan = staged.plan_staged(
        groups, first, find_dtype(kind), partial(prediction.refine, 0), choose_effort("max", "")
    )
    parts: list[bytes] = []
    plan.write(lambda part: parts.append(bytes(part)))
    return b"".join(parts)


def unstage(kind: str, block: bytes, source: np.ndarray, out: np.ndarray) -> None:
    prediction, _ = predict(kind, source, out.size)
    reader = StreamReader(view_bytes(block), 1)
    staged.decode_staged(reader, find_dtype(kind), partial(prediction.refine, 0), out)
    reader.finish()


@pytest.mark.parametrize("kind", GOLDEN_KINDS)
def test_golden_frames_decode_as_they_always_did(kind: str):
    groups, source = make_pair(kind)
    frame = (GOLDEN / f"staged-{kind}.frame").read_bytes()
    assert stored_block(frame)[0] == staged.STAGED
    assert decode(frame, source) == groups.tobytes()


@pytest.mark.parametrize("kind", ["Q4_K", "Q8_0", "Q5_1"])
def test_corrupt_stages_are_refused(kind: str):
    groups, source = make_pair(kind, 8)
    rng = np.random.default_rng(5)
    groups[rng.integers(0, groups.size, 200)] ^= 5
    block = staged_bytes(kind, groups, source)
    out, refused = np.empty(groups.size, np.uint8), 0
    cuts = [block[:end] for end in (1, 2, 6, 20, len(block) // 2, len(block) - 1)]
    flips = []
    for at in range(1, len(block), max(1, len(block) // 150)):
        changed = bytearray(block)
        changed[at] ^= 1 << int(rng.integers(8))
        flips.append(bytes(changed))
    for bad in [*cuts, *flips, block + b"\0"]:
        try:
            unstage(kind, bad, source, out)
        except (CorruptFrame, UnsupportedFrame):
            refused += 1
    assert refused >= len(cuts) + 1


def test_a_field_has_no_more_than_its_bits():
    groups, source = make_pair("Q4_K", 8)
    prediction, _ = predict("Q4_K", source, groups.size)
    head = (b"\1" + (1).to_bytes(4, "little")) + b"\0"
    quants = (b"\1" + (1).to_bytes(4, "little")) + bytes([16])
    reader = StreamReader(view_bytes(head + quants), 0)
    refine = partial(prediction.refine, 0)
    with pytest.raises(CorruptFrame, match="no bits"):
        staged.decode_staged(reader, find_dtype("Q4_K"), refine, groups)


def test_stages_belong_to_types_that_have_them():
    values = np.linspace(-1, 1, 512, dtype=np.float32)
    frame = encode("Q8_0", quantise("Q8_0", values), values)
    bad = with_block(frame, bytes([staged.STAGED]))
    with pytest.raises(CorruptFrame, match="ends inside"):
        decode(bad, values)
    reader, whole = StreamReader(view_bytes(b""), 0), np.zeros(292, np.uint8)
    with pytest.raises(CorruptFrame, match="stages"):
        staged.decode_staged(reader, find_dtype("Q8_K"), no_refining, whole)


def no_refining(known: int, groups: np.ndarray, out: np.ndarray, margins: np.ndarray) -> None:
    raise AssertionError("nothing is known to refine")
