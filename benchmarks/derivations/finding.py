"""Whether copies are computed from the tensor they were made of, and how long looking takes.

    python -m weightvault.benchmarks.derivations.finding [--tensors 500]

Sources are models of five tensors, and tunes of half of them. Of every tensor a copy of one kind
is made and pushed as a model of its own, without any hint: quantised, cast, transposed, pruned; as
many tensors have no source. finding.csv: for each kind how many copies there are, how many are
computed from (or coded against) the right tensor, how many from a wrong one, what they take in %
of their bytes; and milliseconds of processor for a look-up of sources, and of bases.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np

from ...dedup.derivations.operations.gguf.blocks import quantise
from ...dedup.derivations.operations.gguf.layout import find_geometry
from ...dedup.local_vault import LocalVault
from ...dedup.maintenance import derive
from ...dedup.model.sketch import make_sketch
from ...dedup.similarity.sources import list_tensors
from ...dedup.transfer.push import push
from ..support.machine import RESULTS, save_rows
from ..support.vaults import open_vault
from ..support.weights import round_to_bf16
from .copies import write_tensors

_SHAPE, _TENSORS = (80, 256), 5
_QUANTS = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "Q4_0", "IQ4_XS")
Values = np.ndarray


def main() -> None:
    """Runs the benchmark and records it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tensors", type=int, default=500)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(Path(folder), parser.parse_args().tensors))
    save_rows(RESULTS / "finding.csv", rows)


def measure(root: Path, tensors: int) -> Iterator[dict[str, object]]:
    """Yields a row for each kind of copy, and one for the time of look-ups."""
    (root / "vault").mkdir()
    vault = open_vault(root / "vault")
    makers = _makers()
    sources = list(_push_sources(vault, root, tensors // (2 * _TENSORS)))
    seconds = _time_sources()
    found: dict[str, list[tuple[int, int, int, int]]] = {kind: [] for kind, _ in makers}
    rng = np.random.default_rng(5)
    for number in range(tensors):
        kind, make = makers[number % len(makers)]
        values, digest = sources[(number * 7) % len(sources)]
        if kind == "unrelated":
            values, digest = rng.standard_normal(_SHAPE, np.float32), b""
        folder = root / "copies" / str(number)
        make(folder, values)
        push(vault, folder, f"copy/{number}")
        found[kind].append(_judge(vault, f"copy/{number}", digest))
    for kind, judged in found.items():
        right, wrong, raw, stored = (sum(each) for each in zip(*judged, strict=True))
        row = {"kind": kind, "copies": len(judged), "right": right, "wrong": wrong}
        row["stored_percent"] = f"{100 * stored / raw:.3f}"
        print(row, flush=True)
        yield row
    bases = _time_bases(vault, [values for values, _ in sources])
    each = 1000 * sum(seconds) / max(1, len(seconds))
    row = {"kind": "look-up", "copies": len(seconds)}
    row |= {"source_ms": f"{each:.2f}", "base_ms": f"{bases:.2f}"}
    print(row, flush=True)
    yield row
    vault.close()


def _makers() -> list[tuple[str, Callable[[Path, Values], None]]]:
    """The kinds of copies, and what writes one; several of most."""

    def quant(name: str) -> tuple[str, Callable[[Path, Values], None]]:
        return "quantised", lambda folder, values: _write_gguf(folder, name, values)

    def other(
        kind: str, dtype: str, make: Callable[[Values], Values]
    ) -> tuple[str, Callable[[Path, Values], None]]:
        return kind, lambda folder, values: _write(folder, dtype, make(values))

    def prune(values: Values) -> Values:
        return round_to_bf16(np.where(abs(values) < np.median(abs(values)), np.float32(0), values))

    return [
        *map(quant, _QUANTS),
        other("cast", "F16", lambda values: values.astype(np.float16)),
        other("cast", "F32", lambda values: values),
        other("cast", "F8_E4M3", lambda values: values.astype(ml_dtypes.float8_e4m3fn)),
        other("transposed", "F32", lambda values: np.ascontiguousarray(values.T)),
        other("transposed", "F16", lambda values: values.T.astype(np.float16)),
        other("pruned", "BF16", prune),
        other("unrelated", "BF16", round_to_bf16),
        other("unrelated", "F16", lambda values: values.astype(np.float16)),
    ]


def _push_sources(vault: LocalVault, root: Path, models: int) -> Iterator[tuple[Values, bytes]]:
    """Pushes models in BF16; yields the values and the digest of each tensor."""
    for number in range(models):
        # Every other model is a tune of the one before.
        tensors = [_draw(number // 2 * _TENSORS + i, number % 2) for i in range(_TENSORS)]
        folder = root / "sources" / str(number)
        folder.mkdir(parents=True)
        named = {f"layer.{i}": ("BF16", round_to_bf16(v)) for i, v in enumerate(tensors)}
        write_tensors(folder / "model.safetensors", named)
        push(vault, folder, f"source/{number}")
        stored = list_tensors(vault.resolve(f"source/{number}").manifest)
        for values, tensor in zip(tensors, stored, strict=True):
            yield values, tensor.pieces[0].digest


def _draw(seed: int, tuned: int) -> Values:
    """Returns BF16 values as float32, of a tune if asked to."""
    values = np.random.default_rng(seed).standard_t(6, _SHAPE).astype(np.float32) * np.float32(0.02)
    step = np.random.default_rng(10_000 + seed).normal(0, 2e-4, _SHAPE).astype(np.float32)
    words = round_to_bf16(values + tuned * step)
    return (words.astype(np.uint32) << 16).view(np.float32)


def _write(folder: Path, dtype: str, values: np.ndarray) -> None:
    folder.mkdir(parents=True)
    write_tensors(folder / "model.safetensors", {"w": (dtype, values)})


def _write_gguf(folder: Path, kind: str, values: Values) -> None:
    folder.mkdir(parents=True)
    geometry = find_geometry(kind)
    blocks = np.empty(values.size // geometry.elements * geometry.block_bytes, np.uint8)
    quantise(kind, np.ascontiguousarray(values).reshape(-1), blocks)
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    dtype = gguf.GGMLQuantizationType[kind]
    writer.add_tensor("w", blocks.reshape(len(values), -1), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _judge(vault: LocalVault, repo: str, digest: bytes) -> tuple[int, int, int, int]:
    """Returns whether the one tensor of a repo needs the right tensor, whether it needs another
    one, and its raw and frame bytes. Without a source, needing none is right."""
    (tensor,) = list_tensors(vault.resolve(repo).manifest)
    place = vault.catalogue.locate([tensor.pieces[0].digest])[tensor.pieces[0].digest]
    is_right = digest in place.inputs if digest else not place.inputs
    is_wrong = bool(place.inputs) and not is_right
    return is_right, is_wrong, place.raw_bytes, place.frame_bytes


def _time_sources() -> list[float]:
    """Has look-ups of sources timed from now on; returns the list that their seconds go to."""
    seconds: list[float] = []
    find = derive.find_revisions

    def find_timed(*arguments: Any) -> list[tuple[str, str]]:
        start = time.process_time()
        found = find(*arguments)
        seconds.append(time.process_time() - start)
        return found

    derive.find_revisions = find_timed
    return seconds


def _time_bases(vault: LocalVault, tensors: list[Values]) -> float:
    """Returns the milliseconds of a look-up of bases of one tensor."""
    sketches = [make_sketch(round_to_bf16(values).tobytes(), "BF16") for values in tensors]
    start = time.process_time()
    for sketch in sketches:
        vault.find_bases([sketch])
    return 1000 * (time.process_time() - start) / len(sketches)


if __name__ == "__main__":
    main()
