"""Prefix codes: the best lengths there are, the same symbols back, and no trust in what is read."""

import heapq
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from delta_samples import sample_pair
from frame_surgery import stored_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from quantised_samples import make_groups
from tensor_samples import sample_bytes

from weightvault.codecs.buffers import freeze
from weightvault.codecs.delta.blocks import DIFFERENCE
from weightvault.codecs.errors import CorruptFrame
from weightvault.codecs.pipeline import decode_range, decode_tensor, encode_tensor
from weightvault.codecs.prefix import codes, prefix
from weightvault.codecs.rans import rans
from weightvault.codecs.rans.streams import HEAD, PREFIX, PREFIX_BY_PREVIOUS, PREFIX_BY_SEGMENT
from weightvault.codecs.simd import paths

COUNTS = st.lists(st.tuples(st.integers(0, 255), st.integers(1, 1 << 24)), min_size=1, max_size=256)
LENGTHS = st.one_of(
    st.integers(1, 700), st.sampled_from([4096, 7999, 8001, 65_535, 65_537, 200_003])
)
SPREADS = st.sampled_from([0.3, 1, 3, 20, 90, 1000])


def _symbols(count: int, spread: float, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(128, spread, count)
    return freeze(np.clip(values, 0, 255).astype(np.uint8))


def _joined(parts) -> np.ndarray:
    return freeze(np.frombuffer(b"".join(parts), np.uint8))


def _fit(counts: np.ndarray, limit: int) -> np.ndarray:
    lengths = np.zeros(256, np.uint8)
    codes.fit_kernel(counts, limit, np.zeros(codes.MAX_ROOM, np.int64), lengths)
    return lengths


def _unbounded_price(counts: np.ndarray) -> tuple[int, int]:
    """Bits of Huffman's codes, and how long the longest may be: the sum of all merged weights."""
    heap = [(int(count), 0) for count in counts if count]
    heapq.heapify(heap)
    price, depth = (heap[0][0], 1) if len(heap) == 1 else (0, 0)
    while len(heap) > 1:
        (a, one), (b, other) = heapq.heappop(heap), heapq.heappop(heap)
        price, depth = price + a + b, max(one, other) + 1
        heapq.heappush(heap, (a + b, depth))
    return price, depth


@settings(deadline=None, max_examples=150)
@given(pairs=COUNTS, limit=st.sampled_from([8, codes.ROW_BITS, codes.PLANE_BITS]))
def test_lengths_are_complete_and_the_best(pairs, limit):
    counts = np.zeros(256, np.uint32)
    for symbol, count in pairs:
        counts[symbol] += np.uint32(count)
    lengths = _fit(counts, limit)
    assert bool((lengths[counts > 0] > 0).all())
    assert int(lengths.max()) <= limit
    assert sum(2 ** (limit - int(n)) for n in lengths if n) == 2**limit
    price, depth = _unbounded_price(counts)
    bits = int((lengths.astype(np.int64) * counts).sum())
    assert bits >= price
    if depth <= limit:
        assert bits == price
    packed = np.zeros(codes.MAX_TABLE_BYTES, np.uint8)
    packed = freeze(packed[: codes.pack_kernel(lengths, codes.OWN, packed, 0)])
    parsed = np.zeros(256, np.uint8)
    assert codes.parse_kernel(packed, 0, limit, parsed) == packed.size
    assert np.array_equal(parsed, lengths)


def test_bounded_lengths_are_the_best():
    """Four weights in at most two bits have no choice; five in three leave two for the rarest."""
    counts = np.zeros(256, np.uint32)
    counts[:4] = 1, 10, 100, 1000
    assert _fit(counts, 2)[:4].tolist() == [2, 2, 2, 2]
    counts[:5] = 1, 1, 2, 4, 8
    assert _fit(counts, 3)[:5].tolist() == [3, 3, 3, 3, 1]


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_altered_lengths_are_refused_or_complete(data):
    lengths = _fit(rans.count_segments(_symbols(5000, 20, 1))[0], codes.ROW_BITS)
    packed = np.zeros(codes.MAX_TABLE_BYTES, np.uint8)
    packed = packed[: codes.pack_kernel(lengths, codes.OWN, packed, 0)].copy()
    packed[data.draw(st.integers(0, packed.size - 1))] ^= data.draw(st.integers(1, 255))
    packed = freeze(packed[: packed.size - data.draw(st.integers(0, 3))])
    parsed = np.zeros(256, np.uint8)
    end = codes.parse_kernel(packed, 0, codes.ROW_BITS, parsed)
    assert end <= packed.size
    if end > 1:
        assert sum(2.0 ** -int(n) for n in parsed if n) == 1


@settings(deadline=None, max_examples=60)
@given(count=LENGTHS, spread=SPREADS, seed=st.integers(0, 1000))
def test_planes(count, spread, seed):
    symbols, low = _symbols(count, spread, seed), _symbols(count, 1000, seed + 1)
    counts = rans.count_segments(symbols, prefix.SEGMENT_LOG2)
    chosen, rows = prefix.choose_plane_codes(counts), prefix.choose_row_codes(counts)
    coded = _joined(prefix.encode_plane(symbols, chosen))
    assert coded.size <= chosen.coded_bytes
    by_rows = _joined(prefix.encode_segments(symbols, rows))
    assert by_rows.size <= 1 + rows.coded_bytes
    wide = low.astype(np.uint16)
    expected = (wide & 128) << 8 | symbols.astype(np.uint16) << 7 | wide & 127
    for source, decode, decode_pair in (
        (coded, prefix.decode_plane, prefix.decode_pair),
        (by_rows, prefix.decode_segments, prefix.decode_segment_pair),
    ):
        out, words = np.zeros(count, np.uint8), np.zeros(count, np.uint16)
        decode(source, out)
        assert np.array_equal(out, symbols)
        decode_pair(source, low, words)
        assert np.array_equal(words, expected)


@settings(deadline=None, max_examples=60)
@given(count=LENGTHS, spread=SPREADS, rows=st.integers(1, 64), seed=st.integers(0, 1000))
def test_rows(count, spread, rows, seed):
    symbols = _symbols(count, spread, seed)
    chosen = freeze(np.random.default_rng(seed).integers(0, rows, count, np.uint8))
    found = prefix.choose_row_codes(rans.count_contexts(symbols, chosen, rows))
    coded = _joined(prefix.encode_rows(symbols, chosen, found))
    assert coded.size <= found.coded_bytes
    out = np.zeros(count, np.uint8)
    prefix.decode_rows(coded, chosen, rows, out)
    assert np.array_equal(out, symbols)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), count=st.sampled_from([1, 64, 5000, 70_000]), spread=SPREADS)
def test_altered_streams_are_refused_or_decode(data, count, spread):
    symbols = _symbols(count, spread, 1)
    counts = rans.count_segments(symbols, prefix.SEGMENT_LOG2)
    if data.draw(st.booleans()):
        coded = _joined(prefix.encode_plane(symbols, prefix.choose_plane_codes(counts))).copy()
        decode = prefix.decode_plane
    else:
        coded = _joined(prefix.encode_segments(symbols, prefix.choose_row_codes(counts))).copy()
        decode = prefix.decode_segments
    for _ in range(data.draw(st.integers(0, 3))):
        near = st.integers(0, min(200, coded.size - 1))
        place = data.draw(st.one_of(near, st.integers(0, coded.size - 1)))
        coded[place] ^= data.draw(st.integers(1, 255))
    coded = freeze(coded[: coded.size - data.draw(st.sampled_from([0, 0, 1, 9, 300]))])
    out = np.zeros(count + 64, np.uint8)
    out[count:] = 0xA5
    with suppress(CorruptFrame):
        decode(coded, out[:count])
    assert bool((out[count:] == 0xA5).all())


def _kinds(frame: bytes, planes: int) -> set[int]:
    kinds = set()
    for block in stored_blocks(frame):
        at = 1
        for _ in range(planes):
            kind, size = HEAD.unpack(block[at : at + HEAD.size])
            kinds.add(kind)
            at += HEAD.size + size
    return kinds


@pytest.mark.parametrize(("dtype", "kind"), [("BF16", PREFIX), ("F16", PREFIX_BY_SEGMENT)])
def test_fast_frames_use_them_and_others_do_not(dtype, kind):
    raw = sample_bytes("weights", dtype, 300_002, 1)
    assert kind in _kinds(encode_tensor(raw, dtype, level="fast"), 2)
    for level in ("default", "max"):
        assert not _kinds(encode_tensor(raw, dtype, level=level), 2) & {6, 7, 8}


def test_fields_use_them_by_their_guide():
    """Half of the groups have no minima, so that their guide is 0, and small quants."""
    groups = np.frombuffer(make_groups("Q4_K", 600), np.uint8).reshape(600, -1).copy()
    groups[::2, 4:16] = np.repeat([9, 0, 9], 4)
    groups[::2, 16:] &= 0x33
    frame = encode_tensor(groups, "Q4_K", level="fast")
    at, kinds = 2, []
    (block,) = stored_blocks(frame)
    while at < len(block):
        kind, size = HEAD.unpack(block[at : at + HEAD.size])
        kinds.append(kind)
        at += HEAD.size + size
    assert kinds[-1] == PREFIX_BY_PREVIOUS
    assert bytes(decode_tensor(frame)) == groups.tobytes()


@settings(deadline=None, max_examples=40)
@given(
    dtype=st.sampled_from(["BF16", "F16", "F32", "F64", "I16", "F8_E4M3"]),
    kind=st.sampled_from(["tuned", "rare", "moved", "random"]),
    length=st.sampled_from([3_001, 64_002, 150_003]),
    seed=st.integers(0, 1000),
)
def test_deltas_are_the_same_on_every_path(dtype, kind, length, seed):
    raw, base = sample_pair(kind, dtype, length, seed)
    frames = set()
    for path in paths.available_paths():
        paths.force_path(path)
        frames.add(encode_tensor(raw, dtype, base=base, level="fast"))
    (frame,) = frames
    for path in paths.available_paths():
        paths.force_path(path)
        assert bytes(decode_tensor(frame, base=base)) == raw
    piece = bytes(decode_range(frame, length // 3, length // 2, base=base))
    assert piece == raw[length // 3 : length // 2]


def test_a_tuned_tensor_has_prefixed_differences():
    raw, base = sample_pair("tuned", "BF16", 200_000, 1)
    (block,) = stored_blocks(encode_tensor(raw, "BF16", base=base, level="fast"))
    assert block[0] == DIFFERENCE
    assert block[1] & 128
    (block,) = stored_blocks(encode_tensor(raw, "BF16", base=base))
    assert not block[1] & 128


def test_what_is_mostly_one_value_keeps_rans():
    """A prefix code takes a bit for each symbol; these have a twentieth of that."""
    rng = np.random.default_rng(1)
    symbols = (rng.random(100_000) < 0.005) * rng.integers(1, 9, 100_000)
    frame = encode_tensor(symbols.astype(np.uint8), "F8_E4M3", level="fast")
    assert len(frame) < 9_000


def test_interpreted_kernels_decode_what_compiled_ones_wrote():
    """As the fuzzer of frames runs them: emitted loops are left aside."""
    golden = Path(__file__).parent / "golden"
    program = (
        "import sys; from pathlib import Path\n"
        "from weightvault.codecs.pipeline import decode_tensor\n"
        "from weightvault.codecs.simd import paths\n"
        "paths.force_path('portable')\n"
        "plain, f16, base, delta = (Path(name).read_bytes() for name in sys.argv[1:])\n"
        "decode_tensor(plain), decode_tensor(f16)\n"
        "decode_tensor(delta, base=decode_tensor(base))\n"
    )
    names = "planes-bf16-prefix", "planes-f16-prefix", "planes-bf16", "difference-bf16-prefix"
    frames = [str(golden / f"v1-{name}.frame") for name in names]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *frames],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
