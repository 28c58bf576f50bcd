"""The same named arrays in every file format, written by the libraries that own the formats.

They are those of the extra `test`, and PyTorch.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import tempfile
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import gguf
import h5py
import msgpack
import numpy as np
import onnx
from onnx import helper, numpy_helper
from safetensors.numpy import save

Arrays = dict[str, np.ndarray]


def make_arrays(seed: int = 0, side: int = 128) -> Arrays:
    """Eight float32 tensors of some 64 KiB, and a small one."""
    rng = np.random.default_rng(seed)
    arrays = {
        f"layer.{i}.weight": rng.normal(0, 0.05, (side, side)).astype(np.float32) for i in range(8)
    }
    return arrays | {"head.bias": rng.normal(0, 1, 300).astype(np.float32)}


def torch_bytes(arrays: Arrays, *, legacy: bool = False) -> bytes:
    """A PyTorch checkpoint of a state dictionary; raises ImportError where torch is missing."""
    import torch  # pyright: ignore[reportMissingImports]

    state = {name: torch.from_numpy(values.copy()) for name, values in arrays.items()}
    out = io.BytesIO()
    torch.save(state, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def npz_bytes(arrays: Arrays) -> bytes:
    """An archive of arrays as NumPy writes it."""
    out = io.BytesIO()
    np.savez(out, **arrays)  # pyright: ignore[reportArgumentType]
    return out.getvalue()


def tar_bytes(arrays: Arrays) -> bytes:
    """An archive with the arrays in npy files, as tar writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, values in arrays.items():
            data = npy_bytes(values)
            info = tarfile.TarInfo(f"{name}.npy")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def npy_bytes(values: np.ndarray) -> bytes:
    """One array as NumPy writes it."""
    out = io.BytesIO()
    np.save(out, values)
    return out.getvalue()


def make_onnx(arrays: Arrays) -> onnx.ModelProto:
    """A model with the arrays as initializers, and one constant inside a node."""
    constant = numpy_helper.from_array(np.arange(500, dtype=np.float32), "constant")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=constant),
        helper.make_node("Identity", ["c"], ["out"]),
    ]
    outputs = [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [500])]
    initial = [numpy_helper.from_array(values, name) for name, values in arrays.items()]
    return helper.make_model(helper.make_graph(nodes, "g", [], outputs, initializer=initial))


def onnx_bytes(arrays: Arrays) -> bytes:
    """Such a model in one file."""
    return make_onnx(arrays).SerializeToString()


def external_onnx_bytes(arrays: Arrays) -> bytes:
    """Such a model whose tensors lie one after the other in a file beside it."""
    model = make_onnx(arrays)
    offset = 0
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "weights"), ("offset", offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        offset += size
    return model.SerializeToString()


def gguf_bytes(arrays: Arrays, tokens: int = 400) -> bytes:
    """A GGUF file with F32 tensors and a vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_token_list([f"token {i}" for i in range(tokens)])
        writer.add_token_scores([-float(i) for i in range(tokens)])
        for name, values in arrays.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def hdf5_bytes(arrays: Arrays, libver: str = "earliest", *, others: bool = True) -> bytes:
    """An HDF5 file with the arrays in nested groups; `others`: a dataset in chunks, and a text."""
    out = io.BytesIO()
    with h5py.File(out, "w", libver=libver) as file:
        for name, values in arrays.items():
            file.create_dataset(name.replace(".", "/"), data=values)
        if others:
            file.create_dataset("chunked", data=np.zeros((20, 20)), chunks=(10, 10))
            file["text"] = "hello"
    return out.getvalue()


def flax_bytes(arrays: Arrays) -> bytes:
    """A checkpoint as flax.serialization packs it: nested maps, arrays as extensions."""
    tree: dict[str, Any] = {}
    for name, values in arrays.items():
        *folders, leaf = name.split(".")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        packed = msgpack.packb((values.shape, values.dtype.name, values.tobytes()))
        branch[leaf] = msgpack.ExtType(1, packed)
    return bytes(msgpack.packb(tree) or b"")


def paddle_bytes(arrays: Arrays) -> bytes:
    """The parameters of a model of PaddlePaddle, put together here."""
    parts: list[bytes] = []
    for values in arrays.values():
        dimensions = b"".join(b"\x10" + _varint(n) for n in values.shape)
        description = b"\x08\x05" + dimensions
        head = bytes(16) + len(description).to_bytes(4, "little")
        parts += [head, description, values.astype("<f4").tobytes()]
    return b"".join(parts)


def tf_bundle_bytes(arrays: Arrays) -> tuple[bytes, bytes]:
    """Index and data of a checkpoint as TensorFlow writes them, but for the checksums: put together
    here, as that library takes a gigabyte."""
    rows = [(b"", _message({1: 1}))]
    data = b""
    for name, values in sorted(arrays.items()):
        dims = b"".join(_message({2: _message({1: n})}) for n in values.shape)
        facts: dict[int, int | bytes] = {1: 1, 2: dims, 4: len(data), 5: values.nbytes}
        rows.append((f"{name}/.ATTRIBUTES/VARIABLE_VALUE".encode(), _message(facts)))
        data += values.tobytes()
    block = _table_block(rows)
    empty = _table_block([])
    index = _table_block([(b"z", _varint(0) + _varint(len(block) - 5))])
    handles = _varint(len(block)) + _varint(len(empty) - 5)
    handles += _varint(len(block) + len(empty)) + _varint(len(index) - 5)
    footer = handles.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
    return block + empty + index + footer, data


def _table_block(rows: list[tuple[bytes, bytes]]) -> bytes:
    """A block of a table with its trailer; keys leave out what they share with the one before."""
    block, before = b"", b""
    for key, value in rows:
        shared = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, key, strict=False))
        )
        block += _varint(shared) + _varint(len(key) - shared) + _varint(len(value))
        block += key[shared:] + value
        before = key
    return block + struct.pack("<II", 0, 1) + bytes(5)


def _message(fields: dict[int, int] | dict[int, int | bytes] | dict[int, bytes]) -> bytes:
    """A protobuf message of numbers and of other messages."""
    out = b""
    for number, value in fields.items():
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return out


def _varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def safetensors_of(arrays: Arrays) -> bytes:
    """The arrays as the safetensors library writes them."""
    return save(arrays, metadata={"format": "pt"})


def ggml_bytes(arrays: Arrays, magic: bytes = b"lmgg", version: int | None = None) -> bytes:
    """A model of whisper.cpp, or with another magic number and a version one of an older llama."""
    is_whisper, tokens = magic == b"lmgg", [b"a", b"bc", bytes(7)]
    numbers = [len(tokens), *range(1, 11 if is_whisper else 7)]
    head = [magic] if version is None else [magic, struct.pack("<i", version)]
    head.append(struct.pack(f"<{len(numbers)}i", *numbers))
    if is_whisper:
        head += [struct.pack("<2i", 3, 5), np.arange(15, dtype="<f4").tobytes()]
        head.append(struct.pack("<i", len(tokens)))
    score = b"" if is_whisper else bytes(4)
    head += [struct.pack("<i", len(token)) + token + score for token in tokens]
    data = b"".join(head)
    for name, values in arrays.items():
        shape = values.shape[::-1]
        data += struct.pack(f"<{3 + len(shape)}i", len(shape), len(name), 0, *shape)
        data += name.encode()
        if magic == b"tjgg":
            data += bytes(-len(data) % 32)
        data += values.astype("<f4").tobytes()
    return data


def tfjs_files(arrays: Arrays, shard_bytes: int = 4 << 20) -> dict[str, bytes]:
    """A model of TensorFlow.js: its manifest, and its shards."""
    data = b"".join(values.astype("<f4").tobytes() for values in arrays.values())
    shards = [data[i : i + shard_bytes] for i in range(0, len(data), shard_bytes)]
    paths = [f"group1-shard{i + 1}of{len(shards)}.bin" for i in range(len(shards))]
    weights = [
        {"name": name, "shape": values.shape, "dtype": "float32"} for name, values in arrays.items()
    ]
    manifest = {"format": "graph-model", "weightsManifest": [{"paths": paths, "weights": weights}]}
    return {"model.json": json.dumps(manifest).encode(), **dict(zip(paths, shards, strict=True))}


def openvino_files(arrays: Arrays) -> dict[str, bytes]:
    """A model of OpenVINO: its description, and its constants."""
    layers, data = [], b""
    for number, (name, values) in enumerate(arrays.items()):
        shape = ", ".join(map(str, values.shape))
        place = f'shape="{shape}" offset="{len(data)}" size="{values.nbytes}"'
        layers.append(
            f'<layer id="{number}" name="{name}" type="Const" version="opset1">'
            f'<data element_type="f32" {place} /><output /></layer>'
        )
        data += values.astype("<f4").tobytes()
    net = f'<net version="11"><layers>{"".join(layers)}</layers></net>'
    return {"model.xml": net.encode(), "model.bin": data}


WRITERS: dict[str, Callable[[Arrays], bytes]] = {
    "model.safetensors": safetensors_of,
    "model.pt": torch_bytes,
    "legacy.bin": lambda arrays: torch_bytes(arrays, legacy=True),
    "model.npz": npz_bytes,
    "model.onnx": onnx_bytes,
    "model.gguf": gguf_bytes,
    "model.h5": hdf5_bytes,
    "flax_model.msgpack": flax_bytes,
    "model.tar": tar_bytes,
    "model.pdiparams": paddle_bytes,
    "ggml-base.bin": ggml_bytes,
}
"""Every format that holds several tensors, by a file name that it goes by."""
