"""Derived frames of pruned copies: blocks that say which elements were set to zero."""

from __future__ import annotations

from pathlib import Path

import pytest
from frame_surgery import stored_blocks, with_blocks
from operation_samples import make_words
from pruned_samples import COLUMNS, KINDS, ROWS, encode, make_source, prune

from weightvault.codecs.derived import CUT
from weightvault.codecs.errors import FrameError
from weightvault.codecs.frame import parse_header
from weightvault.dedup.derivations import derived_frames
from weightvault.dedup.derivations.operations.values import Values

GOLDEN = Path(__file__).parent / "golden"


def decode(frame: bytes, source: Values, start: int = 0, stop: int | None = None) -> bytes:
    header = parse_header(frame)
    stop = header.raw_bytes if stop is None else stop
    out = bytearray(stop - start)
    derived_frames.decode(frame, header, lambda *_: source.raw, start, stop, out)
    return bytes(out)


@pytest.mark.parametrize(
    ("kind", "most_bits"), [("magnitude", 0.05), ("random", 1.1), ("tuned", 3.3), ("signed", 0.05)]
)
def test_a_pruned_copy_takes_little_beside_its_source(kind: str, most_bits: float):
    source = make_source(rows=1024)
    target = prune(source, kind)
    frame = encode(source, target)
    (block,) = stored_blocks(frame)
    assert block[0] == CUT
    assert 8 * len(block) <= most_bits * target.size
    assert decode(frame, source) == target.tobytes()


def test_blocks_are_whole_rows_and_decode_alone():
    source = make_source(rows=12_000)
    target = prune(source, "magnitude")
    frame = encode(source, target)
    header = parse_header(frame)
    assert header.block_bytes % (2 * COLUMNS) == 0
    assert len(list(header.spans())) == 2
    start = header.block_bytes - 100
    assert decode(frame, source, start, start + 300) == target.tobytes()[start : start + 300]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_stays_readable(kind: str):
    source = make_source()
    frame = (GOLDEN / f"pruned-{kind}.frame").read_bytes()
    assert stored_blocks(frame)[0][0] == CUT
    assert decode(frame, source) == prune(source, kind).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_blocks_are_refused_or_give_something(kind: str):
    source = make_source()
    frame = encode(source, prune(source, kind))
    (block,) = stored_blocks(frame)
    refused = 0
    for at, word in enumerate(make_words(120, 3).tolist()):
        damaged = bytearray(block)
        if at % 3:
            damaged[1 + (word >> 8) % (len(block) - 1)] ^= word & 255 | 1
        else:
            del damaged[1 + (word >> 8) % (len(block) - 1) :]
        try:
            raw = decode(with_blocks(frame, [bytes(damaged)]), source, 0, 2 * ROWS * COLUMNS - 2)
            assert len(raw) == 2 * ROWS * COLUMNS - 2
        except FrameError:
            refused += 1
    assert refused >= 40
