"""Decodes prefix codes as FORMAT.md says, bit by bit: slow, plain, and sharing no code with the
product.
"""

from collections.abc import Iterator

from frame_reference import Reader

Code = dict[tuple[int, int], int]
"""Symbols by length and bits of their codes."""


def read_codes(reader: Reader, count: int, limit: int) -> Iterator[Code]:
    """Yields ``count`` codes of at most ``limit`` bits."""
    code: Code = {}
    for _ in range(count):
        if reader.number(1):
            code = read_code(reader, limit)
        assert code
        yield code


def read_code(reader: Reader, limit: int) -> Code:
    first, last = reader.number(1), reader.number(1)
    packed = reader.take((last - first + 2) // 2)
    lengths = [packed[i // 2] >> 4 * (i % 2) & 15 for i in range(last - first + 1)]
    assert sum(2 ** (limit - length) for length in lengths if length) == 2**limit
    code: Code = {}
    bits, before = 0, 0
    for length, symbol in sorted((n, first + i) for i, n in enumerate(lengths) if n):
        bits <<= length - before
        code[length, bits] = symbol
        bits, before = bits + 1, length
    return code


class Lane:
    """Takes symbols off one sequence of bits, the highest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self.left = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def take(self, code: Code) -> int:
        for length in range(1, 13):
            bits = int(self.left[self.at : self.at + length], 2)
            if (length, bits) in code:
                self.at += length
                return code[length, bits]
        raise AssertionError("no code")

    def finish(self) -> None:
        assert len(self.left) - self.at < 8


def read_lanes(reader: Reader, count: int) -> list[Lane]:
    sizes = [reader.number(4) for _ in range(count)]
    return [Lane(reader.take(size)) for size in sizes]


def decode_segments(reader: Reader, m: int, segment_log2: int) -> list[int]:
    """Decodes a stream of kind 6."""
    out: list[int] = []
    code: Code = {}
    for begin in range(0, m, 1 << segment_log2):
        size = min(1 << segment_log2, m - begin)
        if reader.number(1):
            code = read_code(reader, 12)
        share = -(-size // 4)
        for number, lane in enumerate(read_lanes(reader, 4)):
            own = min(share * (number + 1), size) - min(share * number, size)
            out += [lane.take(code) for _ in range(own)]
            lane.finish()
    assert reader.rest() == b""
    return out


def decode_rows(reader: Reader, count: int, chosen: list[int]) -> list[int]:
    """Decodes prefix-coded rows; ``chosen``: the row of each symbol."""
    codes = list(read_codes(reader, count, 11))
    lanes = read_lanes(reader, 8)
    out = [lanes[i % 8].take(codes[row]) for i, row in enumerate(chosen)]
    for lane in lanes:
        lane.finish()
    assert reader.rest() == b""
    return out
