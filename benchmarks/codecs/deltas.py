"""Measures tensors against their bases: every method on every pair, on the same bytes in one run.

    python -m weightvault.benchmarks.codecs.deltas --corpus DIR [--rounds 9] [--save]

DIR/minilm holds a model, its fine-tunes and its checkpoints (see its README). Sizes are of frames
tensor by tensor, with all tables and headers; of the references without. Speeds are MB of raw
bytes per processor second on one thread, in memory that malloc kept, of all tensors of a pair laid
end to end and coded in one call;
contestants take turns and medians are compared. Hashing is left out, as a caller does it once for
many purposes. --save writes results/deltas.csv and results/deltas.png.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...codecs.pipeline import LEVELS, decode_tensor, encode_tensor
from ...codecs.simd import paths
from ..support.machine import RESULTS, save_rows
from .bounds import REAL_PAIRS, REFERENCE, delta_lines, kept_memory
from .codecs import as_bytes, seconds
from .delta_pairs import Pair, patch_entropy, read_pairs
from .delta_references import XorPlanes, fm_delta_bytes

_UNHASHED = bytes(32)


@dataclass(frozen=True)
class Method:
    """How one contestant codes a tensor (given its base) and back; ``decode`` None: size only."""

    name: str
    encode: Callable[[np.ndarray, np.ndarray], Any]
    decode: Callable[[Any, np.ndarray], Any] | None
    stored_bytes: Callable[[Any], float] = len


def ours(dtype: str, name: str, path: str | None = None, **how: Any) -> Method:
    """Returns this project's way with the options ``how``, on the fastest path or on ``path``."""
    wants_base = how.pop("with_base", True)

    def encode(tensor: np.ndarray, base: np.ndarray) -> bytes:
        paths.force_path(path)
        options = dict(how)
        if wants_base:
            options |= {"base": base, "base_digest": _UNHASHED}
            options["columns"] = tensor.shape[-1] if tensor.ndim > 1 else None
        return encode_tensor(tensor, dtype, digest=_UNHASHED, threads=1, **options)

    def decode(frame: bytes, base: np.ndarray) -> memoryview:
        paths.force_path(path)
        return decode_tensor(frame, base=base, base_digest=_UNHASHED, threads=1, verify=False)

    return Method(name, encode, decode)


def line_up(pair: Pair) -> list[Method]:
    """Returns every contestant for a pair."""
    dtype = pair.dtype
    methods = [Method("memcpy", lambda tensor, _: tensor.copy(), lambda coded, _: coded.copy(), _n)]
    for level in (3, 1):
        planes = XorPlanes(dtype, level)
        name = f"XOR planes, zstd-{level}"
        methods.append(Method(name, planes.encode, planes.decode, planes.stored_bytes))
    methods.append(Method("FM-Delta, order-0 entropy", fm_delta_bytes, None, float))
    methods += [ours(dtype, f"weightvault {level}", level=level) for level in LEVELS]
    slower = paths.available_paths()[:-1]
    for level in ("fast", "default"):
        methods += [
            ours(dtype, f"weightvault {level}, {path}", path, level=level) for path in slower
        ]
    for codec in ("bitx", "xor-context", "difference", "sparse"):
        methods.append(ours(dtype, f"codec {codec}", codec=codec))
    methods.append(ours(dtype, "without its base", with_base=False))
    return methods


def _n(array: np.ndarray) -> int:
    return array.nbytes


def measure_sizes(pair: Pair, methods: list[Method]) -> dict[str, float]:
    """Returns the stored bytes of each method, tensor by tensor, each proven lossless."""
    stored = dict.fromkeys((method.name for method in methods), 0.0)
    for name, tensor in pair.tensors.items():
        base = pair.bases[name]
        for method in methods:
            coded = method.encode(tensor, base)
            stored[method.name] += method.stored_bytes(coded)
            if method.decode is not None:
                back = as_bytes(method.decode(coded, base))
                assert np.array_equal(back, as_bytes(tensor)), f"{method.name} changed {name}"
    return stored


def measure_speeds(pair: Pair, methods: list[Method], rounds: int) -> dict[str, list[float]]:
    """Returns the median seconds of encoding and decoding all of a pair at once."""
    whole = pair.joined()
    tensor, base = whole.tensors["all"], whole.bases["all"]
    times: dict[str, tuple[list[float], list[float]]] = {
        method.name: ([], []) for method in methods if method.decode is not None
    }
    for turn in range(rounds + 1):
        for method in methods:
            decode = method.decode
            if decode is None:
                continue
            encoding, coded = seconds(lambda method=method: method.encode(tensor, base))
            decoding, _ = seconds(lambda coded=coded, decode=decode: decode(coded, base))
            # The first turn only warms up.
            if turn:
                times[method.name][0].append(encoding)
                times[method.name][1].append(decoding)
    return {name: [statistics.median(way) for way in both] for name, both in times.items()}


def measure(pair: Pair, rounds: int) -> list[dict[str, Any]]:
    """Returns a row for each method on one pair."""
    methods = line_up(pair)
    stored = measure_sizes(pair, methods)
    with kept_memory():
        times = measure_speeds(pair, methods, rounds)
    rows = []
    for method in methods:
        row: dict[str, Any] = {"pair": pair.name, "dtype": pair.dtype, "method": method.name}
        size = stored[method.name]
        row["stored_bytes"] = round(size)
        row["percent"] = round(100 * size / pair.raw_bytes, 3)
        row["to_reference"] = round(size / stored[REFERENCE], 4)
        if method.name in times:
            encoding, decoding = times[method.name]
            row["encode"] = round(pair.raw_bytes / 1e6 / encoding)
            row["decode"] = round(pair.raw_bytes / 1e6 / decoding)
            row["decode_to_memcpy"] = round(times["memcpy"][1] / decoding, 2)
        rows.append(row)
        show(row)
    return rows


def show(row: dict[str, Any]) -> None:
    """Prints one row."""
    size = f"{row['percent']:7.3f} %  {row['to_reference']:6.4f} x XOR zstd-3"
    speed = ""
    if "encode" in row:
        speed = f"encode {row['encode']:6} MB/s  decode {row['decode']:6} MB/s"
        speed += f"  {row['decode_to_memcpy']:5.2f} x memcpy"
    print(f"{row['pair']:28} {row['method']:30} {size}  {speed}", flush=True)


def summarise(rows: list[dict[str, Any]]) -> None:
    """Prints the geometric means over the pairs of real BF16 models."""
    real = [row for row in rows if row["dtype"] == "BF16" and row["pair"] in REAL_PAIRS]
    for method in dict.fromkeys(row["method"] for row in real):
        mine = [row for row in real if row["method"] == method]
        mean = math.exp(statistics.fmean(math.log(row["to_reference"]) for row in mine))
        worst = max(row["to_reference"] for row in mine)
        print(f"geometric mean of four BF16 pairs  {method:30} {mean:6.4f}  worst {worst:6.4f}")


def show_appended(pair: Pair, count: int = 16) -> None:
    """Prints what an embedding with new rows takes beside the old one and the rows alone."""
    name = "embeddings.word_embeddings.weight"
    tensor, base = pair.tensors[name], pair.bases[name]
    new = np.roll(tensor[:count], 1, axis=1)
    longer = np.concatenate([tensor, new])
    columns, rows = tensor.shape[1], [(0, 0, base.nbytes)]
    plain = len(encode_tensor(tensor, pair.dtype, base=base, columns=columns))
    alone = len(encode_tensor(new, pair.dtype))
    frame = encode_tensor(longer, pair.dtype, base=base, columns=columns, rows=rows)
    assert decode_tensor(frame, base=base) == memoryview(longer.tobytes())
    print(
        f"{count} rows appended: {len(frame)} bytes, {len(frame) / (plain + alone):.4f} x the parts"
    )


def save(rows: list[dict[str, Any]], folder: Path) -> None:
    """Writes the rows, each with what it was measured on, and a plot."""
    save_rows(folder / "deltas.csv", rows)
    draw(rows, folder)


def draw(rows: list[dict[str, Any]], folder: Path) -> None:
    """Plots the sizes of a few methods on every pair; without matplotlib, says so."""
    try:
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    shown = ("without its base", REFERENCE, "FM-Delta, order-0 entropy", "weightvault default")
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.add_subplot()
    for place, method in enumerate(shown):
        sizes = [row["percent"] for row in rows if row["method"] == method]
        at = np.arange(len(pairs)) + (place - 1.5) * 0.2
        axes.bar(at, sizes, 0.2, label=method)
    axes.set_xticks(range(len(pairs)), pairs, rotation=20, ha="right")
    axes.set(ylabel="stored, % of raw", title="Tensors stored against their bases")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    figure.savefig(folder / "deltas.png", dpi=120)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with minilm in it")
    parser.add_argument("--rounds", type=int, default=9, help="turns that each contestant takes")
    parser.add_argument("--save", action="store_true", help=f"write into {RESULTS.name}/")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for pair in read_pairs(arguments.corpus):
        rows += measure(pair, arguments.rounds)
        if pair.name == "tuned-a":
            show_appended(pair)
        if pair.name.startswith("0.5 %"):
            entropy = patch_entropy(pair)
            size = next(
                r["stored_bytes"] for r in rows[::-1] if r["method"] == "weightvault default"
            )
            print(f"{size / entropy:.4f} x the entropy of places and values")
    summarise(rows)
    for line in delta_lines(rows, paths.available_paths()):
        print(line)
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        save(rows, RESULTS)


if __name__ == "__main__":
    main()
