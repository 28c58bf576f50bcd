"""Frames with a base that any version wrote decode for ever, and a second decoder agrees."""

import numpy as np
import pytest
from delta_samples import KINDS, sample_pair
from frame_reference import decode_frame
from tensor_samples import DTYPES

from weightvault.codecs.frame import parse_header
from weightvault.codecs.pipeline import LEVELS, decode_tensor, encode_tensor


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_second_decoder_agrees(dtype, kind, level):
    raw, base = sample_pair(kind, dtype, 10_001, 5)
    frame = encode_tensor(raw, dtype, base=base, level=level, columns=100)
    assert decode_frame(frame, base) == raw
    assert bytes(decode_tensor(frame, base=base)) == raw


@pytest.mark.parametrize("codec", ["difference", "sparse", "xor-context"])
@pytest.mark.parametrize("dtype", ["BF16", "F32", "F8_E5M2", "I64"])
def test_the_second_decoder_knows_every_codec(dtype, codec):
    raw, base = sample_pair("rare", dtype, 9_001, 5)
    frame = encode_tensor(raw, dtype, base=base, codec=codec)
    assert parse_header(frame).codec == codec
    assert decode_frame(frame, base) == raw


def test_the_second_decoder_follows_a_row_map():
    raw, base = sample_pair("tuned", "BF16", 40_000, 5)
    new = np.random.default_rng(1).bytes(5_000)
    longer = raw[:20_000] + new + raw[20_000:]
    rows = [(0, 0, 20_000), (25_000, 20_000, 20_000)]
    frame = encode_tensor(longer, "BF16", base=base, rows=rows)
    assert parse_header(frame).rows == tuple(rows)
    assert decode_frame(frame, base) == longer
