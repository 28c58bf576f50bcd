"""What the catalogue keeps of files for reports."""

import pytest

from weightvault.dedup.model.file_kinds import KINDS, kind_of
from weightvault.dedup.model.files.entries import FileEntry
from weightvault.dedup.model.files.manifest import Manifest
from weightvault.dedup.model.files.rows import TENSOR, chunk_uses, file_row
from weightvault.dedup.model.files.segments import Literal, Opaque, Tensor

A, B, C = (bytes([i]) * 32 for i in range(3))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("model-00001-of-00002.safetensors", "safetensors"),
        ("deep/er/Model.GGUF", "gguf"),
        ("pytorch_model.bin", "pytorch"),
        ("model.onnx", "onnx"),
        ("model.onnx_data", "onnx"),
        ("weights.onnx.data", "onnx"),
        ("run/events.data", "other"),
        ("config.json", "json"),
        ("README.md", "text"),
        ("LICENSE", "other"),
        (".gitattributes", "other"),
        ("a.safetensors/LICENSE", "other"),
        ("vocab.", "other"),
        ("train/part-0.parquet", "other"),
    ],
)
def test_formats_go_by_the_name(path: str, name: str):
    assert kind_of(path).name == name


def test_numbers_of_formats_stay_what_they_are():
    """Catalogues hold them."""
    assert [(kind.name, kind.number) for kind in KINDS.values()] == [
        ("unknown", 0),
        ("safetensors", 1),
        ("gguf", 2),
        ("pytorch", 3),
        ("onnx", 4),
        ("numpy", 5),
        ("hdf5", 6),
        ("flax", 7),
        ("archive", 8),
        ("json", 9),
        ("text", 10),
        ("other", 11),
    ]


@pytest.mark.parametrize("path", ["w.safetensors", "w.BIN", "w.pkl", "w.onnx.data", "w.parquet"])
def test_weights_and_tables_are_binary(path: str):
    assert kind_of(path).is_binary


@pytest.mark.parametrize("path", ["README.md", "config.json", "LICENSE", "bin", "x.bin/README"])
def test_texts_and_what_is_unknown_are_not(path: str):
    assert not kind_of(path).is_binary


def test_what_is_kept_of_files_and_chunks():
    weights = (Literal(b"head"), Tensor("w", "U8", (6,), 6, (A,)), Opaque(3, (B,)))
    entry = FileEntry("m.safetensors", 13, b"d" * 32, weights)
    row = file_row(entry)
    assert (row.path, row.bytes, row.tensors, row.format) == ("m.safetensors", 13, 1, 1)
    assert (row.tensor_bytes, row.inlined_bytes) == (6, 4)
    other = FileEntry("n.json", 9, b"e" * 32, (Opaque(3, (B,)), Opaque(6, (C,))))
    assert chunk_uses(Manifest((entry, other))) == {
        A: TENSOR | 1 << 1,
        B: 1 << 1 | 1 << 9,
        C: 1 << 9,
    }
