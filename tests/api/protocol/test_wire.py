"""Frames in a body, and Range headers."""

import pytest

from weightvault.api.errors import RangeNotSatisfiable
from weightvault.api.protocol.wire import MAX_FRAME_BYTES, split_frames
from weightvault.api.sending.frames_body import FramesBody
from weightvault.api.sending.ranges import parse_range
from weightvault.dedup.errors import Conflict, Unreachable

FRAMES = [b"first", b"", b"x" * 1000]


def frames_body(frames: list[bytes]) -> FramesBody:
    """A body of frames whose digests are their numbers."""
    digests = [bytes([number]) for number in range(len(frames))]
    return FramesBody(lambda wanted: (frames[digest[0]] for digest in wanted), digests)


BODY = b"".join(map(bytes, frames_body(FRAMES).read(0, 0)))


def test_lengths_are_little_endian() -> None:
    assert b"".join(map(bytes, frames_body([b"ab"]).read(0, 0))) == b"\2\0\0\0\0\0\0\0ab"


def test_a_body_goes_on_from_any_place_that_was_reached() -> None:
    for at in range(len(BODY) + 1):
        body = frames_body(FRAMES)
        sent = b""
        for piece in body.read(0, 0):
            sent += piece
            if len(sent) >= at:
                break
        assert sent[:at] + b"".join(map(bytes, body.read(at, 0))) == BODY


def test_the_rest_of_another_frame_is_not_sent_for_the_rest_of_one() -> None:
    frames = [b"first frame", b"second"]
    body = frames_body(frames)
    pieces = body.read(0, 0)
    assert len(next(pieces)) + len(next(pieces)) == 19
    frames[0] = b"FIRST FRAME"
    with pytest.raises(Conflict, match="re-encoded"):
        list(body.read(10, 0))
    assert b"".join(map(bytes, body.read(19, 0)))[8:] == b"second"


@pytest.mark.parametrize("piece_bytes", [1, 7, 8, 100, len(BODY)])
def test_frames_survive_any_cutting_of_the_body(piece_bytes: int) -> None:
    pieces = (BODY[i : i + piece_bytes] for i in range(0, len(BODY), piece_bytes))
    assert list(split_frames(pieces, len(FRAMES))) == FRAMES


def test_every_shorter_body_is_refused() -> None:
    for length in range(len(BODY)):
        with pytest.raises(Unreachable, match="broke off"):
            list(split_frames(iter([BODY[:length]]), len(FRAMES)))


def test_more_than_was_asked_for_is_refused() -> None:
    with pytest.raises(Unreachable, match="more frames"):
        list(split_frames(iter([BODY, b"\0"]), len(FRAMES)))
    with pytest.raises(Unreachable, match="more frames"):
        list(split_frames(iter([BODY]), len(FRAMES) - 1))


@pytest.mark.parametrize("length", [MAX_FRAME_BYTES + 1, 2**63, 2**64 - 1])
def test_an_impossible_length_is_refused_before_reading_on(length: int) -> None:
    def pieces():
        yield length.to_bytes(8, "little")
        pytest.fail("read on after an impossible length")

    with pytest.raises(Unreachable, match="announced a frame"):
        list(split_frames(pieces(), 1))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 6)),
        ("bytes=2-", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=9-99", (9, 10)),
        ("bytes=0-1,3-4", None),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("items=0-1", None),
        ("bytes=٣-٤", None),
        (f"bytes=0-{'9' * 5000}", None),
    ],
)
def test_range_of_ten_bytes(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_range_without_a_byte(header: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        parse_range(header, size)
    assert caught.value.size == size
