"""The part of the second decoder that needs a base, written from FORMAT.md "Delta blocks" alone."""

from frame_reference import (
    ITEM_BYTES,
    Reader,
    decode_block,
    decode_contexts,
    decode_stream,
)

Runs = list[tuple[int, int, int]]
EXPONENTS = {9: (3, 15), 10: (2, 31), 11: (10, 31), 12: (7, 255), 13: (7, 255), 14: (4, 2047)}


def read_runs(reader: Reader) -> Runs:
    return [(reader.number(8), reader.number(8), reader.number(8)) for _ in range(reader.number(4))]


def cut(runs: Runs, start: int, stop: int) -> list[tuple[int, int | None]]:
    """Returns (length, start in the base or None) of each part of a block."""
    parts: list[tuple[int, int | None]] = []
    at = start
    for to, source, count in runs:
        begin, end = max(to, start), min(to + count, stop)
        if begin >= end:
            continue
        if begin > at:
            parts.append((begin - at, None))
        parts.append((end - begin, source + begin - to))
        at = end
    return parts + ([(stop - at, None)] if at < stop else [])


def decode_parts(stored: bytes, dtype: int, base: bytes, runs: Runs, start: int, n: int) -> bytes:
    parts = cut(runs, start, start + n)
    pieces = [(k, b"" if at is None else base[at : at + k]) for k, at in parts]
    if stored[0] != 11:
        return decode_part(stored, dtype, pieces[0][1] if len(pieces) == 1 else b"", n)
    reader = Reader(stored, 1)
    sizes = [(reader.number(4), reader.number(4)) for _ in range(reader.number(4))]
    assert [k for k, _ in sizes] == [k for k, _ in pieces]
    out = b"".join(
        decode_part(reader.take(size), dtype, piece, k)
        for (k, size), (_, piece) in zip(sizes, pieces, strict=True)
    )
    assert reader.rest() == b""
    return out


def decode_part(stored: bytes, dtype: int, base: bytes, n: int) -> bytes:
    layout = stored[0]
    if layout not in (8, 9, 10):
        return decode_block(stored, dtype, base, n)
    reader = Reader(stored, 1)
    k = ITEM_BYTES[dtype]
    words = [int.from_bytes(base[i : i + k], "little") for i in range(0, n - n % k, k)]
    if layout == 8:
        assert reader.rest() == b""
        return base
    if layout == 9:
        words = decode_patch(reader, words, k)
    else:
        words = decode_differences(reader, words, dtype)
    return b"".join(word.to_bytes(k, "little") for word in words) + reader.take(n % k)


def decode_patch(reader: Reader, base: list[int], k: int) -> list[int]:
    changed, low_bits, size = reader.number(4), reader.number(1), reader.number(4)
    packed = reader.take(size)
    bits = iter([packed[i // 8] >> i % 8 & 1 for i in range(8 * size)])
    places, place = [], -1
    for _ in range(changed):
        upper = 0
        while not next(bits):
            upper += 1
        place += 1 + (upper << low_bits) + sum(next(bits) << i for i in range(low_bits))
        places.append(place)
    planes = [decode_stream(reader, changed, []) for _ in range(k)]
    out = list(base)
    for index, place in enumerate(places):
        folded = sum(plane[index] << 8 * byte for byte, plane in enumerate(planes))
        step = -(folded + 1) // 2 if folded & 1 else folded // 2
        out[place] = (base[place] + step) % (1 << 8 * k)
    return out


class Head:
    """What a block of differences says before its streams."""

    def __init__(self, reader: Reader, m: int) -> None:
        flags, self.limit = reader.number(1), reader.number(1)
        self.origin = int.from_bytes(reader.take(4), "little", signed=True)
        self.top, length, phase = reader.number(1), reader.number(4), reader.number(4)
        self.far, self.stored = reader.number(4), reader.number(4)
        self.fine, self.low_bits = flags & 3, flags >> 4 & 3
        self.xored, self.is_prefix = flags & 4, bool(flags & 128)
        rows = -(-(phase + m) // length)
        scales = decode_stream(reader, rows, [])
        columns = decode_stream(reader, length, []) if flags & 8 else None
        self.centres = [0] * m
        grid = [divmod(i + phase, length) for i in range(m)]
        if flags & 64:
            lower, upper = decode_stream(reader, rows, []), decode_stream(reader, rows, [])
            steps = [a + 256 * b for a, b in zip(lower, upper, strict=True)]
            self.centres = [steps[r] for r, _ in grid]
        if columns is None:
            self.scales = [scales[r] for r, _ in grid]
        else:
            self.scales = [(scales[r] + columns[c]) >> 1 for r, c in grid]

    def contexts(self, base: list[int], dtype: int) -> list[int]:
        shift, mask = EXPONENTS.get(dtype, (0, 0))
        shift = max(0, shift - self.fine)
        out = []
        for word, scale in zip(base, self.scales, strict=True):
            context = (word >> shift & mask << self.fine) + self.origin - scale
            context = min(max(context, 0), self.top)
            out.append(context << self.low_bits | word & ((1 << self.low_bits) - 1))
        return out

    @property
    def tables(self) -> int:
        return (self.top + 1) << self.low_bits


def decode_differences(reader: Reader, base: list[int], dtype: int) -> list[int]:
    k = ITEM_BYTES[dtype]
    head = Head(reader, len(base))
    if k == 1:
        contexts = head.contexts(base, dtype)
        payload = Reader(reader.take(reader.number(4)))
        symbols = decode_contexts(payload, head.tables, contexts, is_prefix=head.is_prefix)
        if head.xored:
            return [a ^ s for a, s in zip(base, symbols, strict=True)]
        return [(a + s) % 256 for a, s in zip(base, symbols, strict=True)]
    shift = 8 * k - 16
    upper = [word >> shift for word in base]
    moved = [(a + c) % 65536 for a, c in zip(upper, head.centres, strict=True)]
    words = decode_words(reader, head, moved, dtype)
    if k == 2:
        return words
    return join_digits(reader, head, dtype, base, (upper, moved, words))


def decode_words(reader: Reader, head: Head, base: list[int], dtype: int) -> list[int]:
    far = [reader.number(4) for _ in range(head.far)]
    far_words = [reader.number(2) for _ in far]
    lower = iter(reader.take(head.stored))
    payload = Reader(reader.take(reader.number(4)))
    contexts = head.contexts(base, dtype)
    symbols = decode_contexts(payload, head.tables, contexts, is_prefix=head.is_prefix)
    reach = (253 - 2 * head.limit) // 4
    out = []
    for a, symbol in zip(base, symbols, strict=True):
        wide = symbol - 2 * head.limit - 1
        if wide >= 0:
            turn = wide // 2 - reach
            word = (a & 0xFF00) + 256 * turn + (0x8080 if wide % 2 else 0) + next(lower)
        else:
            word = a ^ symbol if head.xored else a + symbol - head.limit
        out.append(word % 65536)
    assert next(lower, None) is None
    for place, word in zip(far, far_words, strict=True):
        out[place] = word
    return out


def join_digits(
    reader: Reader,
    head: Head,
    dtype: int,
    base: list[int],
    halves: tuple[list[int], list[int], list[int]],
) -> list[int]:
    k, m = ITEM_BYTES[dtype], len(base)
    upper, moved, words = halves
    kind = reader.number(1)
    if kind:
        own = head.contexts(moved, dtype)
        pairs = zip(own, moved, words, strict=True)
        chosen = [c >> head.low_bits if a == w else head.top + 1 for c, a, w in pairs]
        payload = Reader(reader.take(reader.number(4)))
        digits = [decode_contexts(payload, head.top + 2, chosen, is_prefix=kind == 2)]
    else:
        digits = [list(reader.take(m))]
    for _ in range(k - 3):
        digits.append(decode_stream(reader, m, digits[-1]))
    half = int.from_bytes(b"\x80" * (k - 2), "little")
    out = []
    for i, word in enumerate(base):
        step = (words[i] - upper[i]) % 65536 << (8 * k - 16)
        for place, digit in enumerate(digits):
            step += digit[i] << 8 * (k - 3 - place)
        out.append((word + step - half) % (1 << 8 * k))
    return out
