"""Makes files and segments of the JSON objects of a manifest's outline (FORMAT.md, Manifest).

Each object becomes what it stands for as soon as it is read, so that the JSON of a large manifest
never lies in memory as a whole; whatever is missing, of another type or does not add up is an
InvalidManifest, or one of the errors that looking into JSON raises.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from typing import Any

from ...errors import InvalidManifest
from ..names import check_path
from .entries import FileEntry
from .segments import (
    CHUNK_BYTES,
    MAX_LITERAL_BYTES,
    Bundle,
    Literal,
    Opaque,
    Segment,
    Share,
    Tensor,
    tensor_bytes,
)

_DIGEST_BYTES = 32


class OutlineReader:
    """Reads the outline of a manifest with the chunks `digests`."""

    def __init__(self, digests: Sequence[bytes]) -> None:
        self._digests = digests
        # Thousands of tensors have few dtypes and shapes: each is kept once.
        self._shared: dict[Any, Any] = {}

    def make_object(self, pairs: list[tuple[str, Any]]) -> Any:
        """Returns the file or segment that an object with these keys and values is, or a dict."""
        outline = dict(pairs)
        if "segments" in outline:
            return self._file(outline)
        if "literal" in outline or "chunks" in outline:
            return self._segment(outline)
        if "share" in outline:
            return self._share(outline)
        return outline

    def _file(self, outline: dict[str, Any]) -> FileEntry:
        size = natural(outline["size"])
        digest = bytes.fromhex(outline["blake3"])
        segments = tuple(outline["segments"])
        path = check_path(_text(outline["path"]))
        if len(digest) != _DIGEST_BYTES:
            raise InvalidManifest(f"file {path!r} has a digest of {len(digest)} bytes")
        if not all(isinstance(s, Literal | Opaque | Tensor | Bundle | Share) for s in segments):
            raise InvalidManifest(f"file {path!r} has something else than segments")
        if len(segments) > 1 and any(isinstance(s, Share) for s in segments):
            raise InvalidManifest(f"file {path!r} is a share of a chunk, and something else")
        if sum(s.size for s in segments) != size:
            raise InvalidManifest(f"segments of {path!r} do not cover its {size} bytes")
        executable = outline.get("executable", False)
        if not isinstance(executable, bool):
            raise InvalidManifest(f"file {path!r} is neither executable nor not")
        return FileEntry(path, size, digest, segments, executable)

    def _segment(self, outline: dict[str, Any]) -> Segment:
        if "literal" in outline:
            data = b64decode(outline["literal"], validate=True)
            if len(data) > MAX_LITERAL_BYTES:
                raise InvalidManifest(f"literal of {len(data)} bytes; at most {MAX_LITERAL_BYTES}")
            return Literal(data)
        size = natural(outline["size"])
        chunks = tuple(self._digests[natural(i)] for i in outline["chunks"])
        if "bundle" in outline:
            return self._bundle(outline, size, chunks)
        if "tensor" not in outline:
            return Opaque(size, chunks)
        shape, dtype = self._shape(outline["shape"]), self._dtype(outline["dtype"])
        parts = tuple(natural(n) for n in outline.get("parts", ()))
        tensor = Tensor(_text(outline["tensor"]), dtype, shape, size, chunks, parts)
        check_tensor_size(tensor)
        return tensor

    def _share(self, outline: dict[str, Any]) -> Share:
        size = natural(outline["size"])
        chunk, start, whole = map(natural, outline["share"])
        if not size or whole > CHUNK_BYTES or start + size > whole:
            raise InvalidManifest(f"share of {size} bytes at {start} of a chunk of {whole}")
        return Share(size, start, whole, (self._digests[chunk],))

    def _bundle(self, outline: dict[str, Any], size: int, chunks: tuple[bytes, ...]) -> Bundle:
        gaps = tuple(natural(n) for n in outline.get("gaps", ()))
        common = () if gaps else (outline["dtype"],)
        tensors = tuple(self._small_tensor(*told, *common) for told in outline["bundle"])
        if not tensors:
            raise InvalidManifest("bundle without tensors")
        if gaps and len(gaps) != len(tensors) + 1:
            raise InvalidManifest(f"bundle of {len(tensors)} tensors and {len(gaps)} gaps")
        bundle = Bundle(tensors, chunks, gaps)
        if bundle.size != size:
            raise InvalidManifest(f"tensors of a bundle take {bundle.size} bytes, not {size}")
        return bundle

    def _small_tensor(self, name: Any, shape: Any, dtype: Any) -> Tensor:
        dimensions, known = self._shape(shape), self._dtype(dtype)
        taken = tensor_bytes(known, dimensions)
        if taken is None:
            raise InvalidManifest(f"bundle of tensors of dtype {known!r}")
        return Tensor(_text(name), known, dimensions, taken)

    def _shape(self, value: Any) -> tuple[int, ...]:
        shape = tuple(natural(n) for n in value)
        return self._shared.setdefault(shape, shape)

    def _dtype(self, value: Any) -> str:
        dtype = _text(value)
        return self._shared.setdefault(dtype, dtype)


def check_tensor_size(tensor: Tensor) -> None:
    """Raises InvalidManifest if a tensor of a known dtype has not the bytes its shape takes, or one
    of parts not theirs."""
    expected = tensor_bytes(tensor.dtype, tensor.shape)
    if expected is not None and expected != tensor.size:
        raise InvalidManifest(
            f"tensor {tensor.name!r} of shape {list(tensor.shape[:8])} and dtype {tensor.dtype} "
            f"takes {expected} bytes, not {tensor.size}"
        )
    if tensor.parts and (0 in tensor.parts or sum(tensor.parts) != tensor.size):
        raise InvalidManifest(f"the parts of tensor {tensor.name!r} do not make up its bytes")


def natural(value: Any) -> int:
    """Returns `value` if it is a length or an index; raises InvalidManifest otherwise."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InvalidManifest(f"{value!r} is not a length or index")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidManifest(f"{value!r} is not a text")
    return value
