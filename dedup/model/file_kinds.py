"""The kinds of files by their names: for reports, for git-lfs, and for formats without a magic.

By the name, since what a file is called is what whoever pays for it knows it by. To add a kind, add
a line here; to take it apart, too, a module in `formats` and its line in the registry there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file: its name in reports, its number, and how names of such files end.

    The number is a bit of commit_chunks.uses and stays what it is. `is_binary`: whether they are
    weights or other bytes that no git should diff, and so files of git-lfs whatever their length.
    """

    name: str
    number: int
    endings: tuple[str, ...] = ()
    is_binary: bool = False


# For rows of a catalogue that did not know yet.
UNKNOWN = FileKind("unknown", 0)
OTHER = FileKind("other", 11)
_TABLES = FileKind("other", 11, (".parquet", ".arrow"), is_binary=True)
_ALL = (
    UNKNOWN,
    FileKind("safetensors", 1, (".safetensors",), is_binary=True),
    FileKind("gguf", 2, (".gguf", ".ggml"), is_binary=True),
    FileKind("pytorch", 3, (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".distcp"), is_binary=True),
    FileKind("onnx", 4, (".onnx", ".onnx_data", ".onnx.data"), is_binary=True),
    FileKind("numpy", 5, (".npy", ".npz"), is_binary=True),
    FileKind("hdf5", 6, (".h5", ".hdf5", ".keras"), is_binary=True),
    FileKind("flax", 7, (".msgpack", ".flax"), is_binary=True),
    FileKind("archive", 8, (".zip", ".tar", ".gz", ".tgz", ".xz", ".zst", ".7z"), is_binary=True),
    FileKind("json", 9, (".json", ".jsonl")),
    FileKind("text", 10, (".md", ".txt", ".yaml", ".yml", ".toml", ".py", ".html", ".csv")),
    _TABLES,
    OTHER,
)
KINDS = {kind.name: kind for kind in _ALL}
"""By name, in the order of reports."""
_BY_ENDING = {ending: kind for kind in _ALL for ending in kind.endings}
_MOST_DOTS = max(ending.count(".") for ending in _BY_ENDING)


def kind_of(path: str) -> FileKind:
    """Returns the kind of a file that the end of its name says, whatever the case."""
    parts = path.rpartition("/")[2].lower().split(".")
    for dots in range(min(_MOST_DOTS, len(parts) - 1), 0, -1):
        kind = _BY_ENDING.get("." + ".".join(parts[-dots:]))
        if kind is not None:
            return kind
    return OTHER
