"""The shared pool: order, errors, and how much is under way at a time."""

import threading

import numpy as np
import pytest

from weightvault.codecs.pool import join_parts, map_ordered, resolve_threads


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order(threads):
    assert list(map_ordered(lambda i: i * i, range(100), threads)) == [i * i for i in range(100)]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_error_comes_out_and_ends_it(threads):
    seen = []

    def fail_at_three(i):
        seen.append(i)
        if i == 3:
            raise RuntimeError("three")
        return i

    with pytest.raises(RuntimeError, match="three"):
        list(map_ordered(fail_at_three, range(1000), threads))
    assert len(seen) < 20


def test_only_so_many_items_are_taken_ahead():
    taken = []

    def items():
        for i in range(50):
            taken.append(i)
            yield i

    results = map_ordered(lambda i: i, items(), 2)
    next(results)
    assert len(taken) <= 4


def test_one_thread_is_the_callers():
    names = set(map_ordered(lambda _: threading.current_thread().name, range(5), 1))
    assert names == {threading.current_thread().name}


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
