"""Reads which weights an exported program (`.pt2`) holds.

Layout: `data/weights/weight_N` are bytes of storages, and `model_weights_config.json` beside them
has under `config` for each weight its file (`path_name`), and its dtype, sizes, strides and place
there (`tensor_meta`). Weights that are pickled instead are archives of their own. Source:
`torch/export/pt2_archive` and the enumeration ScalarType in `torch/_export/serde/schema.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...model.strict_json import InvalidJson, parse_json
from ..cutting.reader import Unreadable
from .pickles import Storage, View

CONFIGS = ("model_weights_config.json", "model_constants_config.json")
"""What the files are called that describe what lies beside them."""

_STORAGES = {
    1: "ByteStorage",
    2: "CharStorage",
    3: "ShortStorage",
    4: "IntStorage",
    5: "LongStorage",
    6: "HalfStorage",
    7: "FloatStorage",
    8: "DoubleStorage",
    10: "ComplexFloatStorage",
    11: "ComplexDoubleStorage",
    12: "BoolStorage",
    13: "BFloat16Storage",
}
_DTYPES = {
    28: "torch.uint16",
    29: "torch.float8_e4m3fn",
    30: "torch.float8_e5m2",
    34: "torch.uint32",
    35: "torch.uint64",
}


def read_config(data: bytes) -> Iterator[tuple[str, View]]:
    """Yields weights by name, each with the storage it looks at, whose key is the name of its file.
    Raises Unreadable for what is no such description."""
    try:
        for name, weight in parse_json(data)["config"].items():
            view = None if weight.get("use_pickle") else _read_view(weight)
            if view is not None:
                yield name, view
    except (InvalidJson, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"no description of weights: {error}") from error


def _read_view(weight: dict[str, Any]) -> View | None:
    meta = weight["tensor_meta"]
    shape, strides = (_read_lengths(meta[key]) for key in ("sizes", "strides"))
    (offset,) = _read_lengths([meta["storage_offset"]])
    kind, dtype = _STORAGES.get(meta["dtype"], ""), _DTYPES.get(meta["dtype"])
    if len(shape) != len(strides) or not (kind or dtype):
        return None
    return View(Storage(str(weight["path_name"]), kind, 0), offset, shape, strides, dtype)


def _read_lengths(values: list[dict[str, Any]]) -> tuple[int, ...]:
    lengths = tuple(value["as_int"] for value in values)
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in lengths):
        raise ValueError("a length that is none")
    return lengths
