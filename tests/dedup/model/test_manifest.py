"""Manifests: what is packed comes back, and what does not add up is refused."""

import contextlib
import json
import struct
from itertools import pairwise

import pytest
import zstandard
from blake3 import blake3
from chunk_samples import digest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightvault.dedup.errors import InvalidManifest
from weightvault.dedup.model.files.entries import FileEntry
from weightvault.dedup.model.files.manifest import (
    Manifest,
    manifest_name,
    pack_manifest,
    parse_manifest,
)
from weightvault.dedup.model.files.segments import (
    CHUNK_BYTES,
    Bundle,
    Literal,
    Opaque,
    Share,
    Tensor,
)

CHUNK = 1 << 16


@st.composite
def segments(draw: st.DrawFn):
    kind = draw(st.sampled_from(["literal", "opaque", "tensor", "bundle"]))
    if kind == "literal":
        return Literal(draw(st.binary(max_size=64)))
    if kind == "bundle":
        shapes = draw(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), min_size=1))
        parts = [Tensor(draw(st.text(max_size=9)), "BF16", s, 2 * s[0] * s[1]) for s in shapes]
        every = st.lists(st.integers(0, 99), min_size=len(parts) + 1, max_size=len(parts) + 1)
        gaps = tuple(draw(st.one_of(st.just([]), every)))
        size = sum(part.size for part in parts) + sum(gaps)
        return Bundle(tuple(parts), (digest("bundle", size),), gaps)
    size = draw(st.integers(0, 3 * CHUNK))
    cuts = (
        draw(st.sets(st.integers(1, size - 1), max_size=3)) if kind == "tensor" and size > 1 else ()
    )
    edges = [0, *sorted(cuts), size]
    parts = tuple(stop - start for start, stop in pairwise(edges)) if cuts else ()
    # Every chunk digest stands for one size, as real ones do.
    sizes = [
        min(CHUNK, run - i * CHUNK) for run in parts or (size,) for i in range(-(-run // CHUNK))
    ]
    chunks = tuple(digest(n, draw(st.integers(0, 3))) for n in sizes or [0])
    if kind == "opaque":
        return Opaque(size, chunks)
    name = draw(st.text(max_size=12))
    return Tensor(name, "U8", (size,), size, chunks, parts)


@st.composite
def shares(draw: st.DrawFn):
    start, size, rest = draw(st.tuples(st.integers(0, 99), st.integers(1, 99), st.integers(0, 99)))
    whole = start + size + rest
    return Share(size, start, whole, (digest("shared", whole),))


@st.composite
def manifests(draw: st.DrawFn):
    paths = draw(st.lists(st.from_regex(r"[a-d]\.(bin|json)", fullmatch=True), unique=True))
    files = []
    for path in sorted(paths):
        parts = tuple(draw(st.one_of(st.lists(segments(), max_size=4), st.tuples(shares()))))
        files.append(FileEntry(path, sum(s.size for s in parts), digest(path), parts))
    return Manifest(tuple(files), CHUNK)


@given(manifests())
@settings(deadline=None)
def test_round_trip(manifest: Manifest):
    data = pack_manifest(manifest)
    assert parse_manifest(data) == manifest
    assert pack_manifest(parse_manifest(data)) == data


def small_manifest() -> Manifest:
    tensor = Tensor("w", "BF16", (3, 2), 12, (digest(1),))
    parts = (Opaque(40, (digest(2),)), tensor, Literal(b"\0\0"), small_bundle())
    share = Share(9, 30, 40, (digest(2),))
    files = (
        FileEntry("m.safetensors", 66, digest(3), parts),
        FileEntry("s.txt", 9, digest(5), (share,)),
    )
    return Manifest(files)


def small_bundle() -> Bundle:
    return Bundle((Tensor("a", "F32", (2,), 8), Tensor("b", "F32", (), 4)), (digest(4),))


def test_chunks_have_their_places():
    manifest = small_manifest()
    uses = list(manifest.files[0].chunks())
    assert [(u.offset, u.size, u.dtype) for u in uses] == [
        (0, 40, "U8"),
        (40, 12, "BF16"),
        (54, 12, "F32"),
    ]
    (share,) = manifest.files[1].chunks()
    assert (share.offset, share.size, share.dtype) == (-30, 40, "U8")
    places = [(p.tensor.name, p.offset, p.start) for p in manifest.files[0].places()]
    assert places == [("w", 40, 0), ("a", 54, 0), ("b", 62, 8)]


def test_name_is_the_hash_of_the_bytes():
    data = pack_manifest(small_manifest())
    assert manifest_name(data) == blake3(data).hexdigest()


def test_every_truncation_is_refused():
    data = pack_manifest(small_manifest())
    for length in range(len(data)):
        with pytest.raises(InvalidManifest):
            parse_manifest(data[:length])


@given(st.integers(0, 10_000), st.integers(1, 255))
@settings(deadline=None, max_examples=300)
def test_flipped_byte_never_escapes_as_another_error(position: int, flip: int):
    data = bytearray(pack_manifest(small_manifest()))
    data[position % len(data)] ^= flip
    with contextlib.suppress(InvalidManifest):
        parse_manifest(bytes(data))


def repack(change) -> bytes:
    """The bytes of the small manifest with its outline changed by `change`."""
    manifest = small_manifest()
    data = pack_manifest(manifest)
    head = struct.Struct("<4sB3xIII")
    magic, version, count, _, _ = head.unpack_from(data)
    table = data[head.size : head.size + 32 * count]
    outline = json.loads(zstandard.decompress(data[head.size + 32 * count :]))
    change(outline)
    text = json.dumps(outline).encode()
    stored = zstandard.compress(text)
    return head.pack(magic, version, count, len(text), len(stored)) + table + stored


def set_file(**values):
    return lambda outline: outline["files"][0].update(values)


def set_segment(index: int, **values):
    return lambda outline: outline["files"][0]["segments"][index].update(values)


def set_share(**values):
    return lambda outline: outline["files"][1]["segments"][0].update(values)


BAD = {
    "path escapes": set_file(path="../x"),
    "path absolute": set_file(path="/etc/x"),
    "path of wrong type": set_file(path=["m"]),
    "size too large": set_file(size=67),
    "size negative": set_file(size=-1),
    "size not a number": set_file(size="66"),
    "digest short": set_file(blake3="ab"),
    "executable of wrong type": set_file(executable=1),
    "chunk out of table": set_segment(0, chunks=[7]),
    "chunk negative": set_segment(0, chunks=[-1]),
    "too many chunks": set_segment(0, chunks=[0, 1]),
    "no chunks": set_segment(0, chunks=[]),
    "shape and size differ": set_segment(1, shape=[3, 3]),
    "shape not numbers": set_segment(1, shape=["3"]),
    "parts of another size": set_segment(1, parts=[4, 4], chunks=[1, 1]),
    "part of nothing": set_segment(1, parts=[0, 12], chunks=[1, 1]),
    "parts not lengths": set_segment(1, parts=["12"]),
    "fewer chunks than parts": set_segment(1, parts=[4, 8]),
    "bundle of another size": set_segment(3, bundle=[["a", [2]]]),
    "bundle of nothing": set_segment(3, bundle=[], size=0),
    "bundle of no shapes": set_segment(3, bundle=["ab", "cd"]),
    "bundle of a dtype of no size": set_segment(3, dtype="F3"),
    "gaps without dtypes": set_segment(3, gaps=[0, 0, 0]),
    "fewer gaps than there are": set_segment(
        3, gaps=[0, 0], bundle=[["a", [2], "F32"], ["b", [], "F32"]]
    ),
    "gap of another size": set_segment(
        3, gaps=[0, 0, 1], bundle=[["a", [2], "F32"], ["b", [], "F32"]]
    ),
    "negative gap": set_segment(3, gaps=[1, -1, 0], bundle=[["a", [2], "F32"], ["b", [], "F32"]]),
    "bundle of two chunks": set_segment(3, chunks=[2, 2]),
    "share beyond its chunk": set_share(share=[0, 32, 40]),
    "share of a chunk out of the table": set_share(share=[7, 30, 40]),
    "share of a negative chunk": set_share(share=[-1, 30, 40]),
    "share of a chunk too long": set_share(share=[0, 30, CHUNK_BYTES + 1]),
    "share of nowhere": set_share(share=[0, 30]),
    "share of nothing": lambda outline: outline["files"][1].update(
        size=0, segments=[{"share": [0, 30, 40], "size": 0}]
    ),
    "share and something else": lambda outline: outline["files"][1].update(
        size=11, segments=[*outline["files"][1]["segments"], {"literal": "AAA="}]
    ),
    "literal too long": set_segment(2, literal="A" * 400),
    "literal not base64": set_segment(2, literal="%"),
    "no files": lambda outline: outline.pop("files"),
    "chunk size tiny": lambda outline: outline.update(chunk_bytes=8),
    "chunk size huge": lambda outline: outline.update(chunk_bytes=1 << 40),
    "same file twice": lambda outline: outline["files"].insert(0, outline["files"][0]),
    "file and folder": lambda outline: outline["files"].insert(
        1, {**outline["files"][0], "path": "m.safetensors/x"}
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_add_up_is_refused(case: str):
    assert parse_manifest(repack(lambda outline: None)) == small_manifest()
    with pytest.raises(InvalidManifest):
        parse_manifest(repack(BAD[case]))


def test_newer_version_asks_for_an_upgrade():
    data = bytearray(pack_manifest(small_manifest()))
    data[4] = 2
    with pytest.raises(InvalidManifest, match="version 2") as caught:
        parse_manifest(bytes(data))
    assert caught.value.hint == "upgrade weightvault"


def test_outline_may_not_expand_beyond_its_promise():
    data = pack_manifest(small_manifest())
    head = struct.Struct("<4sB3xIII")
    bomb = zstandard.compress(bytes(1 << 26))
    lying = head.pack(data[:4], 1, 0, 100, len(bomb)) + bomb
    with pytest.raises(InvalidManifest, match="another length"):
        parse_manifest(lying)
