"""Arrays of numpy in plain pickles and in files of joblib; nothing of them is run."""

from __future__ import annotations

import io
import pickle
import sys
import types
from typing import Any

import numpy as np
import pytest
from format_samples import make_arrays
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_checks import find_tensors

from weightvault.dedup.formats.registry import find_format


class NumpyArrayWrapper:
    """Stands for that of joblib."""

    __module__ = "joblib.numpy_pickle"

    def __init__(self, array: np.ndarray, aligned: bool) -> None:
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        self.subclass, self.shape, self.dtype = np.ndarray, array.shape, array.dtype
        self.order, self.allow_mmap = "F" if fortran else "C", True
        if aligned:
            self.numpy_array_alignment_bytes = 16


# That of C cannot be told to write in between.
PythonPickler: Any = getattr(pickle, "_Pickler")  # noqa: B009


class JoblibPickler(PythonPickler):
    """Writes arrays as joblib does: a description, then the bytes in the midst of the pickle."""

    def __init__(self, out: io.BytesIO, protocol: int, aligned: bool) -> None:
        super().__init__(out, protocol)
        self.out, self.aligned = out, aligned

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(obj, np.ndarray):
            super().save(obj, save_persistent_id)
            return
        super().save(NumpyArrayWrapper(obj, self.aligned))
        if self.proto >= 4:
            self.framer.commit_frame(force=True)
        if self.aligned:
            padding = 16 - (self.out.tell() + 1) % 16
            self.out.write(bytes([padding]) + b"\xff" * padding)
        self.out.write(obj.tobytes("A"))


@pytest.fixture
def as_joblib(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("joblib.numpy_pickle")
    monkeypatch.setitem(sys.modules, "joblib", types.ModuleType("joblib"))
    monkeypatch.setitem(sys.modules, "joblib.numpy_pickle", module)
    module.NumpyArrayWrapper = NumpyArrayWrapper  # pyright: ignore[reportAttributeAccessIssue]


def facts(data: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {t.name: (t.dtype, t.shape, raw) for t, raw in find_tensors("m.pkl", data)}


MODEL = {
    "layers": [{"w": array} for array in make_arrays(side=40).values()],
    "steps": np.arange(900, dtype="<i8"),
    "half": np.arange(2000, dtype="<f2"),
    "turned": np.asfortranarray(np.arange(1200, dtype="<f4").reshape(30, 40)),
    "name": "x" * 5000,
    "none": None,
    "few": np.arange(3),
}
WANTED = {
    **{
        f"layers.{i}.w": ("F32", array.shape, array.tobytes())
        for i, array in enumerate(make_arrays(side=40).values())
    },
    "steps": ("I64", (900,), np.arange(900, dtype="<i8").tobytes()),
    "half": ("F16", (2000,), np.arange(2000, dtype="<f2").tobytes()),
    "turned": ("F32", (40, 30), np.arange(1200, dtype="<f4").reshape(30, 40).tobytes("F")),
}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_of_pickles_are_found(protocol: int):
    data = pickle.dumps(MODEL, protocol=protocol)
    assert facts(data) == WANTED
    assert find_format("m.pkl", io.BytesIO(data)) == "pickle"


@pytest.mark.usefixtures("as_joblib")
@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("aligned", [True, False])
def test_arrays_of_joblib_are_found(protocol: int, aligned: bool):
    out = io.BytesIO()
    JoblibPickler(out, protocol, aligned).dump(MODEL)
    found = facts(out.getvalue())
    few = {"few": ("I64", (3,), np.arange(3).tobytes())}
    assert found == {**WANTED, **few}


@pytest.mark.parametrize(
    "value",
    [
        np.arange(2000, dtype=">f4"),
        np.array([{}] * 500, dtype=object),
        np.zeros(500, dtype=[("a", "<f4"), ("b", "<i2")]),
        np.zeros(900, dtype="datetime64[s]"),
        b"x" * 9000,
    ],
    ids=["big-endian", "objects", "records", "dates", "no array"],
)
def test_what_is_no_plain_array_stays_as_it_is(value: Any):
    for protocol in (3, 4, 5):
        assert facts(pickle.dumps({"a": value}, protocol=protocol)) == {}


class Bomb:
    """What is loaded of this ends the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, ("loaded",)


def test_nothing_is_run():
    array = make_arrays(side=40)["layer.0.weight"]
    found = facts(pickle.dumps([Bomb(), array], protocol=5))
    assert found == {"1": ("F32", array.shape, array.tobytes())}


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_broken_pickles_are_covered(data: st.DataObject):
    whole = bytearray(pickle.dumps(MODEL, protocol=data.draw(st.sampled_from([3, 4, 5]))))
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of it is weights; what matters lies at its ends and between.
        at = data.draw(st.integers(0, 200) | st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    find_tensors("m.pkl", bytes(whole))
