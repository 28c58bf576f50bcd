"""Reads the model of an OpenVINO IR (`NAME.xml`), which says where constants lie in `NAME.bin`.

Layout, since version 10 of the IR: `<layer id= name= type="Const">` with `<data element_type=
shape= offset= size=/>` inside. Source: "OpenVINO IR format", the documentation of OpenVINO. What is
looked for are these two kinds of tags; nothing else of XML is read, and no entity resolved.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from ...model.files.segments import Tensor
from ..cutting.reader import ReadableFile, Unreadable, read_at, work_of
from ..source import make_tensor

_MAX_BYTES = 64 << 20
_BEGINNING = re.compile(rb"\s*(?:<\?xml[^<>]{0,200}\?>)?\s*<net[\s>]")
_TAG = re.compile(rb"<(layer|data)\s([^<>]{0,2000})>")
_ATTRIBUTE = re.compile(rb'([a-z_]{1,20})="([^"<>]{0,1000})"')
# What looking at one takes.
_READS_PER_TAG = 4
# How much of the text is gone through in the time of a read.
_BYTES_PER_READ = 32
_DTYPES = {
    b"f16": "F16",
    b"f32": "F32",
    b"f64": "F64",
    b"bf16": "BF16",
    b"f8e4m3": "F8_E4M3",
    b"f8e5m2": "F8_E5M2",
    b"i8": "I8",
    b"i16": "I16",
    b"i32": "I32",
    b"i64": "I64",
    b"u8": "U8",
    b"u16": "U16",
    b"u32": "U32",
    b"u64": "U64",
    b"boolean": "BOOL",
}


def recognise(name: str, head: bytes) -> bool:
    """Says whether a file may be such a model; without its `head`, whether its name may be that of
    one."""
    return name.endswith(".xml") and (not head or _BEGINNING.match(head) is not None)


def list_external(name: str, file: ReadableFile, size: int) -> Iterator[tuple[str, int, Tensor]]:
    """Yields the constants: file as seen from the model, first byte, tensor. Raises Unreadable
    where one breaks the format."""
    if size > _MAX_BYTES:
        raise Unreadable("a description longer than that of any model")
    work = work_of(file, size)
    work.spend(size // _BYTES_PER_READ)
    data = f"{posixpath.basename(name)[: -len('.xml')]}.bin"
    layer = ""
    for tag in _TAG.finditer(read_at(file, 0, size)):
        work.spend(_READS_PER_TAG)
        said = dict(_ATTRIBUTE.findall(tag[2]))
        if tag[1] == b"layer":
            layer = said.get(b"name", b"").decode("utf-8", "replace")
            continue
        dtype = _DTYPES.get(said.get(b"element_type", b""))
        if dtype is not None and said.keys() >= {b"shape", b"offset", b"size"}:
            shape = [_natural(part) for part in said[b"shape"].split(b",") if part.strip()]
            tensor = make_tensor(layer, dtype, shape, _natural(said[b"size"]))
            yield data, _natural(said[b"offset"]), tensor


def _natural(text: bytes) -> int:
    text = text.strip()
    if not text.isdigit() or len(text) > 18:
        raise Unreadable(f"{text!r} is no number of bytes or elements")
    return int(text)
