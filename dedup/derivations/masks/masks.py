"""Codes which elements of a copy are zero where its source's are not (FORMAT.md, "Masks").

zeros 1 | kind 1 | what the kind says
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ....codecs.buffers import Bytes, freeze
from ....codecs.errors import CorruptFrame
from ....codecs.jit.cached import njit
from ....codecs.rans.streams import StreamReader
from ..operations.floats.formats import NAMES, as_words, read_floats
from ..operations.values import Raw, Values
from . import scores
from .symbols import code_stream, code_symbols, pack, read_symbols, unpack

_PLAIN, _BOUNDS, _OFFSETS, _FOURS = range(4)
_POSITIVE, _SIGNED = range(2)
_GOOD_BITS = 0.02
"""A mask that takes no more bits an element is not coded in other ways, too."""
_CHANCE_BITS = 0.985
"""Of a mask that takes more although magnitudes are known, rows and columns tell nothing either."""
_LEAST_SIDE = 16
_MOST_COLUMNS = 1 << 20


def encode_zeros(
    source: Values, target: bytes | Raw, columns: int = 0
) -> tuple[bytes, Bytes] | None:
    """Codes which elements of `target`, of the source's dtype and length, are zero where the
    source's are not; also returns the source with zeros there. None where there are none.

    `columns`: elements in a row, 0 where unknown. Other elements of the target may be anything.
    """
    if source.dtype not in NAMES or not source.raw.size:
        return None
    ours, theirs = _words(source.raw, source.dtype), _words(_bytes(target), source.dtype)
    sign = _sign(ours)
    cut = freeze(((theirs & ~sign == 0) & (ours & ~sign != 0)).view(np.uint8))
    if not cut.any():
        return None
    put_in = theirs[cut != 0]
    zeros = _SIGNED if np.count_nonzero(put_in) * 8 > put_in.size else _POSITIVE
    return bytes([zeros]) + encode_cut(source, cut, columns), _cut(source, cut, zeros)


def encode_cut(source: Values, cut: Bytes, columns: int = 0) -> bytes:
    """Codes which elements were cut, (n,) uint8 of 0 and 1, n >= 1, given the source.

    Of a copy that was changed otherwise, too, this is the part that says where its zeros are.
    """
    magnitudes = _magnitudes(source)
    best = bytes([_PLAIN]) + code_stream(pack(cut, 1))
    for coded in _codings(magnitudes, cut, columns):
        best = min(best, coded, key=len)
        if 8 * len(best) <= _GOOD_BITS * cut.size:
            break
    return best


def decode_cut(source: Values, reader: StreamReader) -> Bytes:
    """Mirrors `encode_cut`: (n,) uint8. Raises CorruptFrame."""
    magnitudes = _magnitudes(source)
    kind = int(reader.take(1)[0])
    if kind == _PLAIN:
        return unpack(reader.take_plane(-(-magnitudes.size // 8)), 1, magnitudes.size)
    if kind == _BOUNDS:
        return _read_bounds(reader, magnitudes)
    if kind == _OFFSETS:
        return _read_offsets(reader, magnitudes)
    if kind == _FOURS and magnitudes.size >= 4:
        return _read_fours(reader, magnitudes)
    raise CorruptFrame(f"a mask of unknown kind {kind}")


def decode_zeros(source: Values, reader: StreamReader) -> Bytes:
    """Returns the source with zeros where `encode_zeros` says. Raises CorruptFrame for what it does
    not write."""
    if source.dtype not in NAMES or not source.raw.size:
        raise CorruptFrame("a mask for a source that has none")
    zeros = int(reader.take(1)[0])
    if zeros not in (_POSITIVE, _SIGNED):
        raise CorruptFrame(f"a mask with unknown zeros {zeros}")
    return _cut(source, decode_cut(source, reader), zeros)


def _cut(source: Values, cut: Bytes, zeros: int) -> Bytes:
    ours = _words(source.raw, source.dtype)
    sign = _sign(ours) if zeros == _SIGNED else ours.dtype.type(0)
    kept = np.empty_like(ours)
    cut_kernel(freeze(ours), freeze(cut), sign, kept)
    return freeze(kept.view(np.uint8))


@njit(nogil=True, cache=True)
def cut_kernel(words, cut, sign, out):
    """Copies (n,) words; of those that were cut only the bits of ``sign``."""
    for i in range(words.size):
        out[i] = words[i] & sign if cut[i] else words[i]


def _bytes(buffer: bytes | Raw) -> Bytes:
    return freeze(np.frombuffer(buffer, np.uint8))


def _words(raw: Raw, dtype: str) -> NDArray[np.unsignedinteger]:
    return as_words(dtype, raw)


def _sign(words: NDArray[np.unsignedinteger]) -> np.unsignedinteger:
    return words.dtype.type(1 << (8 * words.itemsize - 1))


def _magnitudes(source: Values) -> NDArray[np.uint32]:
    words = read_floats(source.dtype, source.raw).view(np.uint32)
    return freeze(words & np.uint32(0x7FFFFFFF))


def _codings(magnitudes: NDArray[np.uint32], cut: Bytes, columns: int) -> Iterator[bytes]:
    bounded = _code_bounds(magnitudes, cut) if cut.any() else b""
    yield from (bounded,) if bounded else ()
    if cut.size >= 4 and _looks_like_fours(cut):
        yield _code_fours(magnitudes, cut)
    fits = _LEAST_SIDE <= columns <= _MOST_COLUMNS and cut.size // columns >= _LEAST_SIDE
    if fits and 8 * len(bounded) < _CHANCE_BITS * cut.size:
        yield _code_offsets(magnitudes, cut, columns)


def _code_bounds(magnitudes: NDArray[np.uint32], cut: Bytes) -> bytes:
    bounds = scores.choose_bounds(magnitudes, cut)
    contexts = scores.bound_contexts(magnitudes, bounds)
    head = bytes([_BOUNDS, bounds.size]) + bounds.astype("<u4").tobytes()
    return head + code_symbols(cut, contexts, bounds.size + 1, 1)


def _read_bounds(reader: StreamReader, magnitudes: NDArray[np.uint32]) -> Bytes:
    count = int(reader.take(1)[0])
    bounds = reader.take(4 * count).copy().view("<u4").astype(np.uint32)
    if not 0 < count <= scores.MOST_BOUNDS or (bounds[1:] <= bounds[:-1]).any():
        raise CorruptFrame("a mask has bounds that do not ascend")
    contexts = scores.bound_contexts(magnitudes, bounds)
    return read_symbols(reader, contexts, count + 1, 1)


def _looks_like_fours(cut: Bytes) -> bool:
    whole = cut[: cut.size // 4 * 4].reshape(-1, 4)[: 1 << 16].sum(axis=1)
    return bool(np.count_nonzero(whole == 2) >= 0.9 * whole.size)


def _code_fours(magnitudes: NDArray[np.uint32], cut: Bytes) -> bytes:
    patterns, contexts = scores.four_ranks(magnitudes, cut)
    rest = cut[4 * patterns.size :].tobytes()
    return bytes([_FOURS]) + rest + code_symbols(patterns, contexts, 16, 4)


def _read_fours(reader: StreamReader, magnitudes: NDArray[np.uint32]) -> Bytes:
    cut = np.zeros(magnitudes.size, np.uint8)
    _, contexts = scores.four_ranks(magnitudes, freeze(cut))
    cut[4 * contexts.size :] = reader.take(magnitudes.size % 4) & 1
    scores.spread_fours(magnitudes, freeze(read_symbols(reader, contexts, 16, 4)), cut)
    return cut


def _code_offsets(magnitudes: NDArray[np.uint32], cut: Bytes, columns: int) -> bytes:
    rows = cut.size // columns
    whole = rows * columns
    found = scores.find_scores(magnitudes[:whole]).reshape(rows, columns)
    thresholds, shifts = scores.fit_offsets(found, cut[:whole])
    contexts = scores.offset_contexts(magnitudes[:whole], thresholds, shifts)
    sides = [code_stream(_fold(side)) for side in (thresholds, shifts)]
    head = bytes([_OFFSETS]) + columns.to_bytes(4, "little") + b"".join(sides)
    rest = pack(cut[whole:], 1).tobytes()
    return head + rest + code_symbols(cut[:whole], contexts, scores.CONTEXTS, 1)


def _read_offsets(reader: StreamReader, magnitudes: NDArray[np.uint32]) -> Bytes:
    columns = int.from_bytes(reader.take(4).tobytes(), "little")
    if not 0 < columns <= _MOST_COLUMNS or columns > magnitudes.size:
        raise CorruptFrame(f"a mask of {columns} columns")
    rows = magnitudes.size // columns
    whole = rows * columns
    thresholds, shifts = (_unfold(reader.take_plane(2 * count)) for count in (rows, columns))
    left = magnitudes.size - whole
    rest = unpack(reader.take(-(-left // 8)), 1, left)
    contexts = scores.offset_contexts(magnitudes[:whole], thresholds, shifts)
    return np.concatenate([read_symbols(reader, contexts, scores.CONTEXTS, 1), rest])


def _fold(side: NDArray[np.int16]) -> Bytes:
    """Cuts numbers into a plane of low and one of high bytes."""
    return freeze(side.astype("<i2").view(np.uint8).reshape(-1, 2).T.reshape(-1))


def _unfold(planes: Bytes) -> NDArray[np.int16]:
    return np.ascontiguousarray(planes.reshape(2, -1).T).view("<i2").reshape(-1).astype(np.int16)
