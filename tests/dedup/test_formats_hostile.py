"""Files made to harm: whatever they claim, they are covered exactly, soon, in little memory."""

import io
import pickle
import pickletools
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from format_samples import WRITERS, make_arrays, npy_bytes, npz_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from weightvault.dedup.errors import InvalidFile
from weightvault.dedup.formats import gguf, pickles
from weightvault.dedup.formats.pickles import PickleFile, list_views, read_value
from weightvault.dedup.formats.registry import segment_file
from weightvault.dedup.formats.source import Cursor, Unreadable, Work
from weightvault.dedup.manifest import check_tensor_size
from weightvault.dedup.segments import Literal, Segment, Tensor

TOLERANT = [name for name in WRITERS if name != "model.safetensors"]
U64_MAX = b"\xff" * 8


def take_apart(name: str, data: bytes) -> list[Segment]:
    """The segments of a file, once they were seen to cover it and to fit a manifest."""
    segments = segment_file(name, io.BytesIO(data), len(data))
    offset = 0
    for part in segments:
        if isinstance(part, Literal):
            assert part.data == data[offset : offset + part.size]
        elif isinstance(part, Tensor):
            part.name.encode()
            check_tensor_size(part)
        offset += part.size
    assert offset == len(data)
    return segments


def tensors(name: str, data: bytes) -> list[Tensor]:
    return [part for part in take_apart(name, data) if isinstance(part, Tensor)]


def take_apart_cheaply(name: str, data: bytes) -> list[Segment]:
    """As `take_apart`, within bounds that a reader which believes lengths breaks by far."""
    tracemalloc.start()
    started = time.process_time()
    try:
        segments = take_apart(name, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 << 20
    # Tracing memory makes all of it some ten times slower.
    assert time.process_time() - started < 30
    return segments


@pytest.fixture
def tight_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds a twentieth of the real ones, so that a file beyond them is soon made and read."""
    monkeypatch.setattr(Work, "READS", Work.READS // 20)
    monkeypatch.setattr(pickles, "_MAX_OPCODES", pickles._MAX_OPCODES // 20)
    monkeypatch.setattr(gguf, "_MAX_HEADER_BYTES", gguf._MAX_HEADER_BYTES // 20)


@pytest.fixture(scope="module")
def samples() -> dict[str, bytes]:
    arrays = dict(list(make_arrays(side=10).items())[:3])
    return {name: write(arrays) for name, write in WRITERS.items()}


@pytest.mark.parametrize("name", TOLERANT)
def test_every_truncation_is_covered(samples: dict[str, bytes], name: str):
    data = samples[name]
    # Structures lie at the ends; between them every length would take minutes.
    for length in (
        *range(700),
        *range(700, len(data) - 700, 41),
        *range(len(data) - 700, len(data)),
    ):
        take_apart(name, data[: max(0, length)])


@pytest.mark.parametrize("name", TOLERANT)
def test_every_changed_byte_is_covered(samples: dict[str, bytes], name: str):
    data = samples[name]
    step = max(1, len(data) // 1500)
    for position in range(0, len(data), step):
        for value in (0x00, 0x7F, 0xFF):
            changed = bytearray(data)
            changed[position] = value
            take_apart(name, bytes(changed))


@pytest.mark.parametrize("name", TOLERANT)
def test_huge_numbers_anywhere_are_covered(samples: dict[str, bytes], name: str):
    data = samples[name]
    for position in range(0, len(data) - 8, max(1, len(data) // 1500)):
        take_apart(name, data[:position] + U64_MAX + data[position + 8 :])


@given(
    name=st.sampled_from([*TOLERANT, "x.npy", "x.onnx", "x.msgpack", "x.bin"]),
    head=st.sampled_from(
        [b"", b"GGUF\x03\0\0\0", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY\x01\0"]
    ),
    body=st.binary(max_size=400),
)
@settings(deadline=None, max_examples=400)
def test_random_bytes_are_covered(name: str, head: bytes, body: bytes):
    take_apart(name, head + body)


# NumPy


def npy(header: bytes, data: bytes = bytes(400)) -> bytes:
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + data


NPY = {
    "longer than the file": b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999,), }",
    "product beyond 64 bits": b"{'descr': '<f4', 'fortran_order': False, 'shape': ("
    + b"9999999999, " * 40
    + b"), }",
    "negative": b"{'descr': '<f4', 'fortran_order': False, 'shape': (-4,), }",
    "code": b"{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (4,), }",
    "objects": b"{'descr': '|O', 'fortran_order': False, 'shape': (4,), }",
    "deep": b"(" * 5000,
    "a number that a careless pattern reads in 2^60 ways": b"{'descr': '<f4', "
    b"'fortran_order': False, 'shape': (" + b"6" * 60 + b", 2)), }",
    "a number of 9,000 digits": b"{'descr': '<f4', 'fortran_order': False, 'shape': ("
    + b"6" * 9000
    + b",), }",
    "width of nothing": b"{'descr': '<f0', 'fortran_order': False, 'shape': (4,), }",
}


@pytest.mark.parametrize("case", NPY)
def test_npy_that_lies_is_opaque(case: str):
    found = take_apart_cheaply("x.npy", npy(NPY[case]))
    assert not any(isinstance(part, Tensor) and part.coding_dtype != "U8" for part in found)


# zip


def zip_entry(data: bytes, index: int) -> int:
    """Where the directory entry number `index` starts."""
    at = -1
    for _ in range(index + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    return at


def test_overlapping_members_are_found_once():
    """As in bombs that store one member a million times: all entries lead to the first."""
    data = bytearray(npz_bytes({"a": np.arange(900.0), "b": np.arange(900.0)}))
    first, second = zip_entry(bytes(data), 0), zip_entry(bytes(data), 1)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    assert len(tensors("x.npz", bytes(data))) == 1


def test_duplicate_names_are_two_members():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", npy_bytes(np.arange(900.0)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", npy_bytes(np.arange(800.0)))
    assert len(tensors("x.npz", out.getvalue())) == 2


def test_deflated_bomb_is_not_inflated():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(64 << 20))
    take_apart_cheaply("x.zip", out.getvalue())


def test_archives_in_archives_are_followed_only_so_deep():
    data = npz_bytes({"a": np.arange(900.0)})
    for _ in range(12):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("inner.zip", data)
        data = out.getvalue()
    assert tensors("x.zip", data) == []


def test_members_that_are_each_other_end():
    """A member whose bytes are the archive from its own start: a quine of stored members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.zip", bytes(3000))
    data = bytearray(out.getvalue())
    start = data.index(bytes(3000))
    data[start : start + 200] = data[:200]
    take_apart("x.zip", bytes(data))


def test_directory_of_many_members_is_bounded():
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *[0] * 9, 1, *[0] * 6) + b"x"
    count = (9 << 20) // len(entry)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0, 0, count * len(entry), 4, 0)
    take_apart_cheaply("x.zip", b"PK\x03\x04" + entry * count + end)


# tar


def tar_header(size: bytes, kind: bytes = b"0", name: bytes = b"x.npy") -> bytes:
    fields = [name.ljust(100, b"\0"), bytes(24), size.ljust(12, b"\0"), bytes(20), kind]
    return (b"".join(fields).ljust(257, b"\0") + b"ustar\x0000").ljust(512, b"\0")


def tar_record(text: bytes) -> bytes:
    return tar_header(b"%o" % len(text), b"x") + text.ljust(512, b"\0")


GOOD_TAR = tar_header(b"%o" % 3328) + npy_bytes(np.arange(400.0)).ljust(3584, b"\0")
TARS = {
    "longer than the file": tar_header(b"77777777777"),
    "a binary length of 2^88-1": tar_header(b"\x80" + b"\xff" * 11),
    "a negative length": tar_header(b"\xff" * 12),
    "no length": tar_header(b"eight"),
    "sparse": tar_header(b"1000", b"S") + bytes(512),
    "on another tape": tar_header(b"1000", b"M") + bytes(512),
    "a record of no length": tar_record(b" path=x\n"),
    "a record of length 0": tar_record(b"0 path=x\n"),
    "a record longer than all": tar_record(b"999999 path=x\n"),
    "a record without a value": tar_record(b"9 pathx\n\n"),
    "a length in a record": tar_record(b"12 size=999\n"),
    "sparse in a record": tar_record(b"22 GNU.sparse.major=1\n"),
    "records of 1 MiB": tar_header(b"4000000", b"x") + b"7 a=bb\n" * 160_000,
    "a name of 1 MiB": tar_header(b"4000000", b"L") + bytes(1 << 20),
    "endless names": tar_header(b"1", b"L") * 3,
}


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


class Harmful:
    """Unpickled, it would stop the tests."""

    def __reduce__(self):
        import os

        return os._exit, (3,)


def checkpoint_with(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", bytes(4000))
    return out.getvalue()


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_pickle_is_not_run(protocol: int):
    data = pickle.dumps({"a": Harmful(), "b": [Harmful()]}, protocol)
    take_apart("x.pt", checkpoint_with(data))
    assert any(op.name == "REDUCE" for op, _, _ in pickletools.genops(data))


def read(data: bytes):
    return read_value(PickleFile(Cursor(io.BytesIO(data), len(data))), Work())


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


PICKLES: dict[str, bytes] = {
    "nothing": b"",
    "stack too short": b"\x80\x02R.",
    "no mark": b"\x80\x02t.",
    "memo that is not there": b"\x80\x02h\x05.",
    "length of 4 GiB": b"\x80\x02X\xff\xff\xff\xff.",
    "length of 16 EiB": b"\x80\x04\x8d" + U64_MAX + b".",
    "negative length": b"\x80\x02T\xff\xff\xff\xff.",
    "unknown opcode": b"\x80\x02\xff.",
    "no stop": b"\x80\x02K\x01",
    "odd items": b"\x80\x02}(K\x01u.",
    "huge number as text": b"I" + b"9" * 100_000 + b"\n.",
    "memo by a text": b"\x80\x02K\x01pxyz\n.",
}


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


def checkpoints_with(data: bytes, count: int) -> bytes:
    """An archive of many pickles, deflated, which together cost what one does."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(count):
            archive.writestr(f"{i}/data.pkl", data)
    return out.getvalue()


@pytest.mark.usefixtures("tight_bounds")
def test_endless_pickles_share_their_bound():
    body = b"\x80\x02" + b"]0" * 10_000 + b"N."
    take_apart_cheaply("x.pt", checkpoints_with(body, 2_000))
    inner = checkpoints_with(body, 50)
    take_apart_cheaply("x.npz", npz_of(inner, 50))


def npz_of(member: bytes, count: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for i in range(count):
            archive.writestr(f"{i}.pt", member)
    return out.getvalue()


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


def storage_view(shape: str, strides: str, offset: int = 0) -> bytes:
    """A pickle, in the oldest protocol, of a tensor of 1,000 floats with the given facts."""
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI1000\ntQ"
        + f"I{offset}\n({shape}t({strides}tI00\nNtR.".encode()
    )


LYING_VIEWS = {
    "longer than its storage": storage_view("I2000\n", "I1\n"),
    "offset beyond it": storage_view("I10\n", "I1\n", 995),
    "negative": storage_view("I-5\n", "I1\n"),
    "product beyond 64 bits": storage_view("I4294967296\n" * 3, "I1\n" * 3),
    "stride of nothing": storage_view("I10\n", "I0\n"),
    "shape and strides differ": storage_view("I10\nI10\n", "I1\n"),
}


@pytest.mark.parametrize("case", LYING_VIEWS)
def test_views_that_lie_do_not_name_tensors(case: str):
    found = tensors("x.pt", checkpoint_with(LYING_VIEWS[case]))
    assert all(t.name == "storage 0" for t in found)


def test_a_view_that_does_not_lie_names_one():
    found = tensors("x.pt", checkpoint_with(storage_view("I10\nI100\n", "I100\nI1\n")))
    assert [(t.name, t.shape) for t in found] == [("", (10, 100))]


# GGUF


def gguf_with(counts: tuple[int, int], body: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, *counts) + body + bytes(4096)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def info(name: str, shape: list[int], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


BAD_GGUF = {
    "2^64-1 tensors": gguf_with((2**64 - 1, 0), b""),
    "2^64-1 values": gguf_with((0, 2**64 - 1), b""),
    "a name of 2^64-1 bytes": gguf_with((0, 1), U64_MAX),
    "an array of 2^64-1 strings": gguf_with(
        (0, 1), text("k") + struct.pack("<IIQ", 9, 8, 2**64 - 1)
    ),
    "an array of 2^64-1 numbers": gguf_with(
        (0, 1), text("k") + struct.pack("<IIQ", 9, 4, 2**64 - 1)
    ),
    "arrays in arrays": gguf_with(
        (0, 1), text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 99
    ),
    "an unknown type of value": gguf_with((0, 1), text("k") + struct.pack("<I", 77)),
    "alignment 0": gguf_with((0, 1), text("general.alignment") + struct.pack("<II", 4, 0)),
    "99 dimensions": gguf_with((1, 0), info("t", [1] * 99, 0, 0)),
    "a shape beyond 64 bits": gguf_with((1, 0), info("t", [2**63] * 4, 0, 0)),
    "outside of the file": gguf_with((1, 0), info("t", [64], 0, 1 << 40)),
    "an offset beyond 64 bits": gguf_with((1, 0), info("t", [64], 0, 2**64 - 1)),
    "an unknown type": gguf_with((1, 0), info("t", [64], 99, 0)),
    "half a group": gguf_with((1, 0), info("t", [48], 2, 0)),
    "no dimension": gguf_with((1, 0), info("t", [], 12, 0)),
}


@pytest.mark.parametrize("case", BAD_GGUF)
def test_gguf_that_lies_is_opaque(case: str):
    segments = take_apart_cheaply("x.gguf", BAD_GGUF[case])
    assert not any(isinstance(part, Tensor) for part in segments)


def test_gguf_tensors_that_overlap_are_found_once():
    data = gguf_with((2, 0), info("a", [64], 0, 0) + info("b", [64], 0, 128))
    assert [t.name for t in tensors("x.gguf", data)] == ["a"]


def test_gguf_tensors_of_one_name_are_both_kept():
    data = gguf_with((2, 0), info("a", [64], 0, 0) + info("a", [64], 0, 256))
    assert [t.name for t in tensors("x.gguf", data)] == ["a", "a"]


@pytest.mark.usefixtures("tight_bounds")
def test_gguf_of_endless_strings_is_bounded():
    count = 1 << 20
    data = gguf_with((0, 1), text("k") + struct.pack("<IIQ", 9, 8, count) + bytes(8 * count))
    take_apart_cheaply("x.gguf", data)


# Protobuf, HDF5, MessagePack


def field(number: int, body: bytes) -> bytes:
    head = number << 3 | 2
    size = len(body)
    varint = b""
    while size >= 0x80:
        varint += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([head]) + varint + bytes([size]) + body


def test_onnx_graphs_in_graphs_end():
    body = b""
    for _ in range(2_000):
        body = field(6, field(1, field(5, body + bytes([0xFA, 0x3F, 0x00]) * 90)))
    take_apart_cheaply("x.onnx", field(7, field(1, field(5, body))))


@pytest.mark.usefixtures("tight_bounds")
@pytest.mark.parametrize(
    "wrap", [lambda body: field(7, body), lambda body: field(7, field(5, body))]
)
def test_onnx_of_endless_fields_is_bounded(wrap: Callable[[bytes], bytes]):
    take_apart_cheaply("x.onnx", wrap(bytes([0x08, 0x00]) * 200_000))


@pytest.mark.parametrize(
    "body",
    [b"\x3a" + b"\xff" * 11, b"\x3a\xff\xff\xff\xff\x0f", b"\x3b\x00", b"\x3d\x00", b"\x00\x00"],
)
def test_onnx_that_is_no_protobuf_is_opaque(body: bytes):
    assert tensors("x.onnx", body) == []


def test_onnx_tensor_that_does_not_fit_its_shape_is_opaque():
    tensor = bytes([0x08, 0x05, 0x10, 0x01]) + field(9, bytes(400))
    assert tensors("x.onnx", field(7, field(5, tensor))) == []


def hdf5_sample() -> bytes:
    return WRITERS["model.h5"]({"a.b": np.arange(500.0), "a.c": np.arange(600.0)})


def test_hdf5_groups_in_a_circle_end():
    data = bytearray(hdf5_sample())
    root = struct.unpack_from("<Q", data, 64)[0]
    for at in [i for i in range(len(data) - 8) if data[i : i + 4] == b"SNOD"]:
        struct.pack_into("<Q", data, at + 16, root)
    take_apart("x.h5", bytes(data))


def test_hdf5_tree_that_is_its_own_child_ends():
    data = bytearray(hdf5_sample())
    for at in [i for i in range(len(data) - 8) if data[i : i + 4] == b"TREE"]:
        data[at + 5] = 1
        struct.pack_into("<Q", data, at + 32, at)
    take_apart_cheaply("x.h5", bytes(data))


def test_hdf5_header_that_continues_in_itself_ends():
    """A message of type 16 says where the header goes on: here, at the start of that message."""
    start = 96
    header = struct.pack("<BxHII4x", 1, 1, 1, 24)
    message = struct.pack("<HHB3xQQ", 16, 16, 0, start + 16, 24)
    fixed = b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08" + bytes(9)
    superblock = fixed + struct.pack("<4Q", 0, 2**64 - 1, 4096, 2**64 - 1)
    superblock += struct.pack("<QQI4x16x", 0, start, 0)
    take_apart_cheaply("x.h5", superblock[:96] + header + message + bytes(4000))


@pytest.mark.parametrize(
    "body",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff\xa1a",
        b"\x81" * 5000,
        b"\x91" * 5000,
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xc7\x20\x01\x93" + bytes(40),
        b"\x82\xa1a\x93\x01\x02\xc1",
        b"\x81\xc0\xc0",
    ],
)
def test_msgpack_that_lies_is_opaque(body: bytes):
    assert [p for p in take_apart_cheaply("x.msgpack", body) if isinstance(p, Tensor)] == []


@pytest.mark.usefixtures("tight_bounds")
def test_msgpack_of_endless_values_is_bounded():
    take_apart_cheaply("x.msgpack", b"\xdd\x00\xff\xff\xff" + b"\x91" * 20 + bytes(1 << 20))


# safetensors


def test_names_without_utf8_are_refused():
    header = rb'{"\ud800": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}'
    data = len(header).to_bytes(8, "little") + header + b"x"
    with pytest.raises(InvalidFile, match="UTF-8"):
        take_apart("x.safetensors", data)
