"""A second decoder of frames, written from FORMAT.md alone: slow, plain, and sharing no code with
the first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import zstandard

CODECS = ("raw", "constant", "zstd", "planes", "bitx", "difference", "sparse", "identical")
CODECS += ("xor-context", "zstd-dictionary", "zstd-patch", "derived", "multiples")
DICTIONARY = Path(__file__).parents[2] / "codecs" / "dictionary-0.zdict"
ITEM_BYTES = (1, 1, 1, 2, 2, 4, 4, 8, 8, 1, 1, 2, 2, 4, 8)
FIRST_FLOAT, LAST_FLOAT = 11, 14


@dataclass
class Reader:
    """Walks through bytes from the front."""

    data: bytes
    at: int = 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.data), "ends too early"
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)


def decode_frame(frame: bytes, base: bytes = b"") -> bytes:
    """Returns the tensor of a frame that is taken to be sound."""
    reader = Reader(frame)
    assert reader.take(4) == bytes.fromhex("5756469e")
    assert reader.number(1) == 1
    codec, dtype, flags = CODECS[reader.number(1)], reader.number(1), reader.number(1)
    length = reader.number(8)
    reader.take(32 + 32 * (flags & 1))
    if codec in ("zstd-dictionary", "zstd-patch"):
        reader.take(16)
        return decode_text(reader, codec, base)
    if flags & 1:
        return decode_with_base(reader, codec, dtype, length, flags, base)
    if codec in ("raw", "constant"):
        reader.take(16)
        body = reader.rest()
        return body if codec == "raw" else (body * length)[:length]
    block_bytes = reader.number(4)
    blocks = -(-length // block_bytes)
    sizes = [(reader.number(4), reader.number(4))[0] for _ in range(blocks)]
    reader.take(8)
    out = bytearray()
    for size in sizes:
        count = min(block_bytes, length - len(out))
        out += decode_block(reader.take(size), dtype, base[len(out) : len(out) + count], count)
    assert reader.rest() == b""
    return bytes(out)


def decode_text(reader: Reader, codec: str, base: bytes) -> bytes:
    kind = zstandard.DICT_TYPE_RAWCONTENT
    if codec == "zstd-dictionary":
        assert reader.number(1) == 0
        base, kind = DICTIONARY.read_bytes(), zstandard.DICT_TYPE_FULLDICT
    known = zstandard.ZstdCompressionDict(base, kind)
    return zstandard.ZstdDecompressor(dict_data=known).decompress(reader.rest())


def decode_with_base(
    reader: Reader, codec: str, dtype: int, length: int, flags: int, base: bytes
) -> bytes:
    from delta_reference import cut, decode_parts, read_runs

    runs = read_runs(reader) if flags & 2 else [(0, 0, length)]
    if codec == "identical":
        reader.take(16)
        assert reader.rest() == b""
        return b"".join(base[at : at + size] for size, at in cut(runs, 0, length) if at is not None)
    block_bytes = reader.number(4)
    sizes = [(reader.number(4), reader.number(4))[0] for _ in range(-(-length // block_bytes))]
    reader.take(8)
    out = bytearray()
    for size in sizes:
        count = min(block_bytes, length - len(out))
        out += decode_parts(reader.take(size), dtype, base, runs, len(out), count)
    assert reader.rest() == b""
    return bytes(out)


def decode_block(stored: bytes, dtype: int, base: bytes, count: int) -> bytes:
    reader = Reader(stored)
    layout = reader.number(1)
    if layout == 13:
        return decode_multiples(reader, dtype, count)
    raw = decode_layout(reader, layout & 127, dtype, count)
    assert reader.rest() == b""
    return bytes(a ^ b for a, b in zip(raw, base, strict=True)) if layout & 128 else raw


def decode_multiples(reader: Reader, dtype: int, count: int) -> bytes:
    from delta_reference import decode_part

    rule, group, phase = reader.number(1), reader.number(4), reader.number(4)
    m = count // ITEM_BYTES[dtype]
    packed = decode_layout(reader, reader.number(1), 13, 4 * -(-(m + phase) // group))
    scales = np.frombuffer(packed, np.float32)
    symbols = np.array(decode_stream(reader, m, []))
    integers = (symbols // 2).astype(np.float32)
    each = scales[(np.arange(m) + phase) // group]
    values = integers / each if rule else integers * each
    values = np.where(symbols % 2, -values, values)
    kinds = {11: np.float16, 12: ml_dtypes.bfloat16, 13: np.float32}
    return decode_part(reader.rest(), dtype, values.astype(kinds[dtype]).tobytes(), count)


def decode_layout(reader: Reader, layout: int, dtype: int, count: int) -> bytes:
    if layout == 0:
        return bytes(decode_stream(reader, count, []))
    k = ITEM_BYTES[dtype]
    m = count // k
    if layout == 1:
        planes: list[list[int]] = []
        for _ in range(k):
            planes.append(decode_stream(reader, m, planes[-1] if planes else []))
        is_float = FIRST_FLOAT <= dtype <= LAST_FLOAT
        elements = b"".join(join_element(cells, k, is_float) for cells in zip(*planes, strict=True))
    elif layout == 2:
        values = [reader.take(k) for _ in range(reader.number(1) + 1)]
        elements = b"".join(values[place] for place in decode_stream(reader, m, []))
    else:
        assert layout == 3
        bits = decode_stream(reader, -(-m // 8), [])
        kept = [bits[i // 8] >> i % 8 & 1 for i in range(m)]
        inner = decode_layout(reader, reader.number(1), dtype, k * sum(kept))
        cells = iter([inner[i : i + k] for i in range(0, len(inner), k)])
        elements = b"".join(next(cells) if keep else bytes(k) for keep in kept)
    return elements + reader.take(count % k)


def join_element(cells: tuple[int, ...], k: int, is_float: bool) -> bytes:
    word = int.from_bytes(bytes(cells), "big")
    if is_float:
        low = 8 * k - 9
        top = word >> low
        top = top >> 1 | (top & 1) << 8
        word = top << low | word & ((1 << low) - 1)
    return word.to_bytes(k, "little")


def decode_stream(reader: Reader, m: int, before: list[int]) -> list[int]:
    kind = reader.number(1)
    payload = Reader(reader.take(reader.number(4)))
    if kind == 0:
        return list(payload.rest())
    if kind == 1:
        return [payload.number(1)] * m
    if kind == 3:
        return list(zstandard.decompress(payload.rest()))
    if kind == 2:
        log2 = payload.number(1)
        return decode_plane(payload, -(-m // (1 << log2)), [i >> log2 for i in range(m)])
    if kind in (6, 8):
        return decode_prefix(payload, kind, m)
    count = payload.number(1)
    if kind in (4, 7):
        cuts = payload.take(count - 1)
        chosen = [sum(c <= v for c in cuts) for v in before]
        return decode_contexts(payload, count, chosen, is_prefix=kind == 7)
    assert kind == 5
    classes = decode_stream(payload, -(-m // 512), [])
    return decode_plane(payload, count, [classes[i // 512] for i in range(m)])


def decode_prefix(payload: Reader, kind: int, m: int) -> list[int]:
    from prefix_reference import decode_rows, decode_segments

    log2 = payload.number(1)
    if kind == 6:
        return decode_segments(payload, m, log2)
    return decode_rows(payload, -(-m // (1 << log2)), [i >> log2 for i in range(m)])


def decode_contexts(reader: Reader, count: int, chosen: list[int], *, is_prefix: bool) -> list[int]:
    """Decodes symbols of which each has the table that is chosen for it."""
    from prefix_reference import decode_rows

    return (decode_rows if is_prefix else decode_plane)(reader, count, chosen)


def decode_plane(reader: Reader, count: int, chosen: list[int]) -> list[int]:
    states = [reader.number(4) for _ in range(64)]
    tables = list(read_tables(reader, count))
    out = []
    for i, row in enumerate(chosen):
        x = states[i % 64]
        slot = x % 4096
        symbol, frequency, start = tables[row][slot]
        x = frequency * (x // 4096) + slot - start
        states[i % 64] = x * 65536 + reader.number(2) if x < 32768 else x
        out.append(symbol)
    assert set(states) == {1 << 15}
    assert reader.rest() == b""
    return out


def read_tables(reader: Reader, count: int) -> Iterator[list[tuple[int, int, int]]]:
    """Yields for each table the symbol, frequency and start that belong to each of the 4096
    slots.
    """
    slots: list[tuple[int, int, int]] = []
    for _ in range(count):
        tag = reader.number(1)
        if tag:
            slots = []
            for symbol, frequency in enumerate(read_frequencies(reader, tag - 1)):
                slots += [(symbol, frequency, len(slots))] * frequency
            assert len(slots) == 4096
        yield slots


def read_frequencies(reader: Reader, group_log2: int) -> list[int]:
    first, last = reader.number(1), reader.number(1)
    groups = last - first + 1
    packed = reader.take((groups + 1) // 2)
    lengths = [packed[i // 2] >> 4 * (i % 2) & 15 for i in range(groups)]
    bits = sum(length - 1 for length in lengths if length)
    low = reader.number(-(-bits // 8))
    frequencies = [0] * first
    for length in lengths:
        frequency = 0
        if length:
            top = 1 << (length - 1)
            frequency = top | low & (top - 1)
            low >>= length - 1
        frequencies.append(frequency)
    return [frequency for frequency in frequencies for _ in range(1 << group_log2)]
