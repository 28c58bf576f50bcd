"""Measures every level beside other coders, on the same bytes in the same run.

    python -m weightvault.benchmarks.codecs.codecs --corpus DIR [--peers] [--rounds 9] [--save]

All F32 tensors of the safetensors files under DIR are laid end to end and coded as one: as they
are, and rounded to BF16 and F16. Contestants take turns, and medians are compared, so that a
machine that changes its speed changes it for all. --peers adds other coders, as far as they are
installed (the extra ``bench``; ZipNN also needs torch). --save writes results/codecs.csv,
results/codecs_threads.csv and results/codecs.png.

Speeds are raw MB per second, one call on the whole. Like is compared with like: "encode" and
"decode" make new memory, as the peers do, and "decode_to_memcpy" is the ratio to a copy into a new
array; "encode_kept" and "decode_kept" use memory that was there, and "kept_to_memcpy" is the ratio
to a copy into such memory. Handing out new pages takes as long as copying, and on a virtual machine
twenty times as long at one time as at another: "decode_to_best_memcpy" is the ratio to the fastest
copy into new memory of all. Hashing of the tensor is left out on both ways (a caller hashes once
for many purposes), checksums are not.

On one thread, processor seconds are counted, so that what else a machine does matters less; on
several, seconds of the clock. "encode_warm" and "decode_warm" are with memory that malloc kept, for
everybody. At the end each promise is compared with these and is met or missed.

Paths other than the best are forced in the same process, whose plain loops Numba compiles for this
processor. Where the machine should be taken for an older one, tell Numba: NUMBA_CPU_NAME=x86-64-v3
NUMBA_CPU_FEATURES=+avx2,+bmi,+bmi2,+fma,+f16c,+lzcnt,+movbe,+popcnt,+sse4.2 is one with AVX2 (its
best path is then "avx2"), NUMBA_CPU_NAME=x86-64-v2 NUMBA_CPU_FEATURES=+popcnt,+sse4.2 one without.

Threads are compared on the BF16 weights laid end to end until they are more than 64 MiB, in new
memory and in memory that was there.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...codecs.frame import frame_room
from ...codecs.pipeline import LEVELS, decode_tensor, encode_into, encode_tensor
from ...codecs.simd import paths
from ..support.machine import RESULTS, save_rows
from ..support.weights import read_f32, round_to_bf16
from .bounds import kept_memory, whole_lines
from .codec_peers import PEERS, Contestant

THREAD_COLUMNS = ("dtype", "raw_bytes", "way", "memory", "threads", "speed", "to_one_thread")
_THREADS_BYTES = 64 << 20
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

    def decode(coded: Any, out: Any = None) -> Any:
        paths.force_path(path)
        return decode_tensor(coded, threads=threads, verify=False, out=out)

    def into(raw: Any, out: Any) -> memoryview:
        paths.force_path(path)
        return encode_into(out, raw, dtype, level=level, digest=_UNHASHED, threads=threads)

    suffix = "" if path == paths.available_paths()[-1] else f", {path}"
    return Contestant(f"weightvault {level}{suffix}", encode, decode, into, decode)


def memcpy() -> Contestant:
    """Returns what every coder is measured against."""

    def copy(raw: Any, out: Any) -> Any:
        out[: raw.size] = raw
        return out[: raw.size]

    return Contestant("memcpy", lambda raw: raw.copy(), lambda coded: coded.copy(), copy, copy)


def line_up(dtype: str, threads: int, with_peers: bool) -> list[Contestant]:
    """Returns everyone who takes part, saying who is missing."""
    best = paths.available_paths()[-1]
    everyone = [memcpy(), *(ours(dtype, threads, level, best) for level in LEVELS)]
    if threads == 1:
        others = paths.available_paths()[:-1]
        for level in ("fast", "default"):
            everyone += [ours(dtype, threads, level, path) for path in others]
    for peer in PEERS if with_peers else ():
        try:
            everyone.append(peer(dtype, threads))
        except ImportError as error:
            print(f"skipped {peer.__name__} on {threads} threads: {error}")
    return everyone


def seconds(action: Callable[[], Any], threads: int = 1) -> tuple[float, Any]:
    """Returns how long ``action`` took and what it gave: processor seconds of one thread, seconds
    of the clock for several.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    result = action()
    return clock() - start, result


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
    times: dict[str, dict[str, list[float]]] = {one.name: defaultdict(list) for one in everyone}
    stored: dict[str, int] = {}
    # One for both ways, touched before it is measured.
    kept = np.zeros(frame_room(raw.size), np.uint8)
    for turn in range(rounds + 1):
        # In another order every time: whoever follows a coder that left memory in small pieces pays
        # for putting it together again.
        for one in random.Random(turn).sample(everyone, len(everyone)):
            took, stored[one.name] = take_turn(one, raw, kept, threads, check=turn == 0)
            # The first turn warms up, and proves that what is timed is lossless.
            for way, time_taken in took.items() if turn else ():
                times[one.name][way].append(time_taken)
    if threads == 1:
        measure_warm(raw, everyone, rounds, times)
    copies = [*times["memcpy"]["encode"], *times["memcpy"]["decode"]]
    kept_copies = [*times["memcpy"]["encode_kept"], *times["memcpy"]["decode_kept"]]
    for name, ways in times.items():
        decoding = statistics.median(ways["decode"])
        row = {
            "dtype": dtype,
            "threads": threads,
            "coder": name,
            "percent": round(100 * stored[name] / raw.size, 3),
            "raw_bytes": raw.size,
            "stored_bytes": stored[name],
            **{way: round(raw.size / 1e6 / statistics.median(all_)) for way, all_ in ways.items()},
            "decode_to_memcpy": round(statistics.median(copies) / decoding, 2),
            "decode_to_best_memcpy": round(min(copies) / decoding, 2),
        }
        if "decode_kept" in ways:
            ratio = statistics.median(kept_copies) / statistics.median(ways["decode_kept"])
            row["kept_to_memcpy"] = round(ratio, 2)
        yield row


def measure_warm(
    raw: np.ndarray,
    everyone: list[Contestant],
    rounds: int,
    times: dict[str, dict[str, list[float]]],
) -> None:
    """Adds to ``times`` what both ways take on one thread with memory that malloc kept."""
    with kept_memory() as is_kept:
        for turn in range(rounds + 1 if is_kept else 0):
            for one in random.Random(turn).sample(everyone, len(everyone)):
                encoding, coded = seconds(lambda one=one: one.encode(raw))
                decoding, back = seconds(lambda one=one, coded=coded: one.decode(coded))
                del back, coded
                if turn:
                    times[one.name]["encode_warm"].append(encoding)
                    times[one.name]["decode_warm"].append(decoding)


def take_turn(
    one: Contestant, raw: np.ndarray, kept: np.ndarray, threads: int, *, check: bool
) -> tuple[dict[str, float], int]:
    """Returns how many seconds each way took, and what is stored; with ``check``, asserts that the
    bytes come back.
    """
    took = {}
    forget_memory()
    took["encode"], coded = seconds(lambda: one.encode(raw), threads)
    forget_memory()
    took["decode"], back = seconds(lambda: one.decode(coded), threads)
    assert not check or np.array_equal(as_bytes(back), raw), f"{one.name} changed the bytes"
    del back
    if one.encode_into is not None and one.decode_into is not None:
        room = kept[: raw.size]
        decode_into, encode_into = one.decode_into, one.encode_into
        took["decode_kept"], back = seconds(lambda: decode_into(coded, room), threads)
        assert not check or np.array_equal(as_bytes(back), raw), f"{one.name} changed the bytes"
        took["encode_kept"], again = seconds(lambda: encode_into(raw, kept), threads)
        assert not check or np.array_equal(as_bytes(again), as_bytes(coded))
    return took, memoryview(coded).nbytes


def measure_threads(raw: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    """Returns rows that compare one thread with all of them on long BF16 tensors."""
    raw = np.tile(raw, _THREADS_BYTES // raw.size + 1)
    kept, counts = np.zeros(frame_room(raw.size), np.uint8), sorted({1, os.cpu_count() or 1})
    best = paths.available_paths()[-1]
    everyone = [ours("BF16", threads, "default", best) for threads in counts]
    turns = [
        dict(
            zip(
                counts,
                (
                    take_turn(one, raw, kept, width, check=turn == 0)[0]
                    for width, one in zip(counts, everyone, strict=True)
                ),
                strict=True,
            )
        )
        for turn in range(rounds + 1)
    ][1:]
    rows = []
    for way in ("encode", "encode_kept", "decode", "decode_kept"):
        alone = statistics.median(turn[1][way] for turn in turns)
        for threads in counts:
            taken = statistics.median(turn[threads][way] for turn in turns)
            values = (
                "BF16",
                raw.size,
                way.partition("_")[0],
                "kept" if way.endswith("kept") else "new",
                threads,
                round(raw.size / 1e6 / taken),
                round(alone / taken, 2),
            )
            rows.append(dict(zip(THREAD_COLUMNS, values, strict=True)))
    return rows


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
    kept = ""
    if "decode_warm" in row:
        kept = f"warm memory: {row['encode_warm']:6} {row['decode_warm']:6} MB/s  "
    if "kept_to_memcpy" in row:
        kept += f"kept memory: {row['encode_kept']:6} {row['decode_kept']:6} MB/s"
        kept += f" {row['kept_to_memcpy']:5.2f} x memcpy"
    print(what, speeds, ratios, kept, sep="  ", flush=True)


def save(rows: list[dict[str, Any]], threads: list[dict[str, Any]], folder: Path) -> None:
    """Writes the rows, each with what it was measured on, and a plot of BF16 on one thread."""
    save_rows(folder / "codecs.csv", rows)
    save_rows(folder / "codecs_threads.csv", threads)
    draw([row for row in rows if row["dtype"] == "BF16" and row["threads"] == 1], folder)


def draw(rows: list[dict[str, Any]], folder: Path) -> None:
    """Plots size against speed; does nothing but say so without matplotlib."""
    try:
        figures = import_module("matplotlib.figure")
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    # What is far above all others stands on the upper edge.
    shown = [row for row in rows if row["coder"] != "memcpy"]
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
    rows, corpus = [], read_corpus(arguments.corpus)
    for dtype, raw in corpus.items():
        for threads in sorted({1, os.cpu_count() or 1}):
            everyone = line_up(dtype, threads, arguments.peers)
            for row in measure(dtype, raw, threads, everyone, arguments.rounds):
                rows.append(row)
                show(row)
    for line in whole_lines(rows, paths.available_paths()):
        print(line)
    threads = measure_threads(corpus["BF16"], arguments.rounds)
    for row in threads:
        print(
            f"{row['dtype']} {row['raw_bytes'] >> 20} MiB"
            f"  {row['way']} into {row['memory']:4} memory"
            f"  {row['threads']} threads {row['speed']:6} MB/s  {row['to_one_thread']:5.2f} x one"
        )
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        save(rows, threads, RESULTS)


if __name__ == "__main__":
    main()
