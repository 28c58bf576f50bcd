"""Archives and pickles made to harm: bombs, circles, lies, and code that must not run."""

import io
import pickle
import pickletools
import struct
import zipfile

import numpy as np
import pytest
from format_samples import npy_bytes
from hostile_files import (
    GOOD_TAR,
    LYING_VIEWS,
    PICKLES,
    TARS,
    Harmful,
    checkpoint_with,
    checkpoints_with,
    nested_zip,
    overlapping_zip,
    storage_view,
    tar_header,
    zip_entry,
    zip_in_itself,
    zip_of,
    zip_of_many,
)
from segment_checks import take_apart, take_apart_cheaply, tensors

from weightvault.dedup.formats.cutting.reader import Unreadable, Work
from weightvault.dedup.formats.torch.pickles import list_views, read_value
from weightvault.dedup.model.files.segments import Tensor

# zip


def test_overlapping_members_are_found_once():
    assert len(tensors("x.npz", overlapping_zip())) == 1


def test_duplicate_names_are_two_members():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", npy_bytes(np.arange(900.0)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", npy_bytes(np.arange(800.0)))
    assert len(tensors("x.npz", out.getvalue())) == 2


def test_deflated_bomb_is_not_inflated():
    take_apart_cheaply("x.zip", zip_of({"bomb": bytes(64 << 20)}, zipfile.ZIP_DEFLATED))


def test_archives_in_archives_are_followed_only_so_deep():
    assert tensors("x.zip", nested_zip()) == []


def test_an_archive_that_is_its_own_member_ends():
    take_apart("x.zip", zip_in_itself())


def test_directory_of_many_members_is_bounded():
    take_apart_cheaply("x.zip", zip_of_many())


# tar


@pytest.mark.parametrize("case", TARS)
def test_tar_that_lies_is_opaque(case: str):
    found = take_apart_cheaply("x.tar", TARS[case] + GOOD_TAR)
    whole = sum(isinstance(part, Tensor) for part in take_apart("x.tar", GOOD_TAR))
    assert whole == 1
    assert not any(isinstance(part, Tensor) for part in found)


def test_tars_in_tars_are_followed_only_so_deep():
    data = GOOD_TAR
    for _ in range(12):
        data = tar_header(b"%o" % len(data)) + data
    assert tensors("x.tar", data) == []


@pytest.mark.usefixtures("tight_bounds")
def test_tar_of_endless_members_is_bounded():
    take_apart_cheaply("x.tar", tar_header(b"0") * 20_000)


# Pickles


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_pickle_is_not_run(protocol: int):
    data = pickle.dumps({"a": Harmful(), "b": [Harmful()]}, protocol)
    take_apart("x.pt", checkpoint_with(data))
    assert any(op.name == "REDUCE" for op, _, _ in pickletools.genops(data))


def read(data: bytes):
    return read_value(io.BytesIO(data), Work())


def test_deep_and_circular_pickles_end():
    deep = b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b"."
    assert list(list_views(read(deep))) == []
    circle = b"\x80\x04]\x94h\x00a."
    assert list(list_views(read(circle))) == []


def test_values_that_double_are_walked_once():
    """Forty lists, each holding the one before twice: a walk of all paths would take 2^40 steps."""
    data = b"\x80\x04]\x94"
    for i in range(40):
        data += b"](h" + bytes([i]) * 1 + b"h" + bytes([i]) + b"e\x94"
    assert list(list_views(read(data + b"."))) == []


@pytest.mark.parametrize("case", PICKLES)
def test_broken_pickle_is_unreadable(case: str):
    with pytest.raises(Unreadable):
        read(PICKLES[case])
    take_apart("x.pt", checkpoint_with(PICKLES[case]))


@pytest.mark.usefixtures("tight_bounds")
@pytest.mark.parametrize("body", [b"]0" * 200_000 + b".", b"}" * 400_000, b"N" * 400_000 + b"."])
def test_endless_pickle_is_bounded(body: bytes):
    take_apart_cheaply("x.pt", checkpoint_with(b"\x80\x02" + body))
    with pytest.raises(Unreadable, match="more"):
        read(b"\x80\x02" + body)


@pytest.mark.usefixtures("tight_bounds")
def test_endless_pickles_share_their_bound():
    body = b"\x80\x02" + b"]0" * 10_000 + b"N."
    take_apart_cheaply("x.pt", checkpoints_with(body, 2_000))
    inner = checkpoints_with(body, 50)
    take_apart_cheaply("x.npz", zip_of({f"{i}.pt": inner for i in range(50)}))


def test_deflated_pickle_of_gigabytes_is_not_inflated():
    data = bytearray(checkpoints_with(b"N" * (64 << 20) + b".", 1))
    take_apart_cheaply("x.pt", bytes(data))
    # A directory that promises a little for a stream of much.
    at = zip_entry(bytes(data), 0)
    struct.pack_into("<I", data, at + 24, 1000)
    take_apart_cheaply("x.pt", bytes(data))


def test_deflated_pickle_that_does_not_inflate_is_opaque():
    data = bytearray(checkpoints_with(b"\x80\x02" + bytes(range(256)) * 8 + b".", 1))
    data[40:80] = bytes(40)
    take_apart("x.pt", bytes(data))


@pytest.mark.parametrize("case", LYING_VIEWS)
def test_views_that_lie_do_not_name_tensors(case: str):
    found = tensors("x.pt", checkpoint_with(LYING_VIEWS[case]))
    assert all(t.name == "storage 0" for t in found)


def test_a_view_that_does_not_lie_names_one():
    found = tensors("x.pt", checkpoint_with(storage_view("I10\nI100\n", "I100\nI1\n")))
    assert [(t.name, t.shape) for t in found] == [("", (10, 100))]
