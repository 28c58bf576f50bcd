"""What every backend promises of listings."""

import time
from collections.abc import Iterator

import pytest
from places import Place

from weightvault.store.backend import Backend

# "." and "-" sort before "/", letters and digits after it: folders must not come out in one piece.
LISTED = sorted(
    [
        "a-b",
        "a.b",
        "a/b",
        "a/b.c",
        "a0/x",
        "B/x",
        "b/a/c",
        "b/a/d",
        "b/a-/e",
        "b/aa",
        "tmp-/x",
        "z",
    ]
)


@pytest.fixture
def listed(place: Place) -> Backend:
    for key in reversed(LISTED):
        place.backend.put(key, key.encode() * 3)
    return place.backend


def _keys(infos: Iterator) -> list[str]:
    return [info.key for info in infos]


def test_a_listing_is_in_the_order_of_the_keys(listed: Backend) -> None:
    infos = list(listed.list())
    assert [info.key for info in infos] == LISTED
    assert all(info.size == 3 * len(info.key) for info in infos)
    # Other machines have other clocks, and some servers count whole seconds.
    assert all(abs(info.modified - time.time()) < 60 for info in infos)


def test_a_prefix_may_end_anywhere(listed: Backend) -> None:
    for prefix in ("a", "a/", "a0", "a0/", "b/a", "b/a/", "b/a/c", "b/", "t", "q", ".", "b/."):
        assert _keys(listed.list(prefix)) == [key for key in LISTED if key.startswith(prefix)]


def test_after_starts_anywhere(listed: Backend) -> None:
    for prefix in ("", "a", "b/"):
        keys = [key for key in LISTED if key.startswith(prefix)]
        for after in [*LISTED, "a/", "b/a/", "0", "zz", "b/a/cc", "b"]:
            expected = [key for key in keys if key > after]
            assert _keys(listed.list(prefix, after=after)) == expected


def test_listing_nothing(place: Place) -> None:
    assert list(place.backend.list()) == []
    assert list(place.backend.list("a/b", after="a")) == []


def test_a_listing_may_be_used_while_objects_go(listed: Backend) -> None:
    infos = listed.list()
    first = next(infos)
    for key in LISTED:
        listed.delete(key)
    assert first.key == LISTED[0]
    assert set(_keys(infos)) <= set(LISTED)
