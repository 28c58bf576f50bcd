"""What the catalogue keeps of files for reports."""

import pytest

from weightvault.dedup.manifest import FileEntry, Manifest
from weightvault.dedup.segments import Literal, Opaque, Tensor
from weightvault.dedup.uses import FORMATS, TENSOR, chunk_uses, file_row, format_of

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
    ],
)
def test_formats_go_by_the_name(path: str, name: str):
    assert format_of(path) == FORMATS[name]


def test_numbers_of_formats_stay_what_they_are():
    """Catalogues hold them."""
    assert list(FORMATS.items()) == [
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
