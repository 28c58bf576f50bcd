"""The shared pool: order, errors, and who works."""

import sys
import threading
import time

import numpy as np
import pytest

from weightvault.codecs.blocks.assembly import Body
from weightvault.codecs.buffers import NewBytes
from weightvault.codecs.frame import checksum_block
from weightvault.codecs.threads import join_parts, map_all, resolve_threads


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order(threads):
    assert map_all(lambda i: i * i, range(100), threads) == [i * i for i in range(100)]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_error_comes_out_and_ends_it(threads):
    seen = []

    def fail_at_three(i):
        seen.append(i)
        if i == 3:
            raise RuntimeError("three")
        time.sleep(0.001)
        return i

    with pytest.raises(RuntimeError, match="three"):
        map_all(fail_at_three, range(1000), threads)
    assert len(seen) < 20


def test_nobody_works_on_after_an_error():
    """Whoever got the error may free what the items work on."""
    working = []

    def fail_first(i):
        if i == 0:
            time.sleep(0.01)
            raise RuntimeError("first")
        working.append(i)
        time.sleep(0.05)
        working.remove(i)

    with pytest.raises(RuntimeError, match="first"):
        map_all(fail_first, range(50), 3)
    assert not working


def test_one_thread_is_the_callers():
    names = set(map_all(lambda _: threading.current_thread().name, range(5), 1))
    assert names == {threading.current_thread().name}


def test_the_caller_does_not_wait_for_a_busy_pool():
    """Whoever codes from inside the pool itself must not wait for places it fills."""

    def inner(i):
        return sum(map_all(lambda j: i * j, range(10), 8))

    assert map_all(inner, range(40), 8) == [45 * i for i in range(40)]


def test_no_threads_make_no_sense():
    with pytest.raises(ValueError, match="threads"):
        resolve_threads(0)


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_parts_are_joined(size):
    parts = [b"head", np.arange(size, dtype=np.uint8), b"", np.full(size, 7, np.uint8)]
    expected = b"".join(bytes(part) for part in parts)
    joined = join_parts(parts, 2)
    assert isinstance(joined, bytes)
    assert joined == expected
    assert hash(joined) == hash(expected)


def test_new_bytes_are_like_any_others_and_freed_like_them():
    for size, kept in [(10, 10), (10, 3), (5_000_000, 5_000_000), (5_000_000, 1), (40_000_000, 7)]:
        new = NewBytes(size)
        new.view[:] = np.arange(size, dtype=np.uint8)
        made = new.finish(kept)
        expected = np.arange(kept, dtype=np.uint8).tobytes()
        assert (type(made), len(made), made, hash(made)) == (bytes, kept, expected, hash(expected))
        assert made + b"!" == expected + b"!"
        del new
        assert made == expected
        assert sys.getrefcount(made) == 2
    NewBytes(1 << 30)  # never filled, never finished: given back all the same


@pytest.mark.parametrize("threads", [1, 4])
def test_blocks_lie_in_their_order_whoever_is_first(threads):
    """The first block takes longest, so that others wait for it."""

    def code(index, out):
        time.sleep(0.02 if index % 3 == 0 else 0)
        out[: index + 1] = index
        return index + 1

    body = Body(10, 100 * 8 - 3, 100)
    placed = body.encode(code, threads)
    frame = body.finish(b"head")
    blocks = [bytes([index]) * (index + 1) for index in range(8)]
    assert frame == b"head" + b"".join(blocks)
    assert [block.stored_bytes for block in placed] == list(range(1, 9))
    assert [block.checksum for block in placed] == [checksum_block(block) for block in blocks]
