"""What it takes to add a codec: its module, and a line in the registry."""

import sys
from types import ModuleType

import pytest

from weightvault.codecs import frame as frames
from weightvault.codecs.errors import CorruptFrame
from weightvault.codecs.frame import parse_header
from weightvault.codecs.pipeline import decode_range, decode_tensor, encode_tensor
from weightvault.codecs.registry import BY_ID, CODECS, CODERS, Codec, Job

RAW = bytes(range(256)) * 64
ALTERNATING = Codec("alternating", 200, "alternating", lambda _, there: max(2, there))


def encode(job: Job) -> list[frames.Buffer]:
    period = 256
    if bytes(job.data) != bytes(job.data[:period]) * (job.data.size // period):
        return []
    body = job.data[:period].tobytes()
    head = frames.pack_flat("alternating", job.dtype.name, job.data.size, job.digest, body)
    return [head + body]


def decode(header, frame, start, base, threads, out) -> None:
    body = bytes(frame[header.body_offset :])
    if frames.checksum_body(body) != header.body_checksum:
        raise CorruptFrame("the body does not match its checksum")
    whole = body * (header.raw_bytes // len(body))
    out[:] = memoryview(whole)[start : start + out.size]


@pytest.fixture
def alternating(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("weightvault.codecs.alternating")
    module.encode, module.decode = encode, decode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(CODECS, ALTERNATING.name, ALTERNATING)
    monkeypatch.setitem(BY_ID, ALTERNATING.id, ALTERNATING)


@pytest.mark.usefixtures("alternating")
def test_a_codec_of_the_registry_is_one_of_the_package():
    frame = encode_tensor(RAW, "U8", codec="alternating")
    assert parse_header(frame).codec == "alternating"
    assert len(frame) < len(RAW) // 10
    assert bytes(decode_tensor(frame)) == RAW
    assert bytes(decode_range(frame, 100, 700)) == RAW[100:700]
    damaged = frame[:-1] + bytes([frame[-1] ^ 1])
    with pytest.raises(CorruptFrame):
        decode_tensor(damaged)


@pytest.mark.usefixtures("alternating")
def test_a_codec_that_has_no_frame_leaves_the_tensor_raw():
    frame = encode_tensor(RAW + b"x" * 256, "U8", codec="alternating")
    assert parse_header(frame).codec == "raw"


def test_ids_and_names_stand_for_one_codec_each():
    assert len(BY_ID) == len(CODECS) == 13
    assert list(CODERS) == ["flat", "texts", "multiples", "tensors"]
    assert all(codec.needs_base for codec in CODECS.values() if codec.any_base)
