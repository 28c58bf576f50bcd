"""What library.py measures of models of transformers: a Llama with encoded weights, beside plain
ones and ZipNN in a hook, and loaded from a server.

Runs in an interpreter with transformers (`make .venv-hf-torch/ready`); ZipNN where that is found.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from ...api.library.adapters.torch import KINDS, compress, from_pretrained
from ...api.library.opening import open_vault

_TIMES = 3
# Many tokens at once, as a prompt has, and one, as each that is made: that pays most for decoding.
_PROMPT, _ONE = (8, 128), (1, 1)
_REPO = "org/llama"


def make_llama() -> Any:
    """Returns a Llama of 125 M parameters in BF16, random by its configuration. From here on one
    thread computes: several that wait for each other count as processor time, too."""
    transformers = import_module("transformers")
    torch.set_num_threads(1)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=32000,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        dtype="bfloat16",
    )
    return transformers.LlamaForCausalLM(config).bfloat16().eval()


@torch.no_grad()
def measure_llama() -> dict[str, Any]:
    """Returns what the weights of a Llama take encoded, the memory that they are decoded into and
    all others counted, whether logits are equal, and how much slower it computes."""
    plain, model = make_llama(), make_llama()
    parameters = sum(each.numel() for each in model.parameters())
    packed = compress(model)
    kept = packed.nbytes + packed.buffer_bytes + parameters * 2 - packed.raw_bytes
    return {
        "parameters": parameters,
        "raw_mib": round(packed.raw_bytes / 2**20, 1),
        "encoded_share": round(packed.nbytes / packed.raw_bytes, 4),
        "buffer_mib": round(packed.buffer_bytes / 2**20, 1),
        "memory_share": round(kept / (parameters * 2), 4),
        **_compare(plain, model),
        "delta_share": _share_of_tune(),
    }


@torch.no_grad()
def measure_zipnn() -> dict[str, Any]:
    """Returns the same of ZipNN, in a hook before and one behind each module."""
    plain, model = make_llama(), make_llama()
    raw, encoded = _hook_zipnn(model)
    share = {"raw_mib": round(raw / 2**20, 1), "encoded_share": round(encoded / raw, 4)}
    return share | _compare(plain, model)


def _hook_zipnn(model: nn.Module) -> tuple[int, int]:
    """Has ZipNN decode weights before their modules compute; returns their bytes, raw and
    encoded."""
    zipnn = import_module("zipnn")
    coder = zipnn.ZipNN(input_format="byte", bytearray_dtype="bfloat16", threads=1)
    raw = encoded = 0
    for module in model.modules():
        if type(module) not in KINDS:
            continue
        weight: Any = module.weight
        data = coder.compress(bytearray(weight.view(torch.uint8).numpy().tobytes()))
        raw, encoded = raw + weight.numel() * 2, encoded + len(data)

        def begin(
            module: nn.Module, _: Any, data: Any = data, shape: torch.Size = weight.shape
        ) -> None:
            found = torch.frombuffer(bytearray(coder.decompress(data)), dtype=torch.bfloat16)
            module.__dict__["weight"] = found.reshape(shape)

        def end(module: nn.Module, *_: Any) -> None:
            del module.__dict__["weight"]

        del module._parameters["weight"]
        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)
    return raw, encoded


def _share_of_tune() -> float:
    """Returns what a simulated fine-tune takes beside its base."""
    base, tune = make_llama(), make_llama()
    generator = torch.Generator().manual_seed(2)
    for weight in tune.parameters():
        moved = weight.float() + torch.randn(weight.shape, generator=generator) * 1e-4
        weight.copy_(moved.bfloat16())
    packed = compress(tune, base=base)
    return round(packed.nbytes / packed.raw_bytes, 4)


def measure_pretrained(url: str) -> dict[str, Any]:
    """Returns how long `from_pretrained` takes from a server, beside a download of the hub's client
    and transformers' own, each into an empty cache."""
    transformers, hub = import_module("transformers"), import_module("huggingface_hub")
    with TemporaryDirectory() as scratch, open_vault(url) as vault:
        make_llama().save_pretrained(Path(scratch, "llama"))
        vault.push(Path(scratch, "llama"), _REPO)
        folders = iter(range(1000))

        def load() -> Any:
            os.environ["WEIGHTVAULT_CHUNKS"] = f"{scratch}/chunks{next(folders)}"
            return from_pretrained(f"wv://{_REPO}", transformers.AutoModelForCausalLM, vault=vault)

        def download() -> Any:
            cache = f"{scratch}/hub{next(folders)}"
            folder = hub.snapshot_download(_REPO, cache_dir=cache, endpoint=url)
            return transformers.AutoModelForCausalLM.from_pretrained(folder)

        pairs = zip(load().parameters(), download().parameters(), strict=True)
        same = all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in pairs)
        (seconds, cpu), (files, files_cpu) = _least(load), _least(download)
    return {
        "same_bits": same,
        "seconds": seconds,
        "cpu_s": cpu,
        "through_files_s": files,
        "through_files_cpu_s": files_cpu,
        "ratio": round(seconds / files, 2),
    }


def _compare(plain: Any, model: Any) -> dict[str, Any]:
    """Returns whether logits are equal, and seconds for many tokens and for one: of the clock, and
    of the processor. Both models in turn, so that both have the same neighbours."""
    found: dict[str, Any] = {"same_bits": True}
    for name, shape in (("", _PROMPT), ("one_", _ONE)):
        tokens = torch.randint(0, 32000, shape)
        # The second pass of an encoded model is the first that decodes ahead.
        logits = [each(tokens).logits.view(torch.uint8) for each in (plain, model, model)]
        found["same_bits"] &= all(torch.equal(logits[0], each) for each in logits[1:])
        times = [(_time(lambda: plain(tokens)), _time(lambda: model(tokens))) for _ in range(7)]  # noqa: B023
        for kind, at in (("s", 0), ("cpu_s", 1)):
            slower = "slower_cpu" if at else "slower"
            before, after = (min(pair[who][at] for pair in times) for who in (0, 1))
            found |= {f"{name}plain_{kind}": before, f"{name}encoded_{kind}": after}
            found[f"{name}{slower}"] = round(after / before, 2)
    return found


def _least(work: Callable[[], object]) -> tuple[float, float]:
    """Returns the seconds of the quickest of three, and the least of the processor's."""
    times = [_time(work) for _ in range(_TIMES)]
    return min(each for each, _ in times), min(each for _, each in times)


def _time(work: Callable[[], object]) -> tuple[float, float]:
    start = time.perf_counter(), time.process_time()
    work()
    return (
        round(time.perf_counter() - start[0], 3),
        round(time.process_time() - start[1], 3),
    )
