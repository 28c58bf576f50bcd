"""`inspect`: what a file is made of, without any vault."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from format_samples import WRITERS, gguf_bytes, make_arrays
from models import bf16_file, make_weights, safetensors_bytes, to_bf16


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bf16_file(make_weights(1)))
    return path


def test_document_says_what_a_push_would_store(run, model_file: Path):
    found = json.loads(run("inspect", model_file, "--json").stdout)
    data = model_file.read_bytes()
    assert (found["format"], found["size"]) == ("safetensors", len(data))
    assert found["blake3"] == blake3(data).hexdigest()
    parts = {part["name"]: part for part in found["parts"] if part["kind"] == "tensor"}
    for name, values in make_weights(1).items():
        raw = to_bf16(values).tobytes()
        part = parts[name]
        assert (part["dtype"], part["shape"]) == ("BF16", list(values.shape))
        assert part["digests"] == [blake3(raw).hexdigest()]
        assert data[part["offset"] : part["offset"] + part["size"]] == raw
    assert len(parts["embed.weight"]["sketch"]) == 64
    assert sum(part["size"] for part in found["parts"]) == len(data)


def test_table_names_tensors_dtypes_and_shares(run, tmp_path: Path):
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(make_arrays(side=64)))
    text = run("inspect", path).stdout
    for word in ("gguf", "layer.0.weight", "64x64", "F32", "opaque", "%", "blake3"):
        assert word in text


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "model.safetensors"])
def test_every_format_is_named_with_its_tensors(run, tmp_path: Path, name: str):
    arrays = make_arrays(side=64)
    (tmp_path / name).write_bytes(WRITERS[name](arrays))
    found = json.loads(run("inspect", tmp_path / name, "--json").stdout)
    formats = {"pt": "zip", "npz": "zip", "bin": "torch", "h5": "hdf5", "pdiparams": "paddle"}
    suffix = name.rpartition(".")[2]
    known = "ggml" if name.startswith("ggml") else formats.get(suffix, suffix)
    assert found["format"] == known
    digests = {digest for part in found["parts"] for digest in part["digests"]}
    assert {blake3(values.tobytes()).hexdigest() for values in arrays.values()} <= digests


def test_no_vault_is_opened_or_made(run, model_file: Path, tmp_path: Path):
    assert run("--vault", tmp_path / "vault", "inspect", model_file).exit_code == 0
    assert not (tmp_path / "vault").exists()


def test_an_empty_file_has_no_parts(run, tmp_path: Path):
    (tmp_path / "empty").touch()
    result = run("inspect", tmp_path / "empty", "--json")
    assert json.loads(result.stdout)["parts"] == []
    assert run("inspect", tmp_path / "empty").exit_code == 0


@pytest.mark.parametrize(
    ("name", "hint"), [("nothing", "of that name"), ("", "takes folders"), ("pipe", "a pipe or")]
)
def test_what_is_no_file_is_refused(run, tmp_path: Path, name: str, hint: str):
    os.mkfifo(tmp_path / "pipe")
    result = run("inspect", tmp_path / name)
    assert result.exit_code != 0
    assert "is not a file" in result.stderr
    assert hint in result.stderr


def test_a_broken_safetensors_file_is_opaque_by_reason(run, model_file: Path):
    model_file.write_bytes(model_file.read_bytes()[:-1])
    assert "lies at" in run("inspect", model_file).stdout
    found = json.loads(run("inspect", model_file, "--json").stdout)
    assert {part["kind"] for part in found["parts"]} == {"opaque"}
    assert "lies at" in found["warning"]


def test_what_could_be_computed_from_another_file_is_said(run, tmp_path: Path):
    weights = {name: np.float32(values) for name, values in make_weights(1).items()}
    new = np.random.default_rng(3).normal(0, 0.05, (64, 96)).astype(np.float32)
    halves = {f"h.{name}": values.astype(np.float16) for name, values in weights.items()}
    copy = {
        **{name: ("F16", v.shape, v.tobytes()) for name, v in halves.items()},
        "same": ("F32", weights["embed.weight"].shape, weights["embed.weight"].tobytes()),
        "new": ("F32", new.shape, new.tobytes()),
    }
    source = {name: ("F32", v.shape, v.tobytes()) for name, v in weights.items()}
    for name, tensors in (("copy", copy), ("source", source)):
        (tmp_path / f"{name}.safetensors").write_bytes(safetensors_bytes(tensors))
    names = tmp_path / "copy.safetensors", "--against", tmp_path / "source.safetensors"
    found = json.loads(run("inspect", *names, "--json").stdout)
    how = {tensor["name"]: (tensor["how"], tensor["source"]) for tensor in found["tensors"]}
    assert how["h.embed.weight"] == ("computed", "embed.weight")
    assert how["same"] == ("same", None)
    assert how["new"] == ("alone", None)
    assert found["stored"] == sum(tensor["stored"] for tensor in found["tensors"])
    text = run("inspect", *names).stdout
    assert "computed from embed.weight" in text
    assert run("inspect", tmp_path, "--against", tmp_path).exit_code == 4
