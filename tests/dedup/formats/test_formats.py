"""Every format as its own library writes it: all tensors are found, every byte is covered."""

import io
import tarfile
import zipfile
from pathlib import Path

import gguf
import h5py
import numpy as np
import pytest
from format_samples import (
    WRITERS,
    ggml_bytes,
    gguf_bytes,
    hdf5_bytes,
    make_arrays,
    make_onnx,
    npy_bytes,
    npz_bytes,
    torch_bytes,
)
from segment_checks import find_tensors, take_apart

from weightvault.dedup.formats import gguf as gguf_format
from weightvault.dedup.formats.cutting.reader import Window
from weightvault.dedup.formats.hdf5 import hdf5
from weightvault.dedup.formats.registry import find_format


@pytest.mark.parametrize("name", WRITERS)
def test_every_tensor_is_found(name: str):
    arrays = make_arrays()
    found = {raw: tensor for tensor, raw in find_tensors(name, WRITERS[name](arrays))}
    for key, values in arrays.items():
        tensor = found[values.tobytes()]
        assert (tensor.dtype, tensor.shape) == ("F32", values.shape)
        parts = key.split(".")
        assert tensor.name in ("", key, "/".join(parts))


DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}


def onnx_of(values: np.ndarray) -> bytes:
    return make_onnx({"x": values}).SerializeToString()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["x.npy", "x.h5", "x.onnx", "x.pt"])
def test_element_types_have_one_name_everywhere(name: str, dtype: str):
    if (name, dtype) == ("x.h5", "BOOL"):
        pytest.skip("an enumeration in HDF5, kept opaque")
    values = np.random.default_rng(1).integers(0, 2, (20, 60)).astype(DTYPES[dtype])
    write = {
        "x.npy": npy_bytes,
        "x.h5": lambda values: hdf5_bytes({"x": values}),
        "x.onnx": onnx_of,
        "x.pt": lambda values: torch_bytes({"x": values}),
    }
    found = [
        tensor for tensor, raw in find_tensors(name, write[name](values)) if raw == values.tobytes()
    ]
    assert [(tensor.dtype, tensor.shape) for tensor in found] == [(dtype, (20, 60))]


# NumPy


@pytest.mark.parametrize(
    ("descr", "dtype", "shape"),
    [("V2", "BF16", (60, 5)), ("<c8", "F32", (60, 5, 2)), ("<c16", "F64", (60, 5, 2))],
)
def test_npy_of_bfloat16_and_complex_numbers(descr: str, dtype: str, shape: tuple[int, ...]):
    raw = np.random.default_rng(1).bytes(300 * np.dtype(descr).itemsize)
    values = np.frombuffer(raw, descr).reshape(60, 5)
    [(tensor, found)] = find_tensors("x.npy", npy_bytes(values))
    assert (tensor.dtype, tensor.shape, found) == (dtype, shape, raw)


def test_npy_in_fortran_order_is_named_as_it_lies():
    values = np.asfortranarray(np.arange(600.0).reshape(20, 30))
    [(tensor, raw)] = find_tensors("x.npy", npy_bytes(values))
    assert tensor.shape == (30, 20)
    assert raw == values.T.tobytes()


@pytest.mark.parametrize("descr", [">f4", "<c8", "<U5", [("a", "<f4"), ("b", "<i2")]])
def test_npy_of_other_types_is_kept(descr):
    take_apart("x.npy", npy_bytes(np.zeros(300, descr)))


def test_big_endian_is_not_taken_for_little():
    [(tensor, _)] = find_tensors("x.npy", npy_bytes(np.zeros(300, ">f4")))
    assert (tensor.dtype, tensor.coding_dtype) == (">f4", "U8")


# zip


def test_deflated_members_are_opaque():
    out = io.BytesIO()
    np.savez_compressed(out, a=np.random.default_rng(0).normal(0, 1, 5000))
    assert find_tensors("x.npz", out.getvalue()) == []


def test_archive_of_checkpoints_is_taken_apart_inside():
    arrays = make_arrays(side=64)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("policy.pth", torch_bytes(arrays))
        archive.writestr("data", '{"lr": 0.1}')
        archive.writestr("more.npz", npz_bytes(arrays))
    found = [raw for _, raw in find_tensors("agent.zip", out.getvalue())]
    for values in arrays.values():
        assert found.count(values.tobytes()) == 2


def test_zip64_members_are_found():
    out = io.BytesIO()
    values = np.arange(2000.0)
    with (
        zipfile.ZipFile(out, "w", allowZip64=True) as archive,
        archive.open("a.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array(member, values)
    assert [raw for _, raw in find_tensors("x.npz", out.getvalue())] == [values.tobytes()]


def test_zip_behind_other_bytes_is_opaque_and_whole():
    take_apart("x.zip", b"#!/bin/sh\n" + npz_bytes(make_arrays()))


def test_member_called_safetensors_may_be_anything():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.safetensors", b"not one at all" * 50)
    assert find_tensors("x.zip", out.getvalue()) == []


# tar


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["w.npy", "a/" * 70 + "w.npy", "b" * 140 + ".npy", "gewöhnlich"])
def test_tars_of_every_kind_are_taken_apart(layout: int, name: str):
    values = np.random.default_rng(4).normal(0, 1, 700)
    data = npy_bytes(values)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=layout) as archive:
        for member in ("first", name, "last.npy"):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            try:
                archive.addfile(info, io.BytesIO(data))
            except ValueError:
                pytest.skip("a name too long for this layout")
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    assert [raw for _, raw in find_tensors("x.tar", out.getvalue())] == [values.tobytes()] * 3


def test_a_checkpoint_in_a_tar_is_taken_apart():
    """As NeMo packs them."""
    arrays = make_arrays(side=64)
    inner = torch_bytes(arrays)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("./model_weights.ckpt")
        info.size = len(inner)
        archive.addfile(info, io.BytesIO(inner))
    found = {raw for _, raw in find_tensors("model.nemo", out.getvalue())}
    assert {values.tobytes() for values in arrays.values()} <= found


# GGUF


def quantised_gguf(tmp_path: Path, **options: int) -> bytes:
    path = tmp_path / "q.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    if options:
        writer.add_custom_alignment(options["alignment"])
    kinds = (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0)
    values = np.random.default_rng(3).normal(0, 1, (24, 64)).astype(np.float32)
    for kind in kinds:
        writer.add_tensor(kind.name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.mark.parametrize("options", [{}, {"alignment": 256}])
def test_gguf_quantised_tensors(tmp_path: Path, options: dict[str, int]):
    found = {t.name: t for t, _ in find_tensors("q.gguf", quantised_gguf(tmp_path, **options))}
    assert {t.dtype: t.shape for t in found.values()} == {"Q8_0": (24, 64), "Q4_0": (24, 64)}


def test_gguf_types_are_those_of_the_library():
    ours = gguf_format.TYPE_NAMES
    theirs = {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
    # One that the library sizes differently from ggml itself, and that no file has.
    assert ours == {number: name for number, name in theirs.items() if name != "Q8_1"}


def test_gguf_vocabulary_is_apart():
    names = [t.name for t, _ in find_tensors("m.gguf", gguf_bytes(make_arrays()))]
    assert "tokenizer.ggml.scores" in names


def test_gguf_version_2_is_read_and_1_is_opaque():
    data = bytearray(gguf_bytes(make_arrays()))
    data[4] = 2
    assert find_tensors("m.gguf", bytes(data))
    data[4] = 1
    assert not find_tensors("m.gguf", bytes(data))


def test_big_endian_gguf_is_opaque(tmp_path: Path):
    path = tmp_path / "big.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_tensor("w", np.arange(500, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert find_tensors("big.gguf", path.read_bytes()) == []


# ONNX, HDF5


def test_keras_archive_holds_hdf5():
    """As Keras 3 saves a model: configuration and metadata beside the weights."""
    arrays = make_arrays(side=64)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.12.0"}')
        archive.writestr("config.json", '{"class_name": "Sequential"}')
        archive.writestr("model.weights.h5", hdf5_bytes(arrays))
    found = {t.name: raw for t, raw in find_tensors("model.keras", out.getvalue())}
    wanted = {name.replace(".", "/"): values.tobytes() for name, values in arrays.items()}
    assert wanted.items() <= found.items()


@pytest.mark.parametrize("library", ["earliest", "latest"])
def test_hdf5_old_and_new_groups(library: str):
    arrays = {f"g.w{i}": np.full(500, i, np.int32) for i in range(6)}
    data = hdf5_bytes(arrays, libver=library, others=False)
    found = {t.name: raw for t, raw in find_tensors("x.h5", data)}
    assert found == {f"g/w{i}": arrays[f"g.w{i}"].tobytes() for i in range(6)}


def write_chunked(library: str, chunks: tuple[int, int], **options: object) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w", libver=library) as file:
        for name, values in make_arrays(side=48).items():
            if values.ndim == 2:
                file.create_dataset(name, data=values, chunks=chunks, **options)
    return out.getvalue()


@pytest.mark.parametrize("library", ["earliest", "latest"])
def test_hdf5_in_one_chunk_is_the_tensor(library: str):
    data = write_chunked(library, (48, 48), track_order=True)
    found = {t.name: (t.shape, raw) for t, raw in find_tensors("x.h5", data)}
    arrays = {name: values for name, values in make_arrays(side=48).items() if values.ndim == 2}
    assert found == {name: (values.shape, values.tobytes()) for name, values in arrays.items()}


def test_hdf5_in_chunks_is_found_chunk_by_chunk():
    found = find_tensors("x.h5", write_chunked("earliest", (32, 16)))
    boxes = set()
    for values in make_arrays(side=48).values():
        if values.ndim == 2:
            padded = np.pad(values, ((0, 16), (0, 0)))
            for row, column in ((r, c) for r in (0, 32) for c in (0, 16, 32)):
                boxes.add(padded[row : row + 32, column : column + 16].tobytes())
    assert {raw for _, raw in found} == boxes
    assert {tensor.shape for tensor, _ in found} == {(32, 16)}
    assert len({tensor.name for tensor, _ in found}) == len(found) == 48


@pytest.mark.parametrize("library", ["earliest", "latest"])
def test_hdf5_behind_filters_is_opaque(library: str):
    for options in ({"compression": "gzip"}, {"shuffle": True}, {"fletcher32": True}):
        assert find_tensors("x.h5", write_chunked(library, (48, 48), **options)) == []


def test_hdf5_trees_of_chunks_that_go_in_a_circle_end():
    data = bytearray(write_chunked("earliest", (4, 4)))
    at = data.index(b"TREE\x01")
    while at >= 0:
        # Each node is one above others: itself.
        data[at + 5] = 1
        data[at + 48 : at + 56] = at.to_bytes(8, "little")
        at = data.find(b"TREE\x01", at + 1)
    assert find_tensors("x.h5", bytes(data)) == []


def test_hdf5_chunks_count_as_reads():
    """Many datasets may name one tree of many chunks: no reader walks through it for ever."""
    data = write_chunked("earliest", (16, 16))
    window = Window(io.BytesIO(data), 0, len(data))
    before = window.work.left
    chunks = len(find_tensors("x.h5", data))
    assert hdf5.segment(window, len(data))
    assert before - window.work.left > 4 * chunks == 4 * 8 * 9
    assert find_tensors("x.h5", write_chunked("earliest", (8, 8))) == []


def test_hdf5_with_many_datasets_in_a_group():
    arrays = {f"w{i}": np.full(200, i, np.int32) for i in range(300)}
    assert len(find_tensors("x.h5", hdf5_bytes(arrays, others=False))) == 300


def test_formats_are_told_by_content_before_name():
    data = npy_bytes(np.zeros(9))
    assert find_format("x.onnx", io.BytesIO(data)) == "npy"
    assert find_format("x.txt", io.BytesIO(b"hello")) == "opaque"


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("other", ["blobs/0a1b", "x.bak", "MODEL.BIN"])
def test_content_tells_the_format_whatever_the_name(name: str, other: str):
    """So that bytes are cut alike in a hub's cache, a copy, and an upload without a name."""
    data = WRITERS[name](make_arrays(side=24))
    assert take_apart(other, data) == take_apart(name, data)


def test_archives_one_after_the_other():
    """As a shard of a distributed checkpoint of PyTorch has them, one for each tensor."""
    arrays = make_arrays()
    parts = [npz_bytes({name: values}) for name, values in arrays.items()]
    found = find_tensors("__0_0.distcp", b"".join(parts))
    assert [raw for _, raw in found] == [values.tobytes() for values in arrays.values()]
    # What is in front of them, and between, stays what it is.
    apart = b"#!/bin/sh\n" + parts[0] + b"\0" * 9 + b"".join(parts[1:3])
    assert len(find_tensors("x.zip", b"PK\x03\x04" + apart)) == 2


def test_thousands_of_empty_archives_cost_little():
    """Each is its end alone, behind a header of a member that it does not have."""
    empty = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)
    take_apart("x.zip", empty * 20_000)


# ggml from before GGUF


@pytest.mark.parametrize(
    ("magic", "version"),
    [(b"lmgg", None), (b"fmgg", 1), (b"tjgg", 3)],
    ids=["ggml", "ggmf", "ggjt"],
)
def test_older_models_of_ggml(magic: bytes, version: int | None):
    arrays = make_arrays(side=40)
    data = ggml_bytes(arrays, magic, version)
    found = {tensor.name: (tensor.shape, raw) for tensor, raw in find_tensors("m.bin", data)}
    assert found == {n: (values.shape, values.tobytes()) for n, values in arrays.items()}
    assert find_format("m.bin", io.BytesIO(data)) == "ggml"
    # One that goes on with something else is laid out otherwise than any that is known.
    assert find_tensors("m.bin", data + bytes(9)) == []
