"""Memory that is used again: never while anybody refers to it, and not more of it than allowed."""

import gc
import random
import threading
from contextlib import suppress

import numpy as np
import pytest
from blake3 import blake3
from safetensors.numpy import save_file
from vaults import open_local

from weightvault.codecs.errors import CorruptFrame
from weightvault.codecs.frame import parse_header
from weightvault.codecs.pipeline import decode_tensor, encode_into, encode_tensor
from weightvault.dedup.model.files.entries import ChunkUse
from weightvault.dedup.model.files.segments import CHUNK_BYTES
from weightvault.dedup.reading.base_cache import BaseCache
from weightvault.dedup.reading.buffer_pool import (
    BUFFER_BYTES,
    BUFFERS,
    LEAST_BYTES,
    SPARE_BUFFERS,
    BufferPool,
)
from weightvault.dedup.reading.chunk_reader import ChunkReader
from weightvault.dedup.transfer.push import push

SIZE = LEAST_BYTES + 1


def address(room) -> int:
    return np.frombuffer(room, np.uint8).ctypes.data


@pytest.mark.parametrize(
    "hold",
    [
        lambda room: room,
        lambda room: room[5:9],
        lambda room: room[5:][1:].view(np.int8),
        lambda room: room.data,
        lambda room: room.data[7:][:3],
        lambda room: memoryview(room).cast("b")[1:2],
        lambda room: np.frombuffer(room.data[3:90], np.uint8)[1:],
        lambda room: room.reshape(-1, 1).T,
        lambda room: iter(room),
        lambda room: decode_tensor(encode_tensor(bytes(SIZE), "U8"), out=room),
        lambda room: encode_into(room, b"abc", "U8"),
    ],
)
def test_memory_is_not_used_again_while_any_part_of_it_is_held(hold):
    rooms = BufferPool()
    room = rooms.take(SIZE)
    place = address(room)
    held = hold(room)
    del room
    other = rooms.take(SIZE)
    assert address(other) != place
    del held, other
    assert place in {address(room) for room in [rooms.take(SIZE), rooms.take(SIZE)]}


def test_memory_is_used_again_and_no_more_of_it_kept_than_allowed():
    rooms = BufferPool(spare_rooms=2)
    held = [rooms.take(SIZE) for _ in range(5)]
    places = {address(room) for room in held}
    assert len(places) == 5
    held.clear()
    assert len(rooms._spare) == 2
    assert {address(room) for room in [rooms.take(BUFFER_BYTES), rooms.take(SIZE)]} < places


@pytest.mark.parametrize("size", [0, 1, LEAST_BYTES - 1, BUFFER_BYTES + 1])
def test_other_sizes_get_memory_of_their_own(size):
    rooms = BufferPool()
    room = rooms.take(size)
    assert room.size == size
    assert room.flags.owndata
    del room
    assert not rooms._spare


def test_an_error_lets_go_of_memory():
    rooms = BufferPool()
    frame = bytearray(encode_tensor(random.Random(0).randbytes(SIZE), "U8"))
    frame[-1] ^= 1
    with suppress(CorruptFrame):
        decode_tensor(frame, out=rooms.take(SIZE))
    gc.collect()
    assert len(rooms._spare) == 1


def test_threads_never_share_memory():
    rooms = BufferPool()
    wrong = []

    def work(mark: int) -> None:
        held = []
        for turn in range(30):
            room = rooms.take(SIZE)
            room[:: SIZE // 64] = mark
            held = [*held[-(turn % 3) :], room] if turn % 3 else [room]
            wrong.extend(1 for old in held if (old[:: SIZE // 64] != mark).any())

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def make_chunks(count: int) -> dict[bytes, bytes]:
    """Chunks as large as there are, hard to compress but for their ends, by digest."""
    found = {}
    for seed in range(count):
        raw = random.Random(seed).randbytes(1 << 20) + bytes(CHUNK_BYTES - (1 << 20))
        found[blake3(raw).digest()] = raw
    return found


def test_chunks_that_are_held_keep_their_bytes():
    """All pieces of a read are held to its end, as a slow socket might, with a cache of bases."""
    chunks = make_chunks(4)
    (base, raw), *others = chunks.items()
    frames = {base: encode_tensor(raw, "U8")}
    for digest, other in others:
        frames[digest] = encode_tensor(other, "U8", base=raw)
        assert parse_header(frames[digest]).base_digest in (base, None)
    cache = BaseCache(2 * CHUNK_BYTES)
    reader = ChunkReader(lambda digests: (frames[d] for d in digests), cache)
    uses = [ChunkUse(d, 0, len(r), "U8") for d, r in chunks.items()]
    held = list(reader.read(uses))
    held.append(memoryview(reader.read_input(uses[0].digest, 1)))
    again = list(ChunkReader(lambda digests: (frames[d] for d in digests), cache).read(uses))
    for use, piece in zip([*uses, uses[0], *uses], [*held, *again], strict=True):
        assert blake3(piece).digest() == use.digest
    del held, again
    assert len(BUFFERS._spare) <= SPARE_BUFFERS


def test_what_is_sent_late_is_what_was_read(tmp_path):
    """Parts of a file's pieces outlive the pieces, like what a transport has not sent yet."""
    tensors = [np.frombuffer(raw, np.uint8) for raw in make_chunks(4).values()]
    (tmp_path / "in").mkdir()
    save_file({f"t{i}": part for i, part in enumerate(tensors)}, tmp_path / "in" / "w.safetensors")
    vault = open_local(tmp_path / "vault")
    push(vault, tmp_path / "in", "o/n")
    late, at = [], 0
    for piece in vault.read_file("o/n", "main", "w.safetensors")[2]:
        view = memoryview(piece)
        late.append((at, view[: len(view) // 3][:1000]))
        at += len(view)
    raw = (tmp_path / "in" / "w.safetensors").read_bytes()
    assert at == len(raw)
    assert all(part == raw[begin : begin + len(part)] for begin, part in late)
