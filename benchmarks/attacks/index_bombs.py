"""Files that make careless readers work with what they say of the files beside them."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable

SetMaker = Callable[[random.Random, int], dict[str, bytes]]
"""Makes files, by path, of about so many bytes in all."""


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def field(number: int, body: bytes) -> bytes:
    """A field of protobuf with bytes in it."""
    return bytes([number << 3 | 2]) + varint(len(body)) + body


# The index of a TensorFlow checkpoint


def _row(key: bytes, value: bytes, shared: int = 0) -> bytes:
    return varint(shared) + varint(len(key)) + varint(len(value)) + key + value


def _block(rows: bytes) -> bytes:
    return rows + struct.pack("<IB", 0, 0) + bytes(4)


def _table(inner: bytes, times: int) -> bytes:
    """A table whose index leads to its one block of rows `times` times."""
    block = _block(inner)
    handle = varint(0) + varint(len(block) - 5)
    outer = _block(_row(b"k", handle) * times)
    footer = (varint(0) + varint(0) + varint(len(block)) + varint(len(outer) - 5)).ljust(40, b"\0")
    return block + outer + footer + bytes.fromhex("57fb808b247547db")


_HEADER = _row(b"", b"\x08\x01")


def _tensor(offset: int, count: int) -> bytes:
    shape = field(2, field(2, b"\x08" + varint(count)))
    return b"\x08\x04" + shape + b"\x20" + varint(offset) + b"\x28" + varint(count)


def _tensorflow(rng: random.Random, size: int) -> dict[str, bytes]:
    """Rows that place all tensors at the same bytes, and an index that leads to them many times."""
    times = rng.choice([1, 30, size // 40])
    value = _tensor(rng.choice([0, 0, 5]), rng.choice([1, 1000]))
    rows = _HEADER + _row(b"t", value) * (size // 2 // (len(value) + 4))
    return {"v.index": _table(rows, times), "v.data-00000-of-00001": bytes(size // 8)}


def _long_names(_: random.Random, size: int) -> dict[str, bytes]:
    """Names of 4 KiB, of which each row writes three bytes."""
    first = _row(b"n" * 4090, _tensor(0, 1))
    more = _row(b"x", _tensor(0, 1), 4080)
    rows = _HEADER + first + more * (size * 3 // 4 // len(more))
    return {"v.index": _table(rows, 1), "v.data-00000-of-00001": bytes(1000)}


def _many_indexes(_: random.Random, size: int) -> dict[str, bytes]:
    """As many short indexes as fit, each of which walks as long as a short file may."""
    index = _table(_HEADER + _row(b"t", _tensor(0, 1)) * 4, 12)
    return {f"{i}.index": index for i in range(size // (len(index) * 4 // 3 + 90))}


# External data of ONNX models


def _entry(key: bytes, value: bytes) -> bytes:
    return field(13, field(1, key) + field(2, value))


def _onnx(rng: random.Random, size: int) -> dict[str, bytes]:
    """Tensors that all lie at nearly the same bytes of one file, or of many that are not there."""
    nearly, missing = rng.random() < 0.5, rng.random() < 0.3
    tensors, count = [], 0
    while count < size * 3 // 4:
        start = b"%d" % (len(tensors) % 997 if nearly else 0)
        place = b"w%d.bin" % len(tensors) if missing else b"w.bin"
        facts = b"\x08\x40\x10\x01" + field(8, b"t")
        facts += _entry(b"location", place) + _entry(b"offset", start) + _entry(b"length", b"256")
        tensors.append(field(5, facts + b"\x70\x01"))
        count += len(tensors[-1])
    return {"m.onnx": b"\x08\x07" + field(7, b"".join(tensors)), "w.bin": bytes(size // 8)}


def _many_models(_: random.Random, size: int) -> dict[str, bytes]:
    """Many short models that all name the same data."""
    facts = b"\x08\x40\x10\x01" + field(8, b"t")
    facts += _entry(b"location", b"w.bin") + _entry(b"offset", b"0") + _entry(b"length", b"64")
    model = b"\x08\x07" + field(7, field(5, facts))
    count = size * 3 // 4 // (len(model) * 4 // 3 + 80)
    return {f"{i}.onnx": model for i in range(count)} | {"w.bin": bytes(size // 8)}


# Other descriptions


def _tfjs(rng: random.Random, size: int) -> dict[str, bytes]:
    """Weights without end, or one that lies in as many shards as there are names for."""
    if rng.random() < 0.5:
        weight = {"name": "w", "shape": [1], "dtype": "float32"}
        group = {"paths": ["w.bin"], "weights": [weight] * (size // 60)}
    else:
        whole = {"name": "w", "shape": [1 << 39], "dtype": "float32"}
        group = {"paths": [f"{i % 9}" for i in range(size // 8)], "weights": [whole]}
    text = json.dumps({"weightsManifest": [group]}, separators=(",", ":")).encode()
    return {"model.json": text, "w.bin": bytes(size // 8), "0": bytes(1000)}


def _openvino(rng: random.Random, size: int) -> dict[str, bytes]:
    """Constants that all lie at the same bytes, or tags that end nowhere."""
    tag = b'<layer name="l" type="Const"><data element_type="f32" shape="1" offset="0" size="4"/>'
    piece = rng.choice([tag, b"<data " + b"a" * 1990 + b">", b"<layer ", b'<data a="'])
    return {"m.xml": b"<net>" + piece * (size * 3 // 4 // len(piece)), "m.bin": bytes(size // 8)}


SET_BOMBS: dict[str, SetMaker] = {
    "index of TensorFlow": _tensorflow,
    "index with long names": _long_names,
    "many indexes": _many_indexes,
    "external data": _onnx,
    "many models": _many_models,
    "shards of TensorFlow.js": _tfjs,
    "constants of OpenVINO": _openvino,
}
