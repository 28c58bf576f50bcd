"""Other lossless coders of numbers behind one interface, for ``benchmarks.codecs.codecs``.

Each function returns a ``Contestant`` or raises ImportError where its package is not installed.
All are set up as their documentation advises for the dtype, and all are handed the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4}


@dataclass(frozen=True, slots=True)
class Contestant:
    """One coder, set up: ``encode`` takes bytes and gives something with a length, ``decode`` its
    reverse, both in new memory.

    ``encode_into``, ``decode_into``: the same into memory that was there, given as second argument;
    None where the coder has no such function.
    """

    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    encode_into: Callable[[Any, Any], Any] | None = None
    decode_into: Callable[[Any, Any], Any] | None = None


def zstd(dtype: str, threads: int) -> Contestant:
    """Zstandard level 3 on the bytes as they are."""
    import zstandard

    del dtype
    compressor = zstandard.ZstdCompressor(level=3, threads=0 if threads == 1 else threads)
    return Contestant("zstd -3", compressor.compress, zstandard.ZstdDecompressor().decompress)


def zipnn(dtype: str, threads: int) -> Contestant:
    """ZipNN: exponents apart, Huffman, in C."""
    zipnn = import_module("zipnn")
    import_module("torch").set_num_threads(threads)
    name = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype]
    coder = zipnn.ZipNN(input_format="byte", bytearray_dtype=name, threads=threads)
    return Contestant("ZipNN", lambda raw: coder.compress(bytearray(raw)), coder.decompress)


def openzl_huffman(dtype: str, threads: int) -> Contestant:
    """OpenZL: floats taken apart, Huffman on the exponents."""
    return _openzl(dtype, threads, "Huffman")


def openzl_fse(dtype: str, threads: int) -> Contestant:
    """OpenZL: floats taken apart, FSE on the exponents."""
    return _openzl(dtype, threads, "Fse")


def _openzl(dtype: str, threads: int, entropy: str) -> Contestant:
    zl = import_module("openzl.ext")
    if threads != 1:
        raise ImportError("openzl has no threads")
    take_apart = {
        "BF16": zl.nodes.BFloat16Deconstruct,
        "F16": zl.nodes.Float16Deconstruct,
        "F32": zl.nodes.Float32Deconstruct,
    }[dtype]
    compressor = zl.Compressor()
    graph = take_apart()(
        compressor, zl.graphs.Store()(compressor), getattr(zl.graphs, entropy)()(compressor)
    )
    compressor.select_starting_graph(graph)
    word = np.dtype(f"u{ITEM_BYTES[dtype]}")

    def encode(raw: Any) -> bytes:
        context = zl.CCtx()
        context.ref_compressor(compressor)
        context.set_parameter(zl.CParam.FormatVersion, zl.MAX_FORMAT_VERSION)
        return context.compress([zl.Input(zl.Type.Numeric, np.frombuffer(raw, word))])

    def decode(coded: bytes) -> Any:
        return zl.DCtx().decompress(coded)[0].content.as_nparray()

    return Contestant(f"OpenZL, {entropy}", encode, decode)


def blosc2(dtype: str, threads: int) -> Contestant:
    """Blosc2: bytes shuffled by element, zstd level 1."""
    library = import_module("blosc2")
    library.set_nthreads(threads)
    size = ITEM_BYTES[dtype]

    def encode(raw: Any) -> bytes:
        return library.compress2(
            raw, typesize=size, codec=library.Codec.ZSTD, clevel=1, filters=[library.Filter.SHUFFLE]
        )

    return Contestant("blosc2 shuffle + zstd -1", encode, library.decompress2)


def pcodec(dtype: str, threads: int) -> Contestant:
    """pcodec at its default level 8, on the numbers as floats (bfloat16 as integers, which it has
    not).
    """
    library = import_module("pcodec")
    if threads != 1:
        raise ImportError("pcodec has no threads")
    kind = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}[dtype]

    def encode(raw: Any) -> bytes:
        return library.standalone.simple_compress(np.frombuffer(raw, kind), library.ChunkConfig())

    return Contestant("pcodec -8", encode, library.standalone.simple_decompress)


PEERS = (zstd, zipnn, openzl_huffman, openzl_fse, blosc2, pcodec)
