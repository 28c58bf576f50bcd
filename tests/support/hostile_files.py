"""Files made to harm, and what builds them."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator

import numpy as np
from format_samples import WRITERS, npy_bytes, npz_bytes

U64_MAX = b"\xff" * 8


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


# zip


def zip_entry(data: bytes, index: int) -> int:
    """Where the directory entry number `index` starts."""
    at = -1
    for _ in range(index + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    return at


def overlapping_zip() -> bytes:
    """As in bombs that store one member a million times: all entries lead to the first."""
    data = bytearray(npz_bytes({"a": np.arange(900.0), "b": np.arange(900.0)}))
    first, second = zip_entry(bytes(data), 0), zip_entry(bytes(data), 1)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(data)


def zip_of(members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def nested_zip() -> bytes:
    data = npz_bytes({"a": np.arange(900.0)})
    for _ in range(12):
        data = zip_of({"inner.zip": data})
    return data


def zip_in_itself() -> bytes:
    """A member whose bytes are the archive from its own start: a quine of stored members."""
    data = bytearray(zip_of({"a.zip": bytes(3000)}))
    start = data.index(bytes(3000))
    data[start : start + 200] = data[:200]
    return bytes(data)


def zip_of_many() -> bytes:
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *[0] * 9, 1, *[0] * 6) + b"x"
    count = (9 << 20) // len(entry)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0, 0, count * len(entry), 4, 0)
    return b"PK\x03\x04" + entry * count + end


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


def checkpoints_with(data: bytes, count: int) -> bytes:
    """An archive of many pickles, deflated, which together cost what one does."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(count):
            archive.writestr(f"{i}/data.pkl", data)
    return out.getvalue()


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


# Protobuf, HDF5, MessagePack


def field(number: int, body: bytes) -> bytes:
    head = number << 3 | 2
    size = len(body)
    varint = b""
    while size >= 0x80:
        varint += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([head]) + varint + bytes([size]) + body


def nested_onnx() -> bytes:
    body = b""
    for _ in range(2_000):
        body = field(6, field(1, field(5, body + bytes([0xFA, 0x3F, 0x00]) * 90)))
    return field(7, field(1, field(5, body)))


NO_PROTOBUF = [
    b"\x3a" + b"\xff" * 11,
    b"\x3a\xff\xff\xff\xff\x0f",
    b"\x3b\x00",
    b"\x3d\x00",
    b"\x00\x00",
]


def hdf5_sample() -> bytes:
    return WRITERS["model.h5"]({"a.b": np.arange(500.0), "a.c": np.arange(600.0)})


def circular_hdf5() -> bytes:
    data = bytearray(hdf5_sample())
    root = struct.unpack_from("<Q", data, 64)[0]
    for at in [i for i in range(len(data) - 8) if data[i : i + 4] == b"SNOD"]:
        struct.pack_into("<Q", data, at + 16, root)
    return bytes(data)


def hdf5_tree_in_itself() -> bytes:
    data = bytearray(hdf5_sample())
    for at in [i for i in range(len(data) - 8) if data[i : i + 4] == b"TREE"]:
        data[at + 5] = 1
        struct.pack_into("<Q", data, at + 32, at)
    return bytes(data)


def hdf5_header_in_itself() -> bytes:
    """A message of type 16 says where the header goes on: here, at the start of that message."""
    start = 96
    header = struct.pack("<BxHII4x", 1, 1, 1, 24)
    message = struct.pack("<HHB3xQQ", 16, 16, 0, start + 16, 24)
    fixed = b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08" + bytes(9)
    superblock = fixed + struct.pack("<4Q", 0, 2**64 - 1, 4096, 2**64 - 1)
    superblock += struct.pack("<QQI4x16x", 0, start, 0)
    return superblock[:96] + header + message + bytes(4000)


BAD_MSGPACK = [
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff\xa1a",
    b"\x81" * 5000,
    b"\x91" * 5000,
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xc7\x20\x01\x93" + bytes(40),
    b"\x82\xa1a\x93\x01\x02\xc1",
    b"\x81\xc0\xc0",
]


def list_hostile() -> Iterator[tuple[str, bytes]]:
    """Yields all of these, by the name of a file that they would come as."""
    for case, header in NPY.items():
        yield f"{case}.npy", npy(header)
    yield "overlapping.npz", overlapping_zip()
    yield "deep.zip", nested_zip()
    yield "in itself.zip", zip_in_itself()
    yield "many.zip", zip_of_many()
    yield "bomb.zip", zip_of({"bomb": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    for case, data in TARS.items():
        yield f"{case}.tar", data + GOOD_TAR
    for case, data in (PICKLES | LYING_VIEWS).items():
        yield f"{case}.pt", checkpoint_with(data)
    for protocol in range(6):
        yield f"code {protocol}.pt", checkpoint_with(pickle.dumps([Harmful()], protocol))
    for case, data in BAD_GGUF.items():
        yield f"{case}.gguf", data
    yield "nested.onnx", nested_onnx()
    for i, data in enumerate(NO_PROTOBUF):
        yield f"{i}.onnx", data
    yield "circular.h5", circular_hdf5()
    yield "tree in itself.h5", hdf5_tree_in_itself()
    yield "header in itself.h5", hdf5_header_in_itself()
    for i, data in enumerate(BAD_MSGPACK):
        yield f"{i}.msgpack", data
