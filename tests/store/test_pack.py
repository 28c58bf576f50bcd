"""Packs: what is written is what is read, and a pack that fails leaves nothing."""

import io
import random
import resource
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from pack_samples import make_pack, read_all

from weightvault.store.backends.memory import MemoryBackend
from weightvault.store.errors import InvalidKey, StorageFull, StoreError
from weightvault.store.object_keys import pack_key
from weightvault.store.packs import PackEntry, PackWriter, encode_index, read_index

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_NAME = "914da2d0f3ade6c658c21aedd7c6c16f44a1bce683b1de7b2be70776ba2460ef"

digests = st.one_of(
    st.binary(min_size=32, max_size=32), st.sampled_from([bytes([n]) * 32 for n in range(4)])
)
frames = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=40),
        st.fixed_dictionaries(
            {
                "digest": digests,
                "raw_bytes": st.integers(0, (1 << 63) - 1),
                "codec": st.integers(0, 255),
                "dtype": st.integers(0, 255),
                "inputs": st.lists(digests, max_size=1).map(tuple),
            }
        ),
    ),
    min_size=1,
    max_size=20,
)


@given(frames)
def test_what_is_added_is_what_is_read(content: list[tuple[bytes, dict]]) -> None:
    file = io.BytesIO()
    writer = PackWriter(file)
    added = [writer.add(frame, **facts) for frame, facts in content]
    name = writer.finish()
    pack = file.getvalue()
    assert writer.size == len(pack)
    assert name == blake3(pack).hexdigest()
    entries = read_all(pack)
    assert entries == added == writer.entries
    for entry, (frame, facts) in zip(entries, content, strict=True):
        assert pack[entry.offset : entry.offset + entry.frame_bytes] == frame
        assert {fact: getattr(entry, fact) for fact in facts} == facts


def test_the_golden_pack_is_read_as_ever() -> None:
    pack = (GOLDEN / "pack-v1.wvpack").read_bytes()
    a, b, c = (bytes([byte]) * 32 for byte in (0xAA, 0xBB, 0xCC))
    assert blake3(pack).hexdigest() == GOLDEN_NAME
    assert read_all(pack) == [
        PackEntry(a, 8, 5, 10, 1, 7),
        PackEntry(b, 13, 300, 70_000, 2, 7, (a,)),
        PackEntry(c, 313, 1, (1 << 40) + 1, 255, 0, (b"\xee" * 32,)),
        *(PackEntry(bytes([n]) * 32, 314 + n, 1, 4, 0, 1) for n in range(40)),
    ]


def test_every_byte_counts_for_the_name() -> None:
    pack, _ = make_pack()
    assert pack[:8] == b"WVPACK\n\1"
    file = io.BytesIO()
    writer = PackWriter(file)
    writer.add(b"x", digest=bytes(32), raw_bytes=1, codec=0, dtype=0)
    name = writer.finish()
    for at in range(len(file.getvalue())):
        damaged = bytearray(file.getvalue())
        damaged[at] ^= 1
        assert blake3(bytes(damaged)).hexdigest() != name


def test_ten_thousand_small_tensors_cost_their_digests_and_little_more() -> None:
    file = io.BytesIO()
    writer = PackWriter(file)
    rng = random.Random(0)
    for _ in range(10_000):
        facts = {"digest": rng.randbytes(32), "raw_bytes": 1024, "codec": 3, "dtype": 2}
        writer.add(bytes(rng.randint(650, 800)), **facts)
    content = writer.size
    writer.finish()
    assert writer.size - content < 10_000 * (32 + 1.2)


def test_a_base_in_the_same_pack_costs_no_second_digest() -> None:
    def index_bytes(base: bytes) -> int:
        first = PackEntry(b"a" * 32, 8, 5, 10, 0, 0)
        return len(encode_index([first, PackEntry(b"b" * 32, 13, 5, 10, 1, 0, (base,))]))

    assert index_bytes(b"c" * 32) - index_bytes(b"a" * 32) >= 30


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame": b""},
        {"digest": b"short"},
        {"digest": b"x" * 33},
        {"inputs": [b""]},
        {"inputs": [bytes(32)] * 2},
        {"derived": True},
        {"derived": True, "inputs": [bytes(32)] * 17},
        {"inputs": [bytes(32)], "depth": 0},
        {"inputs": [bytes(32)], "depth": 9},
        {"depth": 2},
        {"derived": True, "inputs": [bytes(32)], "depth": 2},
        {"raw_bytes": -1},
        {"raw_bytes": 1 << 63},
        {"codec": 256},
        {"codec": -1},
        {"dtype": 256},
        {"dtype": -1},
    ],
    ids=repr,
)
def test_facts_out_of_range_are_refused(wrong: dict) -> None:
    file = io.BytesIO()
    writer = PackWriter(file)
    right = {"frame": b"x", "digest": bytes(32), "raw_bytes": 1, "codec": 0, "dtype": 0}
    with pytest.raises(ValueError, match=r"byte|range|inputs|chain"):
        writer.add(**{**right, **wrong})
    assert writer.entries == []
    writer.add(**right)
    writer.finish()
    assert len(read_all(file.getvalue())) == 1


def test_a_pack_without_frames_is_refused(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "pack") as writer, pytest.raises(ValueError, match="at least one"):
        writer.finish()
    assert list(tmp_path.iterdir()) == []


def add_one(writer: PackWriter, frame: bytes = b"frame") -> PackEntry:
    return writer.add(frame, digest=bytes(32), raw_bytes=9, codec=1, dtype=2)


def test_a_pack_at_a_path_is_complete_after_finish(tmp_path: Path) -> None:
    path = tmp_path / "pack"
    with PackWriter(path) as writer:
        entry = add_one(writer)
        name = writer.finish()
        assert read_all(path.read_bytes()) == [entry]
    assert blake3(path.read_bytes()).hexdigest() == name
    backend = MemoryBackend()
    backend.put_file(pack_key(name), path)
    key = f"packs/{name[:2]}/{name}"
    read = lambda start, stop: backend.get(key, start, stop)  # noqa: E731
    assert read_index(read, backend.size(key)) == [entry]


def test_a_pack_given_up_is_gone(tmp_path: Path) -> None:
    with PackWriter(tmp_path / "pack") as writer:
        add_one(writer)
    writer.abort()
    assert list(tmp_path.iterdir()) == []
    for use in (writer.finish, lambda: add_one(writer)):
        with pytest.raises(ValueError, match="given up"):
            use()


def test_a_finished_pack_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pack"
    writer = PackWriter(path)
    add_one(writer)
    writer.finish()
    content = path.read_bytes()
    writer.abort()
    for use in (writer.finish, lambda: add_one(writer)):
        with pytest.raises(ValueError, match="finished"):
            use()
    assert path.read_bytes() == content


def test_a_path_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pack"
    path.write_bytes(b"precious")
    with pytest.raises(StoreError, match="exists"):
        PackWriter(path)
    assert path.read_bytes() == b"precious"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_reported_as_such() -> None:
    file = open("/dev/full", "wb")  # noqa: SIM115 - closing it fails, too
    writer = PackWriter(file)
    with pytest.raises(StorageFull, match="No space"):
        add_one(writer, bytes(1 << 20))
    with pytest.raises(ValueError, match="given up"):
        writer.finish()

    writer = PackWriter(file)
    add_one(writer)
    with pytest.raises(StorageFull, match="No space"):
        writer.finish()
    with pytest.raises(OSError, match="No space"):
        file.close()


def test_a_pack_that_does_not_fit_is_removed(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with PackWriter(tmp_path / "pack") as writer:
        add_one(writer, bytes(1 << 20))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, hard))
        try:
            with pytest.raises(StorageFull):
                add_one(writer, bytes(3 << 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(tmp_path.iterdir()) == []


def test_a_buffer_of_wider_items_counts_bytes() -> None:
    file = io.BytesIO()
    writer = PackWriter(file)
    frame = memoryview(b"12345678").cast("I")
    entry = writer.add(frame, digest=bytes(32), raw_bytes=1, codec=0, dtype=0)
    assert (entry.frame_bytes, writer.size) == (8, 16)
    writer.finish()
    assert file.getvalue()[8:16] == b"12345678"


def test_keys_of_packs() -> None:
    name = "ab" + "0" * 62
    assert pack_key(name) == f"packs/ab/{name}"
    for wrong in ("", "ab", name.upper(), name + "0", "../" + name[3:], name[:-1] + "\n"):
        with pytest.raises(InvalidKey):
            pack_key(wrong)
