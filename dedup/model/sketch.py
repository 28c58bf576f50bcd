"""Sketches: 32 bytes that tell whether two tensors are of one family, and a few words of each that
tell how large a delta between them would be (FORMAT.md, "Sketch").

A bit of a sketch says which of two elements at fixed pseudo-random places is the greater. Training
hardly ever changes that: in families trained for real 0 to 18 bits of 256 differ, the median is 1,
between unrelated tensors it is 128 +- 8 (`benchmarks/families/families.py`). Signs alone, one
element a bit, do as well on weights, but are equal for all tensors of positive numbers: norms,
unsigned integers, an optimiser's second moments. Rounding to another float type keeps the order, so
casts of a tensor share its sketch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from ...codecs.dtypes import ALL_DTYPES, QUANTISED, Dtype
from ..errors import InvalidInput

SKETCH_BYTES = 32
SKETCH_BITS = 8 * SKETCH_BYTES
# What is kept of elements: all 256 that a sketch looks at first for types of up to 2 bytes, 128 for
# wider ones. With 128 predictions for 2-byte types were off by 2.1 points, with 256 by 1.8.
SAMPLE_BYTES = 512
# Of bytes that are parts of groups, or of nobody knows what, a sample tells little, and whether a
# delta pays is hardly in doubt: of what a fine-tune's Q8_0 or Q4_0 takes alone it takes 0.12 to
# 0.4. They are kept to rank bases.
FEW_WORDS = 32

# At most one in so many: from 16 KiB on a sketch is complete, below it takes 3 % and 32 bytes.
_ELEMENTS_PER_WORD = 32

# Smaller chunks have no sketch: for norms and biases of up to 4,096 bytes deltas save little more
# than that and naming the base take.
MIN_BYTES = 4096

# Of the bits in which unrelated tensors with as many ones would differ, the share that may differ
# within a family. Trained families reach 0.14, an optimiser's second moments 60 steps apart 0.19;
# unrelated tensors start at 0.5, but for norms of neighbouring layers, which are alike: 0.17.
MAX_DIFFERENCE = 0.27

# A sketch whose elements are mostly equal says little: with fewer than 17 ones (or zeros), chance
# makes two of them look alike. Such tensors (constant, sparse, repeated) are not searched for.
MIN_ONES = 17

# Vocabularies grow by a few rows, and are padded to a multiple of 64 or 128. Those that were cut
# lack elements that the other's sketch looks at: 5 % of them make 5 % of its bits differ.
MOST_GROWN = 1.25
LEAST_LEFT = 0.95

_PLAIN = frozenset({"U8", "BOOL", *QUANTISED})

_SEED = b"weightvault sketch 1"


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is kept of a chunk: its `dtype` and `size` in bytes, 256 `bits` as 32 bytes, and up to
    SAMPLE_BYTES of its elements, `words`, little-endian. Of a chunk below MIN_BYTES all bits are 0
    and there are no words. `others` are what to search by, too, for chunks with fewer elements or
    more (make_query)."""

    dtype: str
    size: int
    bits: bytes
    words: bytes
    others: tuple[Sketch, ...] = ()

    @property
    def kind(self) -> int | None:
        """A number below 512 that tensors must share to be compared, None where nothing can be
        said: the class of the dtype and the number of elements, as a power of two."""
        elements = self.size // ALL_DTYPES[self.dtype].item_bytes
        ones = int.from_bytes(self.bits, "little").bit_count()
        if self.size < MIN_BYTES or not MIN_ONES <= ones <= SKETCH_BITS - MIN_ONES:
            return None
        return _dtype_class(self.dtype) << 5 | min(31, elements.bit_length() - 1)


def make_sketch(raw: bytes | bytearray | memoryview, dtype: str) -> Sketch:
    """Returns the sketch of a chunk's raw bytes, read as elements of `dtype`; takes about 20 µs
    whatever their number. Bytes beyond the last whole element do not count."""
    if len(raw) < MIN_BYTES:
        return blank_sketch(dtype, len(raw))
    elements = _elements(raw, dtype)
    return _sketch_first(elements, len(elements).bit_length() - 1, dtype, len(raw))


def blank_sketch(dtype: str, size: int) -> Sketch:
    """Returns what stands for the sketch of a chunk below MIN_BYTES."""
    return Sketch(dtype, size, bytes(SKETCH_BYTES), b"")


def make_query(raw: bytes | bytearray | memoryview, dtype: str) -> Sketch:
    """As make_sketch; where the number of elements is near a power of two, a chunk of a few rows
    less or more has another kind, and `others` are the sketches that such a one would have."""
    sketch, elements = make_sketch(raw, dtype), _elements(raw, dtype)
    if len(raw) < MIN_BYTES:
        return sketch
    exponent = len(elements).bit_length() - 1
    least = 1 << exponent
    others: list[Sketch] = []
    size = (least - 1) * elements.itemsize
    if len(elements) <= MOST_GROWN * least and size >= MIN_BYTES:
        others.append(_sketch_first(elements, exponent - 1, dtype, size))
    if len(elements) >= LEAST_LEFT * 2 * least:
        others.append(_sketch_first(elements, exponent + 1, dtype, 2 * least * elements.itemsize))
    return replace(sketch, others=tuple(others)) if others else sketch


def _elements(raw: bytes | bytearray | memoryview, dtype: str) -> NDArray[np.unsignedinteger]:
    width = ALL_DTYPES[dtype].item_bytes
    return np.frombuffer(raw, f"<u{width}", len(raw) // width)


def _sketch_first(
    elements: NDArray[np.unsignedinteger], exponent: int, dtype: str, size: int
) -> Sketch:
    """Returns the sketch of the first 2^exponent elements; of those that are not there, the last
    one takes the place."""
    picked = elements[sketched_places(exponent, len(elements))]
    order = order_words(picked, dtype)
    bits = np.packbits(order[0::2] > order[1::2], bitorder="little")
    words = picked[0 : 2 * count_words(dtype, size) : 2]
    # Of eight bytes the high four: the others are noise to a prediction.
    kept = words if words.itemsize < 8 else (words >> np.uint64(32)).astype("<u4")
    return Sketch(dtype, size, bits.tobytes(), kept.tobytes())


def sketched_places(exponent: int, elements: int) -> NDArray[np.intp]:
    """Returns which elements a sketch of the first 2^exponent looks at, two for each bit, (512,):
    of those beyond `elements`, the last one takes the place."""
    # A shift by all 64 bits is not defined.
    places = _places() >> np.uint64(63 - exponent) >> np.uint64(1)
    return np.minimum(places, np.uint64(elements - 1)).astype(np.intp)


def compare_values(values: NDArray[np.float32]) -> bytes:
    """Returns the bits of a sketch that has looked at these values, (512,) float32."""
    return np.packbits(values[0::2] > values[1::2], bitorder="little").tobytes()


def count_words(dtype: str, size: int) -> int:
    """Returns how many elements of a chunk of a dtype and `size` bytes a sketch keeps: equally many
    for all that are compared."""
    most = FEW_WORDS if dtype in _PLAIN else SKETCH_BITS
    elements = size // ALL_DTYPES[dtype].item_bytes
    share = (1 << elements.bit_length() >> 1) // _ELEMENTS_PER_WORD
    return min(most, SAMPLE_BYTES // word_bytes(dtype), share)


def word_bytes(dtype: str) -> int:
    """Returns how many bytes a sketch keeps of an element of a dtype: its highest four at most."""
    return min(4, ALL_DTYPES[dtype].item_bytes)


def words_bytes(dtype: Dtype, size: int) -> int:
    """Returns how many bytes of words the sketch of a chunk of `size` bytes has."""
    return count_words(dtype.name, size) * word_bytes(dtype.name) if size >= MIN_BYTES else 0


def check_sketch(sketch: Sketch) -> Sketch:
    """Returns a sketch from outside; raises InvalidInput unless its parts fit each other."""
    dtype = ALL_DTYPES.get(sketch.dtype)
    if dtype is None or len(sketch.bits) != SKETCH_BYTES:
        raise InvalidInput(f"no sketch: dtype {sketch.dtype!r}, {len(sketch.bits)} bytes")
    expected = words_bytes(dtype, sketch.size)
    if len(sketch.words) != expected:
        raise InvalidInput(f"a sketch with {len(sketch.words)} bytes of words, not {expected}")
    return sketch


def order_words(words: NDArray[np.unsignedinteger], dtype: str) -> NDArray[np.unsignedinteger]:
    """Maps elements, as unsigned words of any width, to unsigned words of the same order."""
    top = words.dtype.type(1 << (8 * words.itemsize - 1))
    found = ALL_DTYPES[dtype]
    if found.exponent is not None:
        return np.where(words & top, ~words, words | top)
    return words ^ top if found.is_signed else words


def count_differences(bits: bytes, others: list[bytes]) -> NDArray[np.int64]:
    """Returns the Hamming distance of a sketch's bits to each of `others`, (n,) int64."""
    stacked = np.frombuffer(b"".join(others), np.uint8).reshape(-1, SKETCH_BYTES)
    return np.bitwise_count(stacked ^ np.frombuffer(bits, np.uint8)).sum(1, dtype=np.int64)


def find_related(bits: bytes, others: list[bytes]) -> list[int]:
    """Returns which of `others` are of one family with `bits`, by index, nearest first."""
    if not others:
        return []
    distances = count_differences(bits, others)
    stacked = np.frombuffer(b"".join(others), np.uint8).reshape(-1, SKETCH_BYTES)
    ones = int.from_bytes(bits, "little").bit_count()
    theirs = np.bitwise_count(stacked).sum(1, dtype=np.int64)
    by_chance = (ones * (SKETCH_BITS - theirs) + theirs * (SKETCH_BITS - ones)) / SKETCH_BITS
    return [int(i) for i in np.argsort(distances, kind="stable") if _near(distances, by_chance, i)]


def _near(distances: NDArray[np.int64], by_chance: NDArray[np.float64], i: int) -> bool:
    return bool(distances[i] <= MAX_DIFFERENCE * by_chance[i])


def _dtype_class(dtype: str) -> int:
    """0 for floats, which share sketches across widths; each integer type has its own."""
    found = ALL_DTYPES[dtype]
    if found.exponent is not None:
        return 0
    return found.item_bytes.bit_length() + (4 if found.is_signed else 0)


@cache
def _places() -> NDArray[np.uint64]:
    """512 numbers whose top bits are element indexes: two for each bit of a sketch."""
    stream = blake3(_SEED).digest(length=16 * SKETCH_BITS)
    return np.frombuffer(stream, "<u8")
