"""What a file is made of: segments that cover it exactly, in order.

A segment is a run of literal bytes (short: padding, a trailer), a tensor, a bundle of small
tensors, opaque bytes, or a share of a bundle of small files. All but the first are stored as
*chunks*: the unit that a frame holds and that a digest names. A chunk is the whole segment, unless
that is larger than CHUNK_BYTES: then it is cut into slices of CHUNK_BYTES, so that memory is
bounded by a setting and not by a model (ARCHITECTURE.md, "Chunks"). A share is a part of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

from ....codecs.dtypes import BY_NAME, QUANTISED

# 32 MiB: a push or pull holds a handful of chunks per thread, so this keeps both sides well under
# 1 GiB, while a frame's header stays under one part in 10^5. A multiple of every element size.
CHUNK_BYTES = 32 * 1024 * 1024

# Runs up to this length travel inside the manifest; a digest alone would take 32 bytes.
MAX_LITERAL_BYTES = 64

ITEM_BYTES = {name: dtype.item_bytes for name, dtype in BY_NAME.items()}
"""Bytes per element of the dtypes whose layout the codecs know, by safetensors name."""

GROUPS = {name: (kind.group_elements, kind.group_bytes) for name, kind in QUANTISED.items()}
"""Elements and bytes of one group of the quantised dtypes, by the names that ggml gives them."""


@dataclass(frozen=True, slots=True)
class Literal:
    """Up to MAX_LITERAL_BYTES bytes kept in the manifest itself."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes of the file that this segment covers."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Opaque:
    """`size` bytes of no known structure; `chunks` are their digests once they are hashed."""

    size: int
    chunks: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its name, its dtype as the file calls it, its shape, and its raw bytes.

    `chunks` are the digests of its slices once they are hashed, one for a tensor of up to
    CHUNK_BYTES; a tensor of a bundle has none of its own. `parts` are the bytes of the tensors
    that it was joined from (fused.py): no chunk reaches from one into the next.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    chunks: tuple[bytes, ...] = ()
    parts: tuple[int, ...] = ()

    @property
    def coding_dtype(self) -> str:
        """The dtype to code the bytes as: its own where the codecs know it, else plain bytes."""
        return self.dtype if self.dtype in ITEM_BYTES or self.dtype in GROUPS else "U8"

    @property
    def columns(self) -> int | None:
        """Elements in a row, the last dimension; None where there is but one row, or where what
        is stored are groups of them."""
        if self.dtype in GROUPS:
            return None
        return self.shape[-1] if len(self.shape) > 1 and self.shape[-1] > 1 else None


@dataclass(frozen=True, slots=True)
class Bundle:
    """Small tensors of dtypes known to the codecs (bundles.py): of one dtype and side by side in a
    file, or with `gaps`, the bytes before each of them and after the last.

    `chunks` is their one digest, of all their bytes and those between, once they are hashed.
    """

    tensors: tuple[Tensor, ...]
    chunks: tuple[bytes, ...] = ()
    gaps: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the file that this segment covers."""
        return sum(tensor.size for tensor in self.tensors) + sum(self.gaps)

    @property
    def dtype(self) -> str:
        """The dtype to code it as."""
        return "U8" if self.gaps else self.tensors[0].dtype

    def places(self) -> Iterator[tuple[Tensor, int]]:
        """Yields each tensor with its first byte in the chunk."""
        start = 0
        for tensor, gap in zip(self.tensors, self.gaps or repeat(0), strict=False):
            yield tensor, start + gap
            start += gap + tensor.size


@dataclass(frozen=True, slots=True)
class Share:
    """All of a small file: `size` bytes from `start` on of a chunk of `whole` bytes, whose digest
    `chunks` has. Other files have the rest of the chunk (ARCHITECTURE.md, "Small files")."""

    size: int
    start: int
    whole: int
    chunks: tuple[bytes, ...]


Segment = Literal | Opaque | Tensor | Bundle | Share


def share_of(segments: Sequence[Segment]) -> Share | None:
    """Returns the share that a file with these segments is, None for any other file."""
    return segments[0] if segments and isinstance(segments[0], Share) else None


def coding_facts(segment: Opaque | Tensor | Bundle | Share) -> tuple[str, int | None]:
    """Returns the dtype to code a segment's bytes as, and how many elements a row has if it has
    rows."""
    if isinstance(segment, Tensor):
        return segment.coding_dtype, segment.columns
    return (segment.dtype if isinstance(segment, Bundle) else "U8"), None


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int | None:
    """Returns the bytes that a tensor takes, None where the dtype is not known."""
    elements, group_bytes = GROUPS.get(dtype) or (1, ITEM_BYTES.get(dtype))
    return None if group_bytes is None else count_elements(shape) * group_bytes // elements


def count_elements(shape: Sequence[int]) -> int:
    """Returns the elements of a shape; of one that no file can hold, any number from 2^63 on.

    The product of thousands of dimensions would take seconds, and more digits than Python prints.
    """
    if 0 in shape:
        return 0
    product = 1
    for dimension in shape:
        product *= dimension
        if product >> 63:
            break
    return product


def cut_bytes(segment: Segment, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Returns the length that `segment` is cut at: `chunk_bytes`, or a little less so that no
    group of a quantised tensor is cut in two."""
    dtype = segment.dtype if isinstance(segment, Tensor | Bundle) else ""
    return chunk_bytes - chunk_bytes % GROUPS.get(dtype, (1, 1))[1]


def chunk_sizes(segment: Segment, chunk_bytes: int = CHUNK_BYTES) -> list[int]:
    """Returns the byte lengths of a segment's chunks; one empty chunk for an empty one."""
    if isinstance(segment, Share):
        return [segment.whole]
    cut = cut_bytes(segment, chunk_bytes)
    return [min(cut, size - start) for size in _runs(segment) for start in range(0, size or 1, cut)]


def count_chunks(segment: Segment, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Returns how many chunks `chunk_sizes` yields."""
    if isinstance(segment, Share):
        return 1
    cut = cut_bytes(segment, chunk_bytes)
    return sum(max(1, -(-size // cut)) for size in _runs(segment))


def _runs(segment: Segment) -> tuple[int, ...]:
    parts = segment.parts if isinstance(segment, Tensor) else ()
    return parts or (segment.size,)
