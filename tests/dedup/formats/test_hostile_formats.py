"""Files made to harm: whatever they claim, they are covered exactly, soon, in little memory."""

import io
import struct
from collections.abc import Callable

import pytest
from format_samples import WRITERS, make_arrays
from hostile_files import (
    BAD_GGUF,
    BAD_MSGPACK,
    NO_PROTOBUF,
    NPY,
    U64_MAX,
    circular_hdf5,
    field,
    gguf_with,
    hdf5_header_in_itself,
    hdf5_tree_in_itself,
    info,
    nested_onnx,
    npy,
    text,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_checks import take_apart, take_apart_cheaply, tensors

from weightvault.dedup.errors import InvalidFile
from weightvault.dedup.formats import safetensors
from weightvault.dedup.model.files.segments import Tensor

TOLERANT = [name for name in WRITERS if name != "model.safetensors"]


@pytest.fixture(scope="module")
def samples() -> dict[str, bytes]:
    arrays = dict(list(make_arrays(side=10).items())[:3])
    return {name: write(arrays) for name, write in WRITERS.items()}


@pytest.mark.parametrize("name", TOLERANT)
def test_every_truncation_is_covered(samples: dict[str, bytes], name: str):
    data = samples[name]
    # Structures lie at the ends; between them every length would take minutes.
    for length in (
        *range(700),
        *range(700, len(data) - 700, 41),
        *range(len(data) - 700, len(data)),
    ):
        take_apart(name, data[: max(0, length)])


@pytest.mark.parametrize("name", TOLERANT)
def test_every_changed_byte_is_covered(samples: dict[str, bytes], name: str):
    data = samples[name]
    step = max(1, len(data) // 1500)
    for position in range(0, len(data), step):
        for value in (0x00, 0x7F, 0xFF):
            changed = bytearray(data)
            changed[position] = value
            take_apart(name, bytes(changed))


@pytest.mark.parametrize("name", TOLERANT)
def test_huge_numbers_anywhere_are_covered(samples: dict[str, bytes], name: str):
    data = samples[name]
    for position in range(0, len(data) - 8, max(1, len(data) // 1500)):
        take_apart(name, data[:position] + U64_MAX + data[position + 8 :])


@given(
    name=st.sampled_from([*TOLERANT, "x.npy", "x.onnx", "x.msgpack", "x.bin"]),
    head=st.sampled_from(
        [b"", b"GGUF\x03\0\0\0", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY\x01\0"]
    ),
    body=st.binary(max_size=400),
)
@settings(deadline=None, max_examples=400)
def test_random_bytes_are_covered(name: str, head: bytes, body: bytes):
    take_apart(name, head + body)


@pytest.mark.parametrize("case", NPY)
def test_npy_that_lies_is_opaque(case: str):
    found = take_apart_cheaply("x.npy", npy(NPY[case]))
    assert not any(isinstance(part, Tensor) and part.coding_dtype != "U8" for part in found)


@pytest.mark.parametrize("case", BAD_GGUF)
def test_gguf_that_lies_is_opaque(case: str):
    segments = take_apart_cheaply("x.gguf", BAD_GGUF[case])
    assert not any(isinstance(part, Tensor) for part in segments)


def test_gguf_tensors_that_overlap_are_found_once():
    data = gguf_with((2, 0), info("a", [64], 0, 0) + info("b", [64], 0, 128))
    assert [t.name for t in tensors("x.gguf", data)] == ["a"]


def test_gguf_tensors_of_one_name_are_both_kept():
    data = gguf_with((2, 0), info("a", [64], 0, 0) + info("a", [64], 0, 256))
    assert [t.name for t in tensors("x.gguf", data)] == ["a", "a"]


@pytest.mark.usefixtures("tight_bounds")
def test_gguf_of_endless_strings_is_bounded():
    count = 1 << 20
    data = gguf_with((0, 1), text("k") + struct.pack("<IIQ", 9, 8, count) + bytes(8 * count))
    take_apart_cheaply("x.gguf", data)


def test_onnx_graphs_in_graphs_end():
    take_apart_cheaply("x.onnx", nested_onnx())


@pytest.mark.usefixtures("tight_bounds")
@pytest.mark.parametrize(
    "wrap", [lambda body: field(7, body), lambda body: field(7, field(5, body))]
)
def test_onnx_of_endless_fields_is_bounded(wrap: Callable[[bytes], bytes]):
    take_apart_cheaply("x.onnx", wrap(bytes([0x08, 0x00]) * 200_000))


@pytest.mark.parametrize("body", NO_PROTOBUF)
def test_onnx_that_is_no_protobuf_is_opaque(body: bytes):
    assert tensors("x.onnx", body) == []


def test_onnx_tensor_that_does_not_fit_its_shape_is_opaque():
    tensor = bytes([0x08, 0x05, 0x10, 0x01]) + field(9, bytes(400))
    assert tensors("x.onnx", field(7, field(5, tensor))) == []


@pytest.mark.parametrize("make", [circular_hdf5, hdf5_tree_in_itself, hdf5_header_in_itself])
def test_hdf5_in_circles_ends(make: Callable[[], bytes]):
    take_apart_cheaply("x.h5", make())


@pytest.mark.parametrize("body", BAD_MSGPACK)
def test_msgpack_that_lies_is_opaque(body: bytes):
    assert [p for p in take_apart_cheaply("x.msgpack", body) if isinstance(p, Tensor)] == []


@pytest.mark.usefixtures("tight_bounds")
def test_msgpack_of_endless_values_is_bounded():
    take_apart_cheaply("x.msgpack", b"\xdd\x00\xff\xff\xff" + b"\x91" * 20 + bytes(1 << 20))


def test_names_without_utf8_are_opaque():
    header = rb'{"\ud800": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}'
    data = len(header).to_bytes(8, "little") + header + b"x"
    assert [p for p in take_apart("x.safetensors", data) if isinstance(p, Tensor)] == []
    with pytest.raises(InvalidFile, match="UTF-8"):
        safetensors.segment(io.BytesIO(data), len(data))
