"""Tensors that a file places in its neighbours: the external data of ONNX models, the variables of
TensorFlow's, the shards of TensorFlow.js, the constants of OpenVINO."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from ..model.files.segments import Segment, Tensor
from . import onnx
from .cutting.held import File, file_size
from .cutting.reader import HEAD_BYTES, ReadableFile, Unreadable, Window, Work
from .indexes import openvino, tf_bundle, tfjs
from .source import cover

Places = list[tuple[int, list[Segment]]]

# Formats that say where tensors lie in other files.
_NAMING = (onnx, tf_bundle, tfjs, openvino)
REQUEST_READS = 300_000
"""What reading all indexes of one request takes at most: several times what those of a large model
do. A commit of a kilobyte may name files that were uploaded before, and lie beside others."""
# What the description of a tensor takes, counted in reads.
_READS_PER_PLACE = 8


def may_name_companions(name: str) -> bool:
    """Says whether a file of this name may say where tensors lie in its neighbours."""
    return any(module.recognise(name, b"") for module in _NAMING)


def find_companions(
    files: Mapping[str, File], others: Collection[str] = (), work: Work | None = None
) -> dict[str, Places]:
    """Returns for files, by their path in the repo, and for `others`, which say nothing, where
    their neighbours say tensors lie.

    A model that cannot be read, or that names files which are not there, places nothing; nor does
    one for which nothing of `work` is left, which all share where it is given.
    """
    places: dict[str, Places] = defaultdict(list)
    for name, path in files.items():
        try:
            found = list(_list_external(name, path, work))
        except (OSError, Unreadable):
            # Whoever takes the file itself apart or hashes it finds out.
            continue
        for location, start, tensor in found:
            # The name is only looked up among the files at hand; it opens nothing.
            data = posixpath.normpath(posixpath.join(posixpath.dirname(name), location))
            if data != name and (data in files or data in others):
                places[data].append((start, [tensor]))
    return dict(places)


def _list_external(name: str, path: File, work: Work | None) -> Iterator[tuple[str, int, Tensor]]:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        kind = next((module for module in _NAMING if module.recognise(name, head)), None)
        if kind is None:
            return
        size = file_size(path)
        source = file if work is None else Window(file, 0, size, work)
        for found in kind.list_external(name, source, size):
            if work is not None:
                work.spend(_READS_PER_PLACE)
            yield found


def segment_companion(file: ReadableFile, size: int, places: Places) -> list[Segment]:
    """Returns the segments of a file of `size` bytes in which tensors lie at `places`."""
    return cover(file, size, places)
