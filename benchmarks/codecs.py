"""Measures every level beside other coders, on the same bytes in the same run.

    python -m weightvault.benchmarks.codecs --corpus DIR [--peers] [--rounds 9] [--save]

All F32 tensors of the safetensors files under DIR are laid end to end and coded as one: as they
are, and rounded to BF16 and F16. Contestants take turns, and medians are compared, so that a
machine that changes its speed changes it for all. --peers adds other coders, as far as they are
installed (the extra ``bench``; ZipNN also needs torch). --save writes results/codecs.csv and
results/codecs.png.

Speeds are raw MB per second, one call on the whole. "memcpy" copies into a new array, which is
what a decoder must fill. Handing out its pages takes longer than copying, and on a virtual
machine twenty times as long at one time as at another: beside the ratio of medians stands that to
the fastest copy of all. Hashing of the tensor is left out on both ways (a caller hashes once for
many purposes), checksums are not.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..codecs import paths
from ..codecs.pipeline import LEVELS, decode_tensor, encode_tensor
from .codec_peers import PEERS, Contestant
from .machine import describe_machine
from .weights import read_f32, round_to_bf16

RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    "dtype",
    "threads",
    "coder",
    "percent",
    "stored_bytes",
    "encode",
    "decode",
    "decode_to_memcpy",
    "decode_to_best_memcpy",
)
_UNHASHED = bytes(32)
_MOST_PERCENT = 67.2
"""Where the plot ends."""


def read_corpus(folder: Path) -> dict[str, np.ndarray]:
    """Returns the weights under ``folder`` as bytes, by dtype."""
    files = sorted(folder.rglob("*.safetensors"))
    tensors = [tensor.ravel() for path in files for tensor in read_f32(path).values()]
    if not tensors:
        raise SystemExit(f"no F32 tensors in safetensors files under {folder}")
    values = np.concatenate(tensors)
    kinds = {"BF16": round_to_bf16(values), "F32": values, "F16": values.astype(np.float16)}
    return {dtype: kind.view(np.uint8) for dtype, kind in kinds.items()}


def ours(dtype: str, threads: int, level: str, path: str) -> Contestant:
    """Returns one level of ours on one path."""

    def encode(raw: Any) -> bytes:
        paths.force_path(path)
        return encode_tensor(raw, dtype, level=level, digest=_UNHASHED, threads=threads)

    def decode(coded: bytes) -> Any:
        paths.force_path(path)
        return decode_tensor(coded, threads=threads, verify=False)

    suffix = "" if path == paths.available_paths()[-1] else f", {path}"
    return Contestant(f"weightvault {level}{suffix}", encode, decode)


def memcpy() -> Contestant:
    """Returns what every coder is measured against."""
    return Contestant("memcpy", lambda raw: raw.copy(), lambda coded: coded.copy())


def line_up(dtype: str, threads: int, with_peers: bool) -> list[Contestant]:
    """Returns everyone who takes part, saying who is missing."""
    best = paths.available_paths()[-1]
    everyone = [memcpy(), *(ours(dtype, threads, level, best) for level in LEVELS)]
    if threads == 1:
        others = paths.available_paths()[:-1]
        everyone += [ours(dtype, threads, "default", path) for path in others]
    for peer in PEERS if with_peers else ():
        try:
            everyone.append(peer(dtype, threads))
        except ImportError as error:
            print(f"skipped {peer.__name__} on {threads} threads: {error}")
    return everyone


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """Returns how long ``action`` took and what it gave."""
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def forget_memory() -> None:
    """Gives freed memory back to the system, so that nobody codes into pages that another paid for.

    Large results are new memory in real use; which coder found some of it lying about used to
    decide by a factor of two.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def measure(
    dtype: str, raw: np.ndarray, threads: int, everyone: list[Contestant], rounds: int
) -> Iterator[dict[str, Any]]:
    """Yields a row for each contestant after ``rounds`` rounds in which each takes its turn."""
    times: dict[str, tuple[list[float], list[float]]] = {one.name: ([], []) for one in everyone}
    stored: dict[str, int] = {}
    for turn in range(rounds + 1):
        # In another order every time: whoever follows a coder that left memory in small pieces pays
        # for putting it together again.
        for one in random.Random(turn).sample(everyone, len(everyone)):
            forget_memory()
            encoding, coded = seconds(lambda one=one: one.encode(raw))
            forget_memory()
            decoding, back = seconds(lambda one=one, coded=coded: one.decode(coded))
            if turn == 0:
                # The first turn warms up, and proves that what is timed is lossless.
                stored[one.name] = memoryview(coded).nbytes
                assert np.array_equal(as_bytes(back), raw), f"{one.name} changed the bytes"
            else:
                times[one.name][0].append(encoding)
                times[one.name][1].append(decoding)
            del coded, back
    copies = [*times["memcpy"][0], *times["memcpy"][1]]
    for name, (encoding, decoding) in times.items():
        yield {
            "dtype": dtype,
            "threads": threads,
            "coder": name,
            "percent": round(100 * stored[name] / raw.size, 3),
            "stored_bytes": stored[name],
            "encode": round(raw.size / 1e6 / statistics.median(encoding)),
            "decode": round(raw.size / 1e6 / statistics.median(decoding)),
            "decode_to_memcpy": round(statistics.median(copies) / statistics.median(decoding), 2),
            "decode_to_best_memcpy": round(min(copies) / statistics.median(decoding), 2),
        }


def as_bytes(result: Any) -> np.ndarray:
    """Returns what a decoder gave as (n,) uint8."""
    if isinstance(result, np.ndarray):
        return result.reshape(-1).view(np.uint8)
    return np.frombuffer(result, np.uint8)


def show(row: dict[str, Any]) -> None:
    """Prints one row."""
    what = f"{row['dtype']:5} {row['threads']} thr  {row['coder']:30} {row['percent']:7.3f} %"
    speeds = f"encode {row['encode']:6} MB/s  decode {row['decode']:6} MB/s"
    ratios = f"{row['decode_to_memcpy']:5.2f} ({row['decode_to_best_memcpy']:4.2f}) x memcpy"
    print(what, speeds, ratios, sep="  ", flush=True)


def save(rows: list[dict[str, Any]], folder: Path) -> None:
    """Writes the rows, each with what it was measured on, and a plot of BF16 on one thread."""
    machine = describe_machine()
    with (folder / "codecs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *machine])
        writer.writeheader()
        writer.writerows({**row, **machine} for row in rows)
    draw([row for row in rows if row["dtype"] == "BF16" and row["threads"] == 1], folder)


def draw(rows: list[dict[str, Any]], folder: Path) -> None:
    """Plots size against speed; does nothing but say so without matplotlib."""
    try:
        figures = import_module("matplotlib.figure")
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    # Level "fast" is "default" on BF16; what is far above all others stands on the upper edge.
    shown = [row for row in rows if row["coder"] not in ("memcpy", "weightvault fast")]
    figure = figures.Figure(figsize=(11, 5), layout="constrained")
    for place, way in enumerate(("encode", "decode"), start=1):
        axes = figure.add_subplot(1, 2, place)
        ordered = sorted(shown, key=lambda row: (row["percent"] > _MOST_PERCENT, row[way]))
        for index, row in enumerate(ordered):
            is_ours, is_far = row["coder"].startswith("weightvault"), row["percent"] > _MOST_PERCENT
            height = min(row["percent"], _MOST_PERCENT)
            color = "tab:red" if is_ours else "tab:gray"
            axes.scatter(row[way], height, color=color, marker="^" if is_far else "o", zorder=3)
            name = row["coder"].removeprefix("weightvault ") + (
                f", {row['percent']:.0f} %" if is_far else ""
            )
            axes.annotate(
                name,
                (row[way], height),
                fontsize=8,
                color=color if is_ours else "black",
                ha="center",
                xytext=(0, (-14, -26)[index % 2] if is_far else (10, -18, 26)[index % 3]),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": "lightgray"},
            )
        axes.set(
            xscale="log",
            xlabel=f"{way}, MB/s (log)",
            ylabel="stored, % of raw",
            title=f"BF16, {way}, one thread (weightvault in red)",
            ylim=(65.4, _MOST_PERCENT + 0.05),
        )
        axes.margins(x=0.15)
        axes.grid(alpha=0.3)
    figure.savefig(folder / "codecs.png", dpi=110)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with safetensors files")
    parser.add_argument("--peers", action="store_true", help="also measure other coders")
    parser.add_argument("--rounds", type=int, default=9, help="turns that each contestant takes")
    parser.add_argument("--save", action="store_true", help=f"write into {RESULTS.name}/")
    arguments = parser.parse_args()
    rows = []
    for dtype, raw in read_corpus(arguments.corpus).items():
        for threads in sorted({1, os.cpu_count() or 1}):
            everyone = line_up(dtype, threads, arguments.peers)
            for row in measure(dtype, raw, threads, everyone, arguments.rounds):
                rows.append(row)
                show(row)
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        save(rows, RESULTS)


if __name__ == "__main__":
    main()
