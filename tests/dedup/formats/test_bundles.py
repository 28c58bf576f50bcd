"""Small tensors in a row are stored together; those between large ones are not."""

from pathlib import Path

import numpy as np
import pytest
import zstandard
from format_samples import npz_bytes
from hypothesis import given
from hypothesis import strategies as st
from models import read_folder, safetensors_bytes

from weightvault.dedup.formats.cutting.bundles import (
    LEAST_TENSORS,
    SMALL_BYTES,
    TINY_BYTES,
    bundle_small,
)
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files.manifest import Manifest
from weightvault.dedup.model.files.segments import (
    CHUNK_BYTES,
    Bundle,
    Literal,
    Opaque,
    Segment,
    Tensor,
)
from weightvault.dedup.reports.inspect_file import inspect_file
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.store.backends.open import open_backend
from weightvault.store.backends.s3 import S3Backend
from weightvault.store.catalogue.catalogue import open_catalogue

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]
COUNT, EACH = 10_000, 1024


def small(count: int, seed: int = 1, nbytes: int = EACH) -> Tensors:
    """Tensors of bytes that nothing compresses."""
    rng = np.random.default_rng(seed)
    return {f"layer.{i}.norm": ("U8", (nbytes,), rng.bytes(nbytes)) for i in range(count)}


def write(folder: Path, **files: Tensors) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in files.items():
        (folder / f"{name}.safetensors").write_bytes(safetensors_bytes(tensors))
    return folder


def stored(vault: LocalVault) -> int:
    return sum(info.size for info in vault.backend.list())


# What is put together


def tensor(name: str, nbytes: int, dtype: str = "U8") -> Tensor:
    return Tensor(name, dtype, (nbytes,), nbytes)


SEGMENTS = st.lists(
    st.one_of(
        st.builds(Literal, st.binary(max_size=64)),
        st.builds(Opaque, st.integers(1, 10**6)),
        st.builds(
            tensor,
            st.text(max_size=8),
            st.sampled_from([0, 1, 1024, SMALL_BYTES - 1, SMALL_BYTES, 10**6]),
            st.sampled_from(["U8", "I8", "of no codec"]),
        ),
        st.integers(1, 40).map(
            lambda n: [tensor(f"t{i}", 100 * i % SMALL_BYTES) for i in range(n)]
        ),
    ),
    max_size=30,
).map(lambda parts: [s for part in parts for s in (part if isinstance(part, list) else [part])])


def unbundle(segments: list[Segment]) -> list[Segment]:
    return [t for s in segments for t in (s.tensors if isinstance(s, Bundle) else (s,))]


@given(SEGMENTS, st.sampled_from([1 << 16, CHUNK_BYTES]))
def test_nothing_is_lost_or_moved(segments: list[Segment], chunk_bytes: int):
    found = bundle_small(segments, chunk_bytes)
    assert unbundle(found) == segments
    for bundle in (s for s in found if isinstance(s, Bundle)):
        assert bundle.size <= chunk_bytes
        assert len({t.dtype for t in bundle.tensors}) == 1
        assert all(t.size < SMALL_BYTES for t in bundle.tensors)


@pytest.mark.parametrize(("count", "together"), [(LEAST_TENSORS - 1, False), (LEAST_TENSORS, True)])
def test_a_few_stay_apart(count: int, together: bool):
    large = tensor("large", SMALL_BYTES)
    run = [tensor(f"t{i}", 8) for i in range(count)]
    found = bundle_small([large, *run, large], CHUNK_BYTES)
    assert any(isinstance(s, Bundle) for s in found) == together


def test_tunes_are_cut_alike_and_shards_fall_into_step():
    run: list[Segment] = [tensor(f"layer.{i}.norm", EACH) for i in range(COUNT)]

    def names(segments: list[Segment]) -> set[tuple[str, ...]]:
        bundles = bundle_small(segments, CHUNK_BYTES)
        return {tuple(t.name for t in b.tensors) for b in bundles if isinstance(b, Bundle)}

    whole = names(list(run))
    shards = names(run[:3333]) | names(run[3333:7777]) | names(run[7777:])
    # Each of the two cuts makes two bundles of one.
    assert len(shards - whole) <= 4
    assert len(whole & shards) >= len(whole) - 2


# What becomes of them


def test_each_is_read_alone(local: LocalVault, tmp_path: Path):
    tensors = small(100)
    push(local, write(tmp_path / "m", model=tensors), "org/m")
    assert any(isinstance(s, Bundle) for s in manifest(local, "org/m").files[0].segments)
    etags = set()
    for name, (dtype, shape, raw) in tensors.items():
        _, place, pieces = local.read_tensor("org/m", "main", name)
        assert b"".join(pieces) == raw
        assert (place.tensor.dtype, place.tensor.shape) == (dtype, shape)
        etags.add((place.chunks, place.start))
    assert len(etags) == 100
    listed = [p for p in inspect_file(tmp_path / "m/model.safetensors").parts if p.name]
    assert [(p.name, p.size) for p in listed] == [(n, EACH) for n in tensors]
    assert local.describe_repo("org/m").files[0].tensors == 100


def manifest(vault: LocalVault, repo: str) -> Manifest:
    return vault.resolve(repo).manifest


def test_a_tune_is_coded_against_its_base(local: LocalVault, tmp_path: Path):
    rng = np.random.default_rng(1)
    base = rng.normal(0, 0.05, (200, 256)).astype(np.float32)
    tuned = base + rng.normal(0, 1e-5, base.shape).astype(np.float32)
    sizes = []
    for repo, weights in (("base", base), ("tuned", tuned)):
        tensors = {f"t.{i}": ("F32", (256,), row.tobytes()) for i, row in enumerate(weights)}
        sizes.append(push(local, write(tmp_path / repo, model=tensors), f"org/{repo}").sent)
    assert sizes[1] < 0.8 * sizes[0]


def test_shards_of_small_tensors_share_their_bundles(local: LocalVault, tmp_path: Path):
    tensors = small(4000)
    push(local, write(tmp_path / "whole", model=tensors), "org/whole")
    before = stored(local)
    parts = dict(list(tensors.items())[:1500]), dict(list(tensors.items())[1500:])
    push(local, write(tmp_path / "shards", a=parts[0], b=parts[1]), "org/shards")
    # One bundle is cut in two, and each shard's header is another.
    assert stored(local) - before < 0.25 * before


# What they cost


def test_ten_thousand_add_less_than_two_percent(tmp_path: Path, s3_url: str):
    backend = open_backend(s3_url)
    assert isinstance(backend, S3Backend)
    requests: list[str] = []
    events = backend._client.meta.events
    events.register("before-send.s3", lambda request, **_: requests.append(request.method))
    catalogue = open_catalogue(f"sqlite:///{tmp_path / 'c.sqlite'}")
    vault = LocalVault(backend, catalogue, scratch=tmp_path)
    source = write(tmp_path / "m", model=small(COUNT))
    requests.clear()
    push(vault, source, "org/m")
    # Marker, sketches, pack, manifest and journal entry are put; looked at is what is there, what
    # of it is to be removed, and the pack once more to verify the file. Before its first commit a
    # catalogue shows itself to others, and looks at the journal once more after that.
    assert requests.count("PUT") == 5
    assert len(requests) <= 14, requests
    requests.clear()
    pull(vault, "org/m", tmp_path / "out")
    assert len(requests) <= 2, requests
    assert read_folder(tmp_path / "out") == read_folder(source)
    # All there is in the bucket, the file's own header of 1 MB included.
    assert stored(vault) <= 1.02 * COUNT * EACH
    vault.close()


# Among literals


def scattered(count: int, each: int = 300) -> list[Segment]:
    """Tiny tensors as archives have them, each behind a header."""
    parts = [[Literal(bytes(60)), Literal(b"head"), tensor(f"t{i}", each)] for i in range(count)]
    return [segment for part in parts for segment in part]


def flatten(segments: list[Segment]) -> list[tuple[str, int] | int]:
    """Names and sizes of tensors, and how many bytes lie between."""
    found: list[tuple[str, int] | int] = []
    for segment in segments:
        if isinstance(segment, Bundle):
            gaps = segment.gaps or (0,) * (len(segment.tensors) + 1)
            found.append(gaps[0])
            for part, gap in zip(segment.tensors, gaps[1:], strict=True):
                found += [(part.name, part.size), gap]
        elif isinstance(segment, Tensor):
            found.append((segment.name, segment.size))
        else:
            found.append(segment.size)
    merged: list[tuple[str, int] | int] = []
    for each in found:
        if isinstance(each, int) and merged and isinstance(merged[-1], int):
            merged[-1] += each
        elif each:
            merged.append(each)
    return merged


@given(SEGMENTS, st.sampled_from([1 << 16, 1 << 22]))
def test_whatever_lies_between_is_covered(segments: list[Segment], chunk_bytes: int):
    segments = [*segments, *scattered(20), *segments]
    found = bundle_small(segments, chunk_bytes)
    assert flatten(found) == flatten(segments)
    bundles = [segment for segment in found if isinstance(segment, Bundle)]
    assert any(bundle.gaps for bundle in bundles)
    assert all(bundle.size <= chunk_bytes for bundle in bundles)
    for bundle in (bundle for bundle in bundles if bundle.gaps):
        assert all(part.size < TINY_BYTES for part in bundle.tensors)


@pytest.mark.parametrize(
    ("run", "together"),
    [
        (scattered(LEAST_TENSORS), True),
        (scattered(LEAST_TENSORS - 1), False),
        (scattered(LEAST_TENSORS, TINY_BYTES), False),
        # A model in GGUF: what lies between some is padding.
        ([tensor(f"t{i}", 300) for i in range(99)] + scattered(10), False),
    ],
)
def test_only_long_runs_of_tiny_ones_among_literals(run: list[Segment], together: bool):
    found = bundle_small(run, CHUNK_BYTES)
    assert any(isinstance(s, Bundle) and s.gaps for s in found) == together


def test_arrays_of_an_archive_come_back_alone(local: LocalVault, tmp_path: Path):
    rng = np.random.default_rng(3)
    kinds = ("<i8", "<f4", "|u1", "<i8")
    arrays = {
        f"t{i}": rng.integers(0, 99, int(n)).astype(kinds[i % 4])
        for i, n in enumerate(rng.integers(20, 60, 1500))
    }
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a.npz").write_bytes(npz_bytes(arrays))
    push(local, folder, "o/r")
    entry = manifest(local, "o/r").files[0]
    assert sum(isinstance(s, Bundle) and bool(s.gaps) for s in entry.segments) > 0
    places = list(entry.places())
    assert len(places) == len(arrays)
    for array, place in list(zip(arrays.values(), places, strict=True))[::50]:
        stop = place.offset + array.nbytes
        _, _, pieces = local.read_file("o/r", "main", "a.npz", place.offset, stop)
        assert b"".join(pieces) == array.tobytes()
        assert place.tensor.shape == array.shape
    pull(local, "o/r", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(folder)
    zstd = len(zstandard.ZstdCompressor(level=19).compress(read_folder(folder)["a.npz"]))
    assert stored(local) < 1.1 * zstd
    listed = [p.offset for p in inspect_file(folder / "a.npz").parts if p.kind == "tensor"]
    assert listed == [place.offset for place in places]
