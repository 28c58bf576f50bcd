"""Parameters of Paddle."""

import io

import numpy as np
import pytest
from segment_checks import find_tensors

from weightvault.dedup.formats.registry import find_format


def paddle_tensor(description: bytes, data: bytes, levels: bytes = bytes(8)) -> bytes:
    return (
        bytes(4) + levels + bytes(4) + len(description).to_bytes(4, "little") + description + data
    )


def test_parameters_of_paddle_of_other_kinds():
    data = np.arange(300, dtype="<i8").tobytes()
    # Packed dimensions, behind levels of detail, and an empty tensor.
    levels = (1).to_bytes(8, "little") + (16).to_bytes(8, "little") + bytes(16)
    first = paddle_tensor(b"\x08\x03\x10\xac\x02", data)
    packed = paddle_tensor(b"\x08\x03\x12\x03\x03\x64\x01", data, levels)
    empty = paddle_tensor(b"\x08\x05\x10\x00", b"")
    found = find_tensors("m.pdiparams", first + empty + packed)
    assert [(t.dtype, t.shape, raw) for t, raw in found] == [
        ("I64", (300,), data),
        ("I64", (3, 100, 1), data),
    ]
    assert find_format("m.pdiparams", io.BytesIO(first)) == "paddle"


@pytest.mark.parametrize(
    "description",
    [
        b"\x08\x63\x10\x01",
        b"\x08\x05\x10",
        b"\x08\x05" + b"\x10\xff\xff\xff\xff\xff\xff\xff\x7f" * 9,
    ],
    ids=["unknown dtype", "cut short", "dimensions without end"],
)
def test_what_is_no_parameter_of_paddle_is_opaque(description: bytes):
    data = paddle_tensor(b"\x08\x05\x10\x02", bytes(8)) + paddle_tensor(description, bytes(3000))
    assert find_tensors("m.pdiparams", data) == []
