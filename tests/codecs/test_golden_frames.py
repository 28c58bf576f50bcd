"""What any version wrote decodes for ever, by the decoder and by a second one written from
FORMAT.md.
"""

from pathlib import Path

import pytest
from frame_reference import decode_frame
from tensor_samples import sample_bytes

from weightvault.codecs.frame import CODEC_IDS, parse_header
from weightvault.codecs.pipeline import LEVELS, decode_tensor, encode_tensor

GOLDEN = Path(__file__).parent / "golden"
FRAMES = sorted(path.name for path in GOLDEN.glob("*.frame"))


def _base_of(frame: bytes) -> bytes | None:
    wanted = parse_header(frame).base_digest
    if wanted is None:
        return None
    for path in GOLDEN.glob("*.frame"):
        header = parse_header(path.read_bytes())
        if header.digest == wanted and header.base_digest is None:
            return bytes(decode_tensor(path.read_bytes()))
    raise AssertionError("the base is not among the golden frames")


def _codec_of(name: str) -> str:
    return max((codec for codec in CODEC_IDS if name.startswith(f"v1-{codec}-")), key=len)


@pytest.mark.parametrize("name", FRAMES)
def test_a_golden_frame_decodes_twice(name):
    frame = (GOLDEN / name).read_bytes()
    base = _base_of(frame)
    raw = bytes(decode_tensor(frame, base=base))
    assert decode_frame(frame, base or b"") == raw
    assert parse_header(frame).codec == _codec_of(name)


def test_every_codec_has_a_golden_frame():
    # Those of derived frames are with their operations.
    assert {_codec_of(name) for name in FRAMES} == set(CODEC_IDS) - {"derived"}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["weights", "pruned", "few", "runs", "random"])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64", "I16", "F8_E4M3"])
def test_the_second_decoder_agrees(dtype, kind, level):
    raw = sample_bytes(kind, dtype, 20_001, 7)
    base = sample_bytes("weights", dtype, 20_001, 7)
    assert decode_frame(encode_tensor(raw, dtype, level=level)) == raw
    assert decode_frame(encode_tensor(raw, dtype, level=level, base=base), base) == raw
