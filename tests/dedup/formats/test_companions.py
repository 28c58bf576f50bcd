"""Tensors whose places are in another file than their bytes: ONNX, TensorFlow."""

import io
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from format_samples import (
    Arrays,
    make_arrays,
    make_onnx,
    openvino_files,
    safetensors_of,
    tf_bundle_bytes,
    tfjs_files,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from models import read_folder
from vaults import open_local

from weightvault.dedup.formats.companions import find_companions
from weightvault.dedup.formats.cutting.reader import Unreadable
from weightvault.dedup.formats.indexes import openvino, tfjs
from weightvault.dedup.formats.indexes.tf_bundle import list_external
from weightvault.dedup.formats.scan import scan_files
from weightvault.dedup.progress import Progress
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push

INDEX = tf_bundle_bytes(dict(list(make_arrays(side=20).items())[:3]))[0]


def test_onnx_external_data_is_named_by_the_model(tmp_path: Path):
    arrays: Arrays = make_arrays()
    path = tmp_path / "deep" / "model.onnx"
    path.parent.mkdir()
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(make_onnx(arrays), path, **options)
    files = {f"deep/{p.name}": p for p in sorted(path.parent.iterdir())}
    entries = {entry.path: entry for entry in scan_files(files, Progress()).files}
    found = {t.name: t.shape for t in entries["deep/weights.bin"].tensors}
    assert {name: values.shape for name, values in arrays.items()}.items() <= found.items()


def test_onnx_external_data_needs_no_length_and_no_name(tmp_path: Path):
    """The length is optional where the shape tells it, and a model is known by its content."""
    arrays: Arrays = make_arrays(side=24)
    named = {f"w{i}.bin": values for i, values in enumerate(arrays.values())}
    model = make_onnx({})
    for location, values in named.items():
        (tmp_path / location).write_bytes(values.tobytes())
        data_type = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor = model.graph.initializer.add(name=location, data_type=data_type, dims=values.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    (tmp_path / "blob").write_bytes(model.SerializeToString())
    files = {p.name: p for p in sorted(tmp_path.iterdir())}
    entries = {entry.path: entry for entry in scan_files(files, Progress()).files}
    for location, values in named.items():
        assert [t.shape for t in entries[location].tensors] == [values.shape]


def test_onnx_external_data_may_not_be_elsewhere(tmp_path: Path):
    model = make_onnx({})
    tensor = model.graph.initializer.add(name="x", data_type=1, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../../secret"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    entry = scan_files({"m.onnx": path}, Progress()).files[0]
    assert entry.size == path.stat().st_size


def write_saved_model(folder: Path, arrays: Arrays) -> dict[str, Path]:
    """Writes the variables of a SavedModel; returns the files of the folder."""
    (folder / "variables").mkdir(parents=True)
    index, data = tf_bundle_bytes(arrays)
    (folder / "variables" / "variables.index").write_bytes(index)
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(data)
    return {f"variables/{p.name}": p for p in sorted((folder / "variables").iterdir())}


def test_tensorflow_variables_are_named_by_their_index(tmp_path: Path):
    arrays = make_arrays(side=64) | {"scalar": np.array(3, np.float32)}
    files = write_saved_model(tmp_path, arrays)
    entries = {entry.path: entry for entry in scan_files(files, Progress()).files}
    found = {t.name: (t.dtype, t.shape) for t in entries[sorted(files)[0]].tensors}
    ending = "/.ATTRIBUTES/VARIABLE_VALUE"
    assert found == {name + ending: ("F32", values.shape) for name, values in arrays.items()}


def test_tensorflow_variables_are_stored_once(tmp_path: Path):
    arrays = make_arrays(side=256)
    vault = open_local(tmp_path / "vault")
    (tmp_path / "st").mkdir()
    (tmp_path / "st" / "model.safetensors").write_bytes(safetensors_of(arrays))
    write_saved_model(tmp_path / "tf", arrays)
    first = push(vault, tmp_path / "st", "org/st").sent
    assert push(vault, tmp_path / "tf", "org/tf").sent < 0.01 * first
    pull(vault, "org/tf", tmp_path / "back")
    vault.close()
    assert read_folder(tmp_path / "back") == read_folder(tmp_path / "tf")


def test_an_index_without_its_data_places_nothing(tmp_path: Path):
    files = write_saved_model(tmp_path, make_arrays(side=20))
    del files["variables/variables.data-00000-of-00001"]
    assert find_companions(files) == {}


def read_index(data: bytes) -> list[str]:
    return [tensor.name for _, _, tensor in list_external("m.index", io.BytesIO(data), len(data))]


def test_every_truncation_of_an_index_is_unreadable():
    assert len(read_index(INDEX)) == 3
    for length in range(len(INDEX)):
        with pytest.raises(Unreadable):
            read_index(INDEX[:length])


@given(st.integers(0, len(INDEX) - 1), st.binary(min_size=1, max_size=12))
@settings(deadline=None, max_examples=500)
def test_a_changed_index_is_read_or_unreadable(at: int, change: bytes):
    with suppress(Unreadable):
        read_index(INDEX[:at] + change + INDEX[at + len(change) :])


def test_an_index_whose_blocks_are_itself_ends():
    """Rows of the index block that all lead back to it."""
    row = b"\x00\x01\x02" + b"k" + b"\x00\x7f"
    block = row * 20 + struct.pack("<II", 0, 1)
    footer = (b"\x00\x00\x00" + bytes([len(block) & 0x7F | 0x80, len(block) >> 7])).ljust(40, b"\0")
    data = block + bytes(5) + footer + bytes.fromhex("57fb808b247547db")
    with pytest.raises(Unreadable):
        read_index(data)


def test_a_big_endian_index_is_left_alone():
    """Its header, the row of the empty name, says so in field 2."""
    changed = INDEX.replace(b"\x00\x00\x02\x08\x01", b"\x00\x00\x02\x10\x01", 1)
    assert changed != INDEX
    with pytest.raises(Unreadable):
        read_index(changed)


# TensorFlow.js, OpenVINO


def write_files(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in sorted(files)}


def find_all(files: dict[str, Path]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The tensors of all files, by name."""
    entries = scan_files(files, Progress()).files
    return {t.name: (t.dtype, t.shape) for entry in entries for t in entry.tensors}


@pytest.mark.parametrize("write", [tfjs_files, openvino_files])
def test_weights_are_found_where_the_model_says(tmp_path: Path, write):
    arrays = make_arrays(side=40)
    found = find_all(write_files(tmp_path / "m", write(arrays)))
    assert found == {name: ("F32", values.shape) for name, values in arrays.items()}


@pytest.mark.parametrize("write", [tfjs_files, openvino_files])
def test_weights_of_other_formats_are_stored_once(tmp_path: Path, write):
    arrays = make_arrays(side=256)
    vault = open_local(tmp_path / "vault")
    write_files(tmp_path / "st", {"model.safetensors": safetensors_of(arrays)})
    first = push(vault, tmp_path / "st", "org/st").sent
    write_files(tmp_path / "m", write(arrays))
    assert push(vault, tmp_path / "m", "org/m").sent < 0.02 * first
    pull(vault, "org/m", tmp_path / "back")
    vault.close()
    assert read_folder(tmp_path / "back") == read_folder(tmp_path / "m")


def test_weights_in_several_shards_are_found_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tfjs, "_SHARD_BYTES", 4096)
    arrays = make_arrays(side=40)
    files = write_files(tmp_path / "m", tfjs_files(arrays, 4096))
    entries = scan_files(files, Progress()).files
    parts: dict[str, int] = {}
    for entry in entries:
        for tensor in entry.tensors:
            parts[tensor.name] = parts.get(tensor.name, 0) + tensor.size
    assert parts == {name: values.nbytes for name, values in arrays.items()}


MODELS = {
    "model.json": tfjs_files(make_arrays(side=20))["model.json"],
    "model.xml": openvino_files(make_arrays(side=20))["model.xml"],
}
READERS = {"model.json": tfjs.list_external, "model.xml": openvino.list_external}


@pytest.mark.parametrize("name", MODELS)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_broken_models_raise_nothing_else(name: str, data: st.DataObject):
    model = bytearray(MODELS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(model) - 1))
        model[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(Unreadable):
        for location, start, tensor in READERS[name](name, io.BytesIO(model), len(model)):
            assert location
            assert start >= 0
            assert tensor.size >= 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model.json", b'{"weightsManifest": [{"paths": ["a"], "weights": [{"name": "x"}]}]}'),
        ("model.json", b'{"weightsManifest": 7}'),
        ("model.json", b"[" * 100_000),
        ("model.json", b"{}"),
        (
            "model.xml",
            b'<net><layer name="x"><data element_type="f32" shape="4" offset="-1" size="16"/>',
        ),
        ("model.xml", b'<net><data element_type="f32" shape="4" offset="0" size="17"/>'),
    ],
)
def test_models_that_cannot_be_place_nothing(tmp_path: Path, name: str, text: bytes):
    files = write_files(tmp_path, {name: text, "a": bytes(64), "model.bin": bytes(64)})
    assert find_companions(files) == {}
    with pytest.raises(Unreadable):
        list(READERS[name](name, io.BytesIO(text), len(text)))
