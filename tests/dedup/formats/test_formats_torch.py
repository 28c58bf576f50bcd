"""PyTorch's checkpoints, as it writes them: every tensor found by its name."""

import io
import zipfile
from collections.abc import Callable

import pytest
from format_samples import make_arrays, torch_bytes
from segment_checks import find_tensors


def deflate(data: bytes, which: Callable[[str], bool]) -> bytes:
    """The archive with some members deflated, as other tools write it."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            how = zipfile.ZIP_DEFLATED if which(info.filename) else zipfile.ZIP_STORED
            new.writestr(info.filename, old.read(info), how)
    return out.getvalue()


def test_a_deflated_pickle_still_names_tensors():
    arrays = make_arrays(side=64)
    data = deflate(torch_bytes(arrays), lambda name: name.endswith((".pkl", "byteorder")))
    found = {t.name: (t.dtype, t.shape) for t, _ in find_tensors("m.pt", data)}
    assert found == {name: ("F32", values.shape) for name, values in arrays.items()}


def test_deflated_storages_are_opaque():
    data = deflate(torch_bytes(make_arrays(side=64)), lambda name: "/data/" in name)
    assert find_tensors("m.pt", data) == []


def test_transposed_tensors_are_named_as_they_lie():
    torch = pytest.importorskip("torch")
    values = torch.arange(600.0).reshape(20, 30)
    out = io.BytesIO()
    torch.save({"turned": values.t(), "gaps": torch.arange(600.0).reshape(20, 30)[::2]}, out)
    found = [(t.name, t.shape) for t, _ in find_tensors("m.pt", out.getvalue())]
    assert found == [("turned", (20, 30)), ("storage 1", (600,))]


@pytest.mark.filterwarnings("ignore:torch.quantize")
def test_quantised_sparse_and_complex_tensors_have_names():
    torch = pytest.importorskip("torch")
    state = {
        "quantised": torch.quantize_per_tensor(torch.randn(20, 30), 0.1, 0, torch.qint8),
        "complex": torch.randn(20, 30, dtype=torch.complex64),
        "sparse": torch.eye(40).to_sparse(),
    }
    out = io.BytesIO()
    torch.save(state, out)
    found = {t.name: t.dtype for t, _ in find_tensors("m.pt", out.getvalue())}
    assert found == {"quantised": "I8", "complex": "C64", "sparse.1.0": "I64", "sparse.1.1": "F32"}


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_torchscript_is_taken_apart():
    torch = pytest.importorskip("torch")
    weight, bias = torch.randn(30, 40), torch.arange(300.0)
    traced = torch.jit.trace(lambda x: x @ weight.T + bias[:30], torch.ones(1, 40))
    out = io.BytesIO()
    torch.jit.save(traced, out)
    found = {raw for _, raw in find_tensors("m.pt", out.getvalue())}
    assert {weight.numpy().tobytes(), bias.numpy().tobytes()} <= found


def test_views_divide_their_storage():
    torch = pytest.importorskip("torch")
    base = torch.arange(1000.0)
    out = io.BytesIO()
    state = {
        "head": base[:300],
        "tail": base[400:].view(20, 30),
        "turned": base[:300].view(10, 30).T,
    }
    torch.save({"model": state, "epoch": 3}, out)
    found = [(t.name, t.shape) for t, _ in find_tensors("x.pt", out.getvalue())]
    assert found == [("model.head", (300,)), ("storage 0", (100,)), ("model.tail", (20, 30))]


def test_optimiser_state_and_modules_have_names():
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(40, 30)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 40)).sum().backward()
    optimiser.step()
    out = io.BytesIO()
    torch.save({"model": model, "optimiser": optimiser.state_dict()}, out)
    names = {t.name for t, _ in find_tensors("x.ckpt", out.getvalue())}
    assert {"model._parameters.weight", "optimiser.state.0.exp_avg"} <= names


def test_float8_and_bfloat16_have_their_names():
    torch = pytest.importorskip("torch")
    out = io.BytesIO()
    kinds = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "uint16")
    torch.save({kind: torch.ones(500).to(getattr(torch, kind)) for kind in kinds}, out)
    found = {t.name: t.dtype for t, _ in find_tensors("x.pt", out.getvalue())}
    assert found == dict(zip(kinds, ("BF16", "F8_E4M3", "F8_E5M2", "U16"), strict=True))


def test_weights_of_exported_programs_are_found():
    torch = pytest.importorskip("torch")

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(40, 30)
            self.second = torch.nn.Linear(30, 20, dtype=torch.bfloat16)

        def forward(self, x: object) -> object:
            return self.second(self.first(x).to(torch.bfloat16))

    model, out = Model(), io.BytesIO()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 40),)), out)
    names = {str(torch.float32): "F32", str(torch.bfloat16): "BF16"}
    wanted = {
        name: (names[str(value.dtype)], tuple(value.shape))
        for name, value in model.state_dict().items()
    }
    found = {t.name: (t.dtype, t.shape) for t, _ in find_tensors("m.pt2", out.getvalue())}
    assert wanted.items() <= found.items()


@pytest.mark.parametrize(
    "config",
    [
        b"{}",
        b"[]",
        b'{"config": {"w": {"path_name": "weight_0", "tensor_meta": 7}}}',
        b'{"config": {"w": {"path_name": "weight_0", "tensor_meta": {"dtype": 7, "sizes": '
        b'[{"as_int": -1}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}}}}}',
        b'{"config": {"w": {"path_name": "../weight_0", "tensor_meta": {"dtype": 7, "sizes": '
        b'[{"as_int": 9}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}}}}}',
    ],
)
def test_descriptions_of_weights_that_cannot_be_are_passed_by(config: bytes):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/data/weights/weight_0", bytes(4000))
        archive.writestr("m/data/weights/model_weights_config.json", config)
    assert find_tensors("m.pt2", out.getvalue()) == []
