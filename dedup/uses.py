"""What the catalogue keeps of a manifest so that reports can say where bytes go without reading it:
the formats of files, and which chunks are whose."""

from __future__ import annotations

from collections import defaultdict

from ..store.rows import FileRow
from .manifest import FileEntry, Manifest
from .segments import Bundle, Literal, Segment, Tensor

# By the file's name: what it is called is what whoever pays knows it by. The numbers are bits of
# commit_chunks.uses and stay what they are; 0 is for rows of a catalogue that did not know yet.
UNKNOWN, OTHER = 0, 11
FORMATS = {
    "unknown": UNKNOWN,
    "safetensors": 1,
    "gguf": 2,
    "pytorch": 3,
    "onnx": 4,
    "numpy": 5,
    "hdf5": 6,
    "flax": 7,
    "archive": 8,
    "json": 9,
    "text": 10,
    "other": OTHER,
}
_SUFFIXES = {
    "safetensors": ("safetensors",),
    "gguf": ("gguf", "ggml"),
    "pytorch": ("pt", "pth", "bin", "ckpt", "pkl", "distcp"),
    "onnx": ("onnx", "onnx_data"),
    "numpy": ("npy", "npz"),
    "hdf5": ("h5", "hdf5", "keras"),
    "flax": ("msgpack",),
    "archive": ("zip", "tar", "gz", "tgz", "xz", "zst", "7z"),
    "json": ("json", "jsonl"),
    "text": ("md", "txt", "yaml", "yml", "toml", "py", "html", "csv"),
}
_BY_SUFFIX = {f".{suffix}": FORMATS[name] for name, them in _SUFFIXES.items() for suffix in them}
TENSOR = 1
"""The bit of commit_chunks.uses that says that a tensor has the chunk."""


def format_of(path: str) -> int:
    """Returns the number of the format that a file's name stands for."""
    name = path.rpartition("/")[2].lower()
    _, dot, suffix = name.rpartition(".")
    if name.endswith(".onnx.data"):
        return FORMATS["onnx"]
    return _BY_SUFFIX.get(dot + suffix, OTHER)


def format_names(uses: int) -> list[str]:
    """Returns the formats that the bits of commit_chunks.uses name."""
    return [name for name, number in FORMATS.items() if number and uses >> number & 1]


def file_row(entry: FileEntry) -> FileRow:
    """Returns what the catalogue keeps of a file."""
    tensors = list(entry.tensors)
    return FileRow(
        entry.path,
        entry.size,
        entry.digest,
        entry.recipe(),
        len(tensors),
        format_of(entry.path),
        sum(tensor.size for tensor in tensors),
        sum(segment.size for segment in entry.segments if isinstance(segment, Literal)),
    )


def chunk_uses(manifest: Manifest) -> dict[bytes, int]:
    """Returns the digests of a manifest's chunks with the bits that commit_chunks.uses has."""
    uses: defaultdict[bytes, int] = defaultdict(int)
    for entry in manifest.files:
        form = 1 << format_of(entry.path)
        for segment in entry.segments:
            if not isinstance(segment, Literal):
                for digest in segment.chunks:
                    uses[digest] |= form | _kind(segment)
    return dict(uses)


def _kind(segment: Segment) -> int:
    return TENSOR if isinstance(segment, Tensor | Bundle) else 0
