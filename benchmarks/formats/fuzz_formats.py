"""Coverage-guided fuzzing of the parsers of files.

    python -m weightvault.benchmarks.formats.fuzz_formats PARSER FOLDER [-runs=N]
    python -m weightvault.benchmarks.formats.fuzz_formats --record [PARSER ...]

The first fuzzes one parser for ever, the second each with a million inputs, into results.

Needs `atheris` and the extra `test`. FOLDER gathers inputs; it starts with small files that the
formats' own libraries write. A finding is any exception but a parser's typed one, segments that do
not cover the input exactly, or facts that no manifest could hold.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import atheris  # pyright: ignore[reportMissingImports, reportMissingModuleSource]

with atheris.instrument_imports(include=["weightvault.dedup"]):  # pyright: ignore[reportAttributeAccessIssue]
    from weightvault.dedup.errors import InvalidFile
    from weightvault.dedup.formats import (
        companions,
        gguf,
        msgpack,
        npy,
        onnx,
        registry,
        safetensors,
    )
    from weightvault.dedup.formats.cutting.content_chunks import cut_opaque
    from weightvault.dedup.formats.cutting.reader import ReadableFile, Unreadable, Work
    from weightvault.dedup.formats.hdf5 import hdf5
    from weightvault.dedup.formats.indexes import tf_bundle
    from weightvault.dedup.formats.torch import pickles, torch_legacy
    from weightvault.dedup.model.files.outlines import check_tensor_size
    from weightvault.dedup.model.files.segments import Literal, Segment, Tensor

from ..support.machine import RESULTS, describe_machine, save_rows

OUT = RESULTS / "fuzz_formats.csv"
RUNS = 1_000_000
TIMEOUT_SECONDS = 100
"""By the clock, of one input: instrumented, what takes 2 s takes 20, and others may be at work."""
RSS_LIMIT_MIB = 512
"""Where libFuzzer stops a run: its own tables take some 150 MiB on top of the parser."""

Segmenter = Callable[[ReadableFile, int], list[Segment]]


def check_cover(data: bytes, segments: list[Segment]) -> None:
    """Raises AssertionError unless the segments make up `data` and fit a manifest."""
    offset = 0
    for part in segments:
        assert part.size >= 0
        if isinstance(part, Literal):
            assert part.data == data[offset : offset + part.size]
        elif isinstance(part, Tensor):
            part.name.encode()
            part.dtype.encode()
            check_tensor_size(part)
        offset += part.size
    assert offset == len(data)


def fuzz_segmenter(segment: Segmenter, data: bytes) -> None:
    """Takes `data` apart with one parser."""
    with suppress(Unreadable, InvalidFile):
        check_cover(data, segment(io.BytesIO(data), len(data)))


def fuzz_pickle(data: bytes) -> None:
    """Follows `data` as a pickle."""
    with suppress(Unreadable):
        for name, _ in pickles.list_views(pickles.read_value(io.BytesIO(data), Work())):
            assert isinstance(name, str)


def fuzz_archive(data: bytes) -> None:
    """Takes `data` apart as an archive, and whatever lies in it."""
    check_cover(data, registry.segment_file("x", io.BytesIO(data), len(data)))


def fuzz_companions(data: bytes) -> None:
    """Takes the first half of `data` as a model, and the rest as what it says about a neighbour."""
    half = len(data) // 2
    with suppress(Unreadable):
        found = list(onnx.list_external("m.onnx", io.BytesIO(data[:half]), half))
        places: companions.Places = [(start, [tensor]) for _, start, tensor in found]
        rest = data[half:]
        check_cover(rest, companions.segment_companion(io.BytesIO(rest), len(rest), places))


def fuzz_bundle(data: bytes) -> None:
    """Reads `data` as the index of a TensorFlow checkpoint."""
    with suppress(Unreadable):
        for path, start, tensor in tf_bundle.list_external("m.index", io.BytesIO(data), len(data)):
            assert path.startswith("m.data-")
            assert start >= 0
            check_tensor_size(tensor)


def fuzz_chunking(data: bytes) -> None:
    """Cuts `data` by its content, many times over so that there is something to cut."""
    data = data * (1 + 100_000 // max(1, len(data)))
    check_cover(data, cut_opaque(io.BytesIO(data), 0, len(data)))


PARSERS: dict[str, Callable[[bytes], None]] = {
    "safetensors": partial(fuzz_segmenter, safetensors.segment),
    "gguf": partial(fuzz_segmenter, gguf.segment),
    "npy": partial(fuzz_segmenter, npy.segment),
    "hdf5": partial(fuzz_segmenter, hdf5.segment),
    "onnx": partial(fuzz_segmenter, onnx.segment),
    "msgpack": partial(fuzz_segmenter, msgpack.segment),
    "torch_legacy": partial(fuzz_segmenter, torch_legacy.segment),
    "pickles": fuzz_pickle,
    "zips": fuzz_archive,
    "tars": fuzz_archive,
    "companions": fuzz_companions,
    "tf_bundle": fuzz_bundle,
    "chunking": fuzz_chunking,
}


def write_seeds(parser: str, folder: Path) -> None:
    """Writes small real files of a parser's format."""
    import numpy as np

    from ..support.model_files import (
        WRITERS,
        external_onnx_bytes,
        gguf_bytes,
        hdf5_bytes,
        make_arrays,
        npy_bytes,
        tar_bytes,
        tf_bundle_bytes,
        torch_bytes,
    )

    arrays = dict(list(make_arrays(side=6).items())[:3])
    names = {
        "safetensors": ["model.safetensors"],
        "onnx": ["model.onnx"],
        "msgpack": ["flax_model.msgpack"],
        "torch_legacy": ["legacy.bin"],
        "zips": ["model.npz", "model.pt"],
        "chunking": ["flax_model.msgpack"],
    }
    for name in names.get(parser, []):
        (folder / name).write_bytes(WRITERS[name](arrays))
    if parser == "gguf":
        (folder / "gguf").write_bytes(gguf_bytes(arrays, tokens=12))
    elif parser == "npy":
        (folder / "npy").write_bytes(npy_bytes(arrays["layer.0.weight"]))
    elif parser == "hdf5":
        for library in ("earliest", "latest"):
            few = {"g.w": np.arange(9, dtype=np.float32), "g.b": np.arange(5, dtype=np.float64)}
            (folder / library).write_bytes(hdf5_bytes(few, library, others=False))
    elif parser == "tars":
        # Without the zeros that fill a tape's record.
        (folder / "tar").write_bytes(tar_bytes(arrays)[:4096])
    elif parser == "tf_bundle":
        (folder / "index").write_bytes(tf_bundle_bytes(arrays)[0])
    elif parser == "companions":
        model = external_onnx_bytes(arrays)
        (folder / "external").write_bytes(model + bytes(len(model)))
    elif parser == "pickles":
        legacy = torch_bytes(arrays, legacy=True)
        (folder / "pickle").write_bytes(legacy[legacy.index(b"ccollections") - 2 :])


def fuzz(parser: str, folder: Path, options: list[str]) -> None:
    """Fuzzes one parser until libFuzzer's options say to end; does not return."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        write_seeds(parser, folder)
    # Twice the longest seed: room for two of everything, and no time spent on what is in neither.
    longest = max(path.stat().st_size for path in folder.iterdir())
    limits = [f"-max_len={2 * longest}", f"-rss_limit_mb={RSS_LIMIT_MIB}"]
    limits.append(f"-timeout={TIMEOUT_SECONDS}")
    limits.append(f"-artifact_prefix={folder}.")
    atheris.Setup([sys.argv[0], str(folder), *limits, *options], PARSERS[parser])
    atheris.Fuzz()


def record(parsers: list[str]) -> None:
    """Fuzzes parsers RUNS times, each in a process of its own, and replaces their results."""
    for parser in parsers:
        row = measure(parser)
        print(row, flush=True)
        # Read only now: another process may record other parsers meanwhile.
        rows = read_results() | {parser: row}
        save_rows(OUT, [rows[name] for name in PARSERS if name in rows])


def read_results() -> dict[str, dict[str, object]]:
    """Returns the recorded rows by parser."""
    if not OUT.exists():
        return {}
    with OUT.open(newline="") as file:
        return {row["parser"]: dict(row) for row in csv.DictReader(file)}


def measure(parser: str) -> dict[str, object]:
    """Fuzzes one parser RUNS times and returns what came of it."""
    with tempfile.TemporaryDirectory(prefix="weightvault-fuzz-") as folder:
        # Here, so that the libraries that write them do not count as memory of the parser.
        write_seeds(parser, Path(folder))
        command = [
            sys.executable,
            "-m",
            "weightvault.benchmarks.formats.fuzz_formats",
            parser,
            folder,
        ]
        started = time.monotonic()
        done = subprocess.run(
            [*command, f"-runs={RUNS}", "-print_final_stats=1"], capture_output=True, text=True
        )
        seconds = time.monotonic() - started
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith("stat::")]
    stats = dict(line.removeprefix("stat::").split(":", 1) for line in lines)
    return {
        "parser": parser,
        "inputs": int(stats["number_of_executed_units"]),
        "findings": int(done.returncode != 0),
        "seconds": round(seconds),
        "peak_mib": int(stats["peak_rss_mb"]),
        **describe_machine(),
    }


def main() -> None:
    """Fuzzes one parser, or those named with --record."""
    if "--record" in sys.argv:
        chosen = [name for name in sys.argv[1:] if name != "--record"]
        record(chosen or list(PARSERS))
    elif len(sys.argv) > 2 and sys.argv[1] in PARSERS:
        fuzz(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
    else:
        raise SystemExit(f"{__doc__}\nPARSER is one of {', '.join(PARSERS)}")


if __name__ == "__main__":
    main()
