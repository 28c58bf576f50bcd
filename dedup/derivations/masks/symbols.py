"""Codes small symbols, each in a context that both sides know (FORMAT.md, "Masks").

Two ways, of which the shorter is taken: entropy coded with a table for each context, or as the
difference from what is most frequent there, packed, in one stream.
"""

from __future__ import annotations

import numpy as np

from ....codecs.buffers import Bytes, freeze
from ....codecs.errors import CorruptFrame
from ....codecs.jit.cached import njit
from ....codecs.rans import rans
from ....codecs.rans.streams import PLAIN, Parts, StreamReader, plan_stream

_BY_TABLES, _BY_DIFFERENCE = range(2)


def code_symbols(symbols: Bytes, contexts: Bytes, rows: int, width: int) -> bytes:
    """Codes (n,) uint8, n >= 1, below 2^width, a width of 1, 2 or 4; contexts are below `rows`."""
    counts = rans.count_contexts(symbols, contexts, rows)
    likely = counts.argmax(axis=1).astype(np.uint8)
    rest = pack(symbols ^ likely[contexts], width)
    plain = bytes([_BY_DIFFERENCE]) + likely.tobytes() + code_stream(rest)
    if not counts[0].any():
        # Tables begin with one of their own.
        counts[0, 0] = 1
    chosen = rans.choose_tables(counts)
    if chosen.coded_bytes + 5 >= len(plain):
        return plain
    coded = b"".join(rans.encode_contexts(symbols, contexts, chosen))
    tabled = bytes([_BY_TABLES]) + len(coded).to_bytes(4, "little") + coded
    return min(tabled, plain, key=len)


def read_symbols(reader: StreamReader, contexts: Bytes, rows: int, width: int) -> Bytes:
    """Mirrors `code_symbols`. Raises CorruptFrame."""
    kind = int(reader.take(1)[0])
    if kind == _BY_DIFFERENCE:
        likely = reader.take(rows)
        rest = reader.take_plane(-(-contexts.size * width // 8))
        out = np.empty(contexts.size, np.uint8)
        join_kernel(rest, contexts, likely, width, out)
        return freeze(out)
    if kind != _BY_TABLES:
        raise CorruptFrame(f"symbols of unknown kind {kind}")
    coded = reader.take(int.from_bytes(reader.take(4).tobytes(), "little"))
    out = np.empty(contexts.size, np.uint8)
    rans.decode_contexts(coded, contexts, rows, out)
    return freeze(out)


def code_stream(plane: Bytes) -> bytes:
    """Codes (n,) uint8, n >= 1, as a stream (FORMAT.md, "Streams")."""
    parts: Parts = []
    plan_stream(freeze(plane), PLAIN).write(parts.append)
    return b"".join(parts)


def pack(symbols: Bytes, width: int) -> Bytes:
    """Packs (n,) uint8 below 2^width, 8 / width in a byte, the first in the lowest bits."""
    if width == 1:
        return np.packbits(symbols, bitorder="little")
    each = 8 // width
    padded = np.zeros(-(-symbols.size // each) * each, np.uint8)
    padded[: symbols.size] = symbols
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    return np.bitwise_or.reduce(padded.reshape(-1, each) << shifts, axis=1)


def unpack(packed: Bytes, width: int, count: int) -> Bytes:
    """Mirrors `pack`."""
    out = np.empty(count, np.uint8)
    nothing = freeze(np.zeros(count, np.uint8))
    join_kernel(packed, nothing, freeze(np.zeros(1, np.uint8)), width, out)
    return freeze(out)


@njit(nogil=True, cache=True)
def join_kernel(packed, contexts, likely, width, out):
    """Writes packed differences of (n,) symbols, joined with what is likely in each context."""
    each = 8 // width
    mask = np.uint8((1 << width) - 1)
    whole = out.size // each
    for byte in range(whole):
        value = packed[byte]
        at = byte * each
        for k in range(each):
            out[at + k] = (value & mask) ^ likely[contexts[at + k]]
            value = value >> np.uint8(width)
    for i in range(whole * each, out.size):
        shift = np.uint8((i - whole * each) * width)
        out[i] = ((packed[whole] >> shift) & mask) ^ likely[contexts[i]]
