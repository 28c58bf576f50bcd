"""Tensors that a file places in its neighbours: the external data of ONNX models, the variables of
TensorFlow's, the shards of TensorFlow.js, the constants of OpenVINO."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Collection, Mapping

from ..model.files.segments import Segment
from . import onnx
from .cutting.held import File, file_size
from .cutting.reader import HEAD_BYTES, ReadableFile, Unreadable
from .indexes import openvino, tf_bundle, tfjs
from .source import cover

Places = list[tuple[int, list[Segment]]]

# Formats that say where tensors lie in other files.
_NAMING = (onnx, tf_bundle, tfjs, openvino)


def may_name_companions(name: str) -> bool:
    """Says whether a file of this name may say where tensors lie in its neighbours."""
    return any(module.recognise(name, b"") for module in _NAMING)


def find_companions(files: Mapping[str, File], others: Collection[str] = ()) -> dict[str, Places]:
    """Returns for files, by their path in the repo, and for `others`, which say nothing, where
    their neighbours say tensors lie.

    A model that cannot be read, or that names files which are not there, places nothing.
    """
    places: dict[str, Places] = defaultdict(list)
    for name, path in files.items():
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
                kind = next((module for module in _NAMING if module.recognise(name, head)), None)
                if kind is None:
                    continue
                found = list(kind.list_external(name, file, file_size(path)))
        except (OSError, Unreadable):
            # Whoever takes the file itself apart or hashes it finds out.
            continue
        for location, start, tensor in found:
            # The name is only looked up among the files at hand; it opens nothing.
            data = posixpath.normpath(posixpath.join(posixpath.dirname(name), location))
            if data != name and (data in files or data in others):
                places[data].append((start, [tensor]))
    return dict(places)


def segment_companion(file: ReadableFile, size: int, places: Places) -> list[Segment]:
    """Returns the segments of a file of `size` bytes in which tensors lie at `places`."""
    return cover(file, size, places)
