"""Models of transformers whose weights come from a vault, without a hub and without their files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from importlib import import_module
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ....dedup.errors import EntryNotFound, InvalidFile, InvalidInput
from ....dedup.vault import Snapshot
from ..arrays import torch_type
from ..opening import open_address
from ..tensor_file import TensorFile, TensorSlice, open_tensors
from ..vault import Vault

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_CONFIG, _GENERATION = "config.json", "generation_config.json"
# What the configuration must not take for its own: the loader goes by them.
_LOADING = ("dtype", "torch_dtype", "quantization_config")
# Before that, transformers took tensors apart from files alone.
_LEAST_VERSION = 5


def from_pretrained(
    uri: str,
    kind: Any,
    *,
    vault: Vault | str | None = None,
    token: str | None = None,
    **options: Any,
) -> Any:
    """Returns what `kind.from_pretrained` of transformers returns for the files that a `wv://`
    address names, bit for bit: `from_pretrained("wv://org/tune", AutoModel)`.

    `kind` is a class of models or an Auto class; `options` are those of its `from_pretrained`, such
    as `dtype` and `device_map`. Weights come tensor by tensor, as transformers asks for them, some
    at a time beside each other; none are written to the disk. Renamed, merged, tied and sharded
    weights are as transformers has them, and its report tells what did not fit.

    The address may name a folder of the repo, or one file of weights, beside its config.json;
    otherwise that is `model.safetensors`, or the shards in `model.safetensors.index.json`. Needs
    transformers 5. Raises EntryNotFound where a file is missing, InvalidInput for an older
    transformers, and where the repo has code of its own: pull that, and look at it.
    """
    transformers = _import_transformers()
    opened, address, ours = open_address(uri, vault=vault, token=token)
    try:
        snapshot = opened.connect().resolve(address.repo, address.revision)
        folder, files = _find_weights(opened, snapshot, address.path)
        with TemporaryDirectory() as scratch:
            _write_settings(opened, snapshot, folder, Path(scratch))
            options = _read_settings(transformers, kind, scratch, options)
        with open_tensors(opened.connect, snapshot, files, "pt") as file:
            model_class = _find_class(kind, options)
            weights = _weights(file, snapshot, files)
            made = model_class.from_pretrained(None, state_dict=weights, **options)
    finally:
        if ours:
            opened.close()
    model = made[0] if isinstance(made, tuple) else made
    model.name_or_path = model.config.name_or_path = uri
    return made


def _import_transformers() -> Any:
    transformers = import_module("transformers")
    if int(transformers.__version__.partition(".")[0]) < _LEAST_VERSION:
        raise InvalidInput(
            f"transformers {transformers.__version__} takes weights from files alone",
            f"install transformers>={_LEAST_VERSION}, or pull the repo",
        )
    return transformers


def _find_weights(vault: Vault, snapshot: Snapshot, path: str) -> tuple[str, list[str]]:
    """Returns the folder that the settings are in, and the files of weights."""
    if snapshot.manifest.file(path) is not None:
        parent = str(PurePosixPath(path).parent)
        return ("" if parent == "." else f"{parent}/"), [path]
    folder = f"{path}/" if path else ""
    if snapshot.manifest.file(folder + _WHOLE) is not None:
        return folder, [folder + _WHOLE]
    index = _read(vault, snapshot, folder + _INDEX)
    if index is None:
        commit = snapshot.commit
        raise EntryNotFound(
            f"{commit.repo} at {commit.id} has neither {folder + _WHOLE!r} nor {_INDEX!r}",
            "name the file of weights in the address",
        )
    return folder, [folder + name for name in _shards(index)]


def _shards(index: bytes) -> list[str]:
    try:
        return sorted(set(json.loads(index)["weight_map"].values()))
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise InvalidFile(f"{_INDEX!r} names no shards: {error}") from error


def _write_settings(vault: Vault, snapshot: Snapshot, folder: str, scratch: Path) -> None:
    for name in (_CONFIG, _GENERATION):
        found = _read(vault, snapshot, folder + name)
        if found is not None:
            (scratch / name).write_bytes(found)
    if not (scratch / _CONFIG).exists():
        commit = snapshot.commit
        raise EntryNotFound(f"{commit.repo} at {commit.id} has no file {folder + _CONFIG!r}")


def _read(vault: Vault, snapshot: Snapshot, path: str) -> bytes | None:
    if snapshot.manifest.file(path) is None:
        return None
    commit = snapshot.commit
    return vault[commit.repo].read(path, revision=commit.id)


def _read_settings(
    transformers: Any, kind: Any, scratch: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the options with the configurations in a folder, as `from_pretrained` reads them."""
    if options.get("trust_remote_code") and "auto_map" in json.loads(
        Path(scratch, _CONFIG).read_bytes()
    ):
        raise InvalidInput("the repo has code of its own", "pull it, and load it from the folder")
    left = dict(options)
    if not isinstance(left.get("config"), transformers.PreTrainedConfig):
        reader = getattr(kind, "config_class", None) or transformers.AutoConfig
        loading = {name: left.pop(name) for name in _LOADING if name in left}
        named = left.pop("config", None)
        place = scratch if named is None else named
        config, left = reader.from_pretrained(place, return_unused_kwargs=True, **left)
        left |= {**loading, "config": config}
    if left.get("generation_config") is None:
        left["generation_config"] = _read_generation(transformers, scratch)
    return left


def _find_class(kind: Any, options: dict[str, Any]) -> Any:
    """Returns the class of models that a configuration is for, which Auto classes say by making
    one; without memory. Some take the part for texts of it, which `options` then have."""
    if not hasattr(kind, "from_config"):
        return kind
    config = options["config"]
    with torch.device("meta"):
        made = kind.from_config(deepcopy(config))
    if type(made.config) is not type(config):
        options["config"] = made.config
    return type(made)


def _read_generation(transformers: Any, scratch: str) -> Any:
    read = transformers.GenerationConfig.from_pretrained
    if Path(scratch, _GENERATION).exists():
        return read(scratch)
    return read(scratch, config_file_name=_CONFIG, _from_model_config=True)


def _weights(file: TensorFile, snapshot: Snapshot, paths: list[str]) -> dict[str, _Weight]:
    """Returns a state dict whose tensors are read when they are wanted; file by file, by name in
    each, as the first float tells which type the model is of if its settings do not."""
    entries = [entry for path in paths if (entry := snapshot.manifest.file(path)) is not None]
    names = (name for entry in entries for name in sorted(t.name for t in entry.tensors))
    return {name: _Weight(file.get_slice(name)) for name in names}


class _Weight:
    """A tensor that is read by indexing it, as slices of safetensors are; and what transformers
    asks tensors of a state dict before."""

    def __init__(self, part: TensorSlice) -> None:
        self._part = part
        self.get_shape = part.get_shape
        self.get_dtype = part.get_dtype

    @property
    def shape(self) -> torch.Size:
        """The shape."""
        return torch.Size(self._part.get_shape())

    @property
    def dtype(self) -> torch.dtype:
        """The type of its elements; of bytes where PyTorch has none."""
        return torch_type(self._part.get_dtype()) or torch.uint8

    def is_floating_point(self) -> bool:
        """Says whether its elements are floats."""
        return self.dtype.is_floating_point

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self._part[index]
