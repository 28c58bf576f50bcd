"""Files and texts that are small and make careless readers work: one list for all attacks."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

import zstandard

from .index_bombs import field

MIB = 1 << 20

Maker = Callable[[random.Random, int], bytes]
"""Makes a bomb of about so many bytes."""


def _repeat(piece: bytes, before: bytes = b"", after: bytes = b"") -> Maker:
    return lambda _, size: (before + piece * (size // len(piece)) + after)[: size + len(after)]


# JSON


JSON_BOMBS: dict[str, Maker] = {
    "deep lists": _repeat(b"["),
    "deep objects": _repeat(b'{"a":'),
    "many lists": _repeat(b"[],", b'{"a":[', b"[]]}"),
    "many numbers": _repeat(b"1,", b'{"digests":[', b"1]}"),
    "many objects": _repeat(b'{"a":1},', b'{"files":[', b"{}]}"),
    "digits": _repeat(b"9", b'{"size":', b"}"),
    "large numbers": _repeat(b"18446744073709551616,", b'{"a":[', b"1]}"),
    "not finite": lambda *_: b'{"size":NaN,"a":1e999,"b":-Infinity}',
    "half a pair": lambda *_: b'{"name":"\\ud800","content":"\\udfff","path":"\\ud800"}',
    "raw half a pair": lambda *_: b'{"name":"\xed\xa0\x80"}',
    "same keys": _repeat(b'"a":1,', b"{", b'"a":2}'),
    "many keys": lambda r, size: json.dumps({f"k{i}": i for i in range(size // 16)}).encode(),
    "open text": _repeat(b'\\"', b'{"a":"'),
    "escapes": _repeat(b"\\u0000", b'{"content":"', b'"}'),
    "long name": _repeat(b"a", b'{"name":"', b'"}'),
    "other types": lambda r, _: json.dumps(
        {k: r.choice([1, None, [], {}, "x", True, -1, 1e300, [[]]]) for k in KEYS}
    ).encode(),
}
KEYS = (
    *("name", "type", "organization", "private", "visibility", "gated", "fromRepo", "toRepo"),
    *("files", "paths", "expand", "tag", "message", "startingPoint", "content", "objects"),
    *("operation", "transfers", "oid", "size", "digests", "sketches", "summary", "key", "value"),
)

# Model cards


def _card(matter: bytes, text: bytes = b"# Title\n") -> bytes:
    return b"---\n" + matter + b"\n---\n" + text


def _aliases(_: random.Random, size: int) -> bytes:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    return _card("\n".join(lines).encode())


MATTERS: dict[str, Maker] = {
    "aliases": _aliases,
    "flow": lambda _, n: _card(b"a: [" + b"1," * (n // 2) + b"]"),
    "deep": lambda _, n: _card(b"a: " + b"[" * n),
    "keys": lambda _, n: _card(b"\n".join(b"k%d: v" % i for i in range(n // 12))),
    "same keys": lambda _, n: _card(b"k: v\n" * (n // 5)),
    "merges": lambda _, n: _card(b"<<: {a: 1}\n" * (n // 11)),
    "hexadecimal": lambda _, n: _card(b"a: 0x" + b"f" * n),
    "base 60": lambda _, n: _card(b"a: 1" + b":59" * (n // 3)),
    "dates": lambda _, n: _card(b"- 2020-01-01T00:00:00.%s\n" % (b"1" * 200) * (n // 230)),
    "questions": lambda _, n: _card(b"? " * (n // 2)),
    "directives": lambda _, n: b"---\n%YAML 1.1\n" * (n // 14),
    "tags": lambda _, n: _card(b"a: !!python/name:x " * (n // 19)),
    "block": lambda _, n: _card(b"a: |\n" + b"\n" * n),
    "quoted": lambda _, n: _card(b'a: "' + b"\\x41" * (n // 4) + b'"'),
    "odd values": lambda *_: _card(b'a: .nan\nb: .inf\nc: "\\ud800"\nd: 2020-99-99\n1: x\n[]: y'),
}
MARKDOWN: dict[str, bytes] = {
    "quotes": b"> ",
    "lists": b"- ",
    "emphasis": b"*a_",
    "stars": b"*",
    "links": b"[a](",
    "brackets": b"[",
    "images": b"![",
    "ticks": b"`a``",
    "tags": b"<a ",
    "comments": b"<!--",
    "addresses": b"http://a.b/",
    "schemes": b"://",
    "autolinks": b"<http://",
    "mail": b"a@b.",
    "tables": b"a|b\n-|-\n",
    "rows": b"|\n",
    "blocks": b"<div>\n\n",
    "entities": b"&#1;",
    "tildes": b"~~a",
    "lines": b"a\n",
    "references": b"[a]: b\n\n[a]",
    "nested html": b"<b><i><p>",
    "details": b"<details><summary>",
}


def make_card(rng: random.Random, size: int) -> bytes:
    """A README.md with hostile front matter or text."""
    if rng.random() < 0.5:
        return rng.choice(list(MATTERS.values()))(rng, size)
    pieces = rng.sample(list(MARKDOWN.values()), rng.choice([1, 1, 2, 3]))
    piece = b"".join(pieces)
    return (piece * (size // len(piece) + 1))[:size]


# Files of models


def _safetensors(_: random.Random, size: int) -> bytes:
    count = size // 64
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"{i}": entry for i in range(count)}, separators=(",", ":")).encode()
    return len(header).to_bytes(8, "little") + header


def _safetensors_shape(_: random.Random, size: int) -> bytes:
    shape = b",".join([b"9223372036854775807"] * (size // 20))
    header = b'{"a":{"dtype":"F32","shape":[' + shape + b'],"data_offsets":[0,4]}}'
    return len(header).to_bytes(8, "little") + header + bytes(4)


def _gguf(rng: random.Random, size: int) -> bytes:
    """Thousands of tensors, or of texts in lists."""
    head = b"GGUF" + struct.pack("<I", 3)
    if rng.random() < 0.5:
        info = struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 1, 0, 0)
        return head + struct.pack("<QQ", size // len(info), 0) + info * (size // len(info))
    count = size // 9
    array = struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 8, count)
    return head + struct.pack("<QQ", 0, 1) + array + (struct.pack("<Q", 1) + b"x") * count


def _zip_many(_: random.Random, size: int) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for i in range(size // 110):
            archive.writestr(f"{i}.npy", b"")
    return target.getvalue()


def _zip_overlapping(_: random.Random, size: int) -> bytes:
    """A directory whose entries all lead to one member."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.pt", bytes(1000))
    data = target.getvalue()
    start = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    entry, count = data[start:end], min(65_000, size // (end - start))
    tail = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(entry) * count, start, 0)
    return data[:start] + entry * count + tail


def _zip_nested(_: random.Random, size: int) -> bytes:
    data = bytes(100)
    while len(data) < size and len(data) < 200 * 400:
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("a.npz", data)
        data = target.getvalue()
    return data


def _checkpoint(pickle: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/version", b"3\n")
    return target.getvalue()


PICKLES: dict[str, Callable[[int], bytes]] = {
    "marks": lambda n: b"\x80\x02" + b"(" * n + b".",
    "lists": lambda n: b"\x80\x02" + b"]" * n + b".",
    "twice as much": lambda n: b"\x80\x02]q\x00" + b"(h\x00h\x00lq\x00" * (n // 8) + b".",
    "memo": lambda n: b"\x80\x02]" + b"2q\x00" * (n // 3) + b".",
    "tuples": lambda n: b"\x80\x02)" + b"\x85" * n + b".",
    "long number": lambda n: b"\x80\x02\x8b" + struct.pack("<I", n) + b"\xff" * n + b".",
    "digits": lambda n: b"I" + b"9" * n + b"\n.",
    "calls": lambda n: b"\x80\x02" + b"cos\nsystem\n)R" * (n // 13) + b".",
    "items": lambda n: b"\x80\x02}(" + b"K\x01K\x02" * (n // 4) + b"u.",
}


def _pickle(rng: random.Random, size: int) -> bytes:
    data = rng.choice(list(PICKLES.values()))(size)
    return _checkpoint(data) if rng.random() < 0.5 else data


def _deflated_pickle(rng: random.Random, size: int) -> bytes:
    """A megabyte that inflates to thirty."""
    return _checkpoint(rng.choice(list(PICKLES.values()))(30 * size))


def _tar(rng: random.Random, size: int) -> bytes:
    name = rng.choice([b"x.npy", b"x/" * 40 + b"x"])
    kind = rng.choice([b"0", b"L", b"x", b"S"])
    block = bytearray(512)
    block[: len(name)] = name
    block[124:136] = b"00000000001\0" if kind == b"L" else b"00000000000\0"
    block[156:157] = kind
    block[257:263] = b"ustar\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return (bytes(block) + (b"x" * 512 if kind == b"L" else b"")) * (size // 1024)


def _onnx(rng: random.Random, size: int) -> bytes:
    if rng.random() < 0.5:
        body = b""
        while len(body) < min(size, 60_000):
            body = field(7, field(1, field(5, field(6, body)))) + b"\x08\x07"
        return b"\x08\x07" + body
    tensor = field(5, b"\x08\x01\x10\x01" + field(8, b"t") + field(9, bytes(4)))
    return b"\x08\x07" + field(7, tensor * (size // len(tensor)))


def _msgpack(rng: random.Random, size: int) -> bytes:
    pieces = (b"\x91", b"\x81\xa1a", b"\x81\xa1a\x91", b"\xdd\0\0\xff\xff", b"\xc7\x00\x01")
    piece = rng.choice(pieces)
    return (piece * (size // len(piece) + 1))[:size]


def _npy(_: random.Random, size: int) -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9," * (size // 2) + b"), }"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header


def _hdf5(rng: random.Random, size: int) -> bytes:
    head = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
    body = bytes(rng.choice([0, 1, 8, 17, 96]) for _ in range(200))
    blocks = (b"TREE", b"SNOD", b"HEAP", b"OHDR", b"\1\0")
    return head + b"".join(rng.choice(blocks) + body for _ in range(size // 204))


def _ggml(rng: random.Random, size: int) -> bytes:
    """Thousands of tokens or of tensors, for each of the ways in which a file may go on."""
    head = b"lmgg" + struct.pack("<11I", *[0] * 11) + struct.pack("<II", 0, 0)
    if rng.random() < 0.5:
        count = size // 4
        return head + struct.pack("<I", count) + bytes(4 * count)
    tensor = struct.pack("<III", 1, 1, 0) + struct.pack("<I", rng.choice([0, 1])) + b"t"
    return head + struct.pack("<I", 0) + tensor * (size // len(tensor))


def _arrays(rng: random.Random, size: int) -> bytes:
    """A plain pickle of as many arrays of numpy as fit, of which most have no bytes."""
    call = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85"
    call += b"cnumpy\ndtype\nX\x02\0\0\0f4\x85R\x89"
    array = call + rng.choice([b"C\x04aaaa", b"B" + struct.pack("<I", 1024) + bytes(1024)]) + b"tb"
    return b"\x80\x04](" + array * (size // len(array)) + b"e."


# What the cutter of opaque bytes may find hard


def _texts(rng: random.Random, size: int) -> bytes:
    words = [rng.randbytes(rng.randrange(1, 9)).hex().encode() for _ in range(50)]
    return b" ".join(rng.choice(words) for _ in range(size // 8))[:size]


def _periodic(rng: random.Random, size: int) -> bytes:
    piece = rng.randbytes(rng.choice([1, 2, 31, 64, 255, 4096, 16_384]))
    return (piece * (size // len(piece) + 1))[:size]


FILE_BOMBS: dict[str, tuple[str, Maker]] = {
    "safetensors": ("model.safetensors", _safetensors),
    "safetensors shape": ("model.safetensors", _safetensors_shape),
    "gguf": ("model.gguf", _gguf),
    "zip of many": ("model.npz", _zip_many),
    "zip overlapping": ("model.pt", _zip_overlapping),
    "zip nested": ("model.npz", _zip_nested),
    "pickle": ("model.bin", _pickle),
    "deflated pickle": ("model.pt", _deflated_pickle),
    "tar": ("model.tar", _tar),
    "onnx": ("model.onnx", _onnx),
    "msgpack": ("model.msgpack", _msgpack),
    "npy": ("model.npy", _npy),
    "hdf5": ("model.h5", _hdf5),
    "ggml": ("ggml-base.bin", _ggml),
    "arrays": ("arrays.pkl", _arrays),
    "zeros": ("zeros.bin", lambda _, n: bytes(n)),
    "noise": ("noise.bin", lambda r, n: r.randbytes(n)),
    "periodic": ("periodic.dat", _periodic),
    "texts": ("texts.txt", _texts),
    "deflated": ("x.gz", lambda _, n: zlib.compress(bytes(500 * n))[:n]),
    "zstd": ("x.zst", lambda _, n: zstandard.compress(bytes(1000 * n))),
    "card": ("README.md", make_card),
}


# Manifests and packs


def make_manifest(outline: bytes, digests: list[bytes]) -> bytes:
    """The bytes of a manifest with any text as its outline."""
    stored = zstandard.ZstdCompressor(level=9).compress(outline)
    lengths = struct.pack("<III", len(digests), len(outline), len(stored))
    return b"\x89WVM\1\0\0\0" + lengths + b"".join(digests) + stored


def manifest_bomb(rng: random.Random, known: list[bytes]) -> bytes:
    """A manifest that expands to far more than its bytes."""
    count = rng.choice([10, 1000, 100_000, 500_000])
    parts = {
        "segments": b'{"literal":""}',
        "opaque": b'{"size":0,"chunks":[0]}',
        "repeated": b'{"size":33554432,"chunks":[0]}',
        "tensors": b'{"tensor":"t","dtype":"U8","shape":[0],"size":0,"chunks":[0]}',
        "deep": b"[" * 1000,
    }
    piece = rng.choice(list(parts.values()))
    if rng.random() < 0.3:
        empty = b'"size":0,"blake3":"%064d","segments":[]' % 0
        folder = b"/".join([b"d"] * rng.choice([1, 30, 500]))
        files = (b'{"path":"%s/%07d",%s}' % (folder, i, empty) for i in range(min(count, 60_000)))
        body = b",".join(files)
    else:
        segments = b",".join([piece] * count)
        body = b'{"path":"a","size":0,"blake3":"%064d","segments":[%s]}' % (0, segments)
    return make_manifest(b'{"chunk_bytes":33554432,"files":[' + body + b"]}", known[:1])


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Flips, cuts, repeats or swaps a part of some bytes."""
    body = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if not body:
            break
        at = rng.randrange(len(body))
        length = rng.choice([1, 2, 4, 8, 100])
        choice = rng.random()
        if choice < 0.4:
            body[at] = rng.randrange(256)
        elif choice < 0.6:
            body[at : at + length] = b"\xff" * length
        elif choice < 0.8:
            del body[at : at + length]
        else:
            body[at:at] = body[at : at + length] * rng.choice([1, 100, 1000])
    return bytes(body[:MIB])
