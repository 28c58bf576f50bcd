"""What folders of people take to push, beside `restic backup` and `borg create` of the same folder.

    apt-get install restic borgbackup
    python -m weightvault.benchmarks.folders [--scale 1.0] [CASE ...]

For each case, seconds of processor time of a first push and of one when nothing has changed, and
the bytes that are stored, also as `zstd -19` of each file. A tool that is not installed is left
out. Every command is a process of its own, so the time to start it counts.

"formats" pushes the same tensors in each format, and programs, text and noise, alone, to a vault of
its own. "first use" (as root) pushes 87 MB as a user without a home, on a read-only root with a
temporary /tmp, to a vault in that: once where no kernel was ever compiled, and once more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zstandard
from blake3 import blake3

from .support.machine import RESULTS, save_rows
from .support.model_files import (
    flax_bytes,
    ggml_bytes,
    gguf_bytes,
    hdf5_bytes,
    make_arrays,
    npz_bytes,
    onnx_bytes,
    openvino_files,
    paddle_bytes,
    safetensors_of,
    tar_bytes,
    tf_bundle_bytes,
    tfjs_files,
    torch_bytes,
)
from .support.servers import weightvault_command

_OTHERS = ("restic", "borg")


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that stores a folder: how it begins, how it stores, and where."""

    name: str
    begin: list[str]
    store: list[str]
    kept: Path


def make_small_files(root: Path, scale: float) -> None:
    """10,000 JSON files of 100 bytes in 50 folders."""
    rng = np.random.default_rng(1)
    for number in range(int(10_000 * scale)):
        path = root / f"d{number % 50}" / f"f{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"id": number, "text": rng.bytes(33).hex()}))


def make_small_tensors(root: Path, scale: float) -> None:
    """20,000 tensors of some 40 integers in one zip archive."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(20, 60, int(20_000 * scale))
    arrays = {f"t{i}": rng.integers(0, 30_000, size) for i, size in enumerate(sizes)}
    root.mkdir()
    (root / "arrays.npz").write_bytes(npz_bytes(arrays))


def make_hub_cache(root: Path, scale: float) -> None:
    """A cache of huggingface_hub with three revisions that share all weights but one file."""
    rng = np.random.default_rng(3)
    (root / "blobs").mkdir(parents=True)
    shared = rng.normal(0, 0.02, int(8e6 * scale)).astype("<f4").tobytes()
    for number in range(3):
        snapshot = root / "snapshots" / f"{number:040x}"
        snapshot.mkdir(parents=True)
        files = {"a.bin": shared, "b.bin": rng.bytes(int(1e6 * scale)), "config.json": b"{}"}
        for name, data in files.items():
            blob = root / "blobs" / blake3(data).hexdigest()
            blob.write_bytes(data)
            (snapshot / name).symlink_to(f"../../blobs/{blob.name}")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(f"{2:040x}")


def make_large_files(root: Path, scale: float) -> None:
    """1 GB of weights in eight files."""
    rng = np.random.default_rng(4)
    root.mkdir()
    for number in range(8):
        values = rng.normal(0, 0.02, int(32e6 * scale)).astype("<f4")
        np.save(root / f"shard-{number}.npy", values)


def make_formats() -> dict[str, dict[str, bytes]]:
    """Files by their names, for each format; 8 MiB of tensors, or as much of something else."""
    arrays = make_arrays(side=512)
    index, data = tf_bundle_bytes(arrays)
    program = max(Path(np.__file__).parent.rglob("*.so"), key=lambda path: path.stat().st_size)
    library = sorted(Path(os.__file__).parent.glob("*.py"))
    return {
        "safetensors": {"m.safetensors": safetensors_of(arrays)},
        "torch": {"m.pt": torch_bytes(arrays)},
        "torch legacy": {"m.pth": torch_bytes(arrays, legacy=True)},
        "npz": {"m.npz": npz_bytes(arrays)},
        "tar of npy": {"m.tar": tar_bytes(arrays)},
        "onnx": {"m.onnx": onnx_bytes(arrays)},
        "gguf": {"m.gguf": gguf_bytes(arrays)},
        "hdf5": {"m.h5": hdf5_bytes(arrays, others=False)},
        "hdf5 latest": {"m.h5": hdf5_bytes(arrays, "latest", others=False)},
        "paddle": {"m.pdiparams": paddle_bytes(arrays)},
        "flax": {"m.msgpack": flax_bytes(arrays)},
        "tensorflow": {"m.index": index, "m.data-00000-of-00001": data},
        "ggml": {"ggml-base.bin": ggml_bytes(arrays)},
        "tensorflow.js": tfjs_files(arrays),
        "openvino": openvino_files(arrays),
        "program": {"library.so": program.read_bytes()},
        "text": {"library.txt": b"".join(path.read_bytes() for path in library)},
        "noise": {"noise.dat": np.random.default_rng(5).bytes(8 << 20)},
    }


CASES: dict[str, Callable[[Path, float], None]] = {
    "small files": make_small_files,
    "small tensors": make_small_tensors,
    "hub cache": make_hub_cache,
    "large files": make_large_files,
}


def list_tools(root: Path, folder: Path) -> Iterator[Tool]:
    """Yields weightvault and what else is installed, each with a store below `root`."""
    vault, command = root / "vault", weightvault_command()
    push = [*command, "--vault", str(vault), "push", str(folder), "bench/folder"]
    yield Tool("weightvault", [], push, vault)
    restic, borg = root / "restic", root / "borg"
    repo = ["restic", "--quiet", "--repo", str(restic)]
    yield Tool("restic", [*repo, "init"], [*repo, "backup", str(folder)], restic)
    create = ["borg", "create", "--compression", "zstd", f"{borg}::{{now:%f}}", str(folder)]
    yield Tool("borg", ["borg", "init", "-e", "none", str(borg)], create, borg)


def run(command: list[str], root: Path) -> float:
    """Runs a command; returns its seconds of processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = {
        "RESTIC_PASSWORD": "bench",
        "BORG_BASE_DIR": str(root),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "XDG_CACHE_HOME": str(root / "cache"),
    }
    environment = os.environ | own
    # An installed program is compiled once.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def count_bytes(folder: Path) -> int:
    """Returns the bytes of all files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def compress_files(folder: Path) -> int:
    """Returns what `zstd -19` makes of each file, all together."""
    coder = zstandard.ZstdCompressor(level=19)
    files = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return sum(len(coder.compress(path.read_bytes())) for path in files)


def measure(case: str, scale: float) -> Iterator[dict[str, object]]:
    """Yields a row for each tool."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = root / "folder"
        CASES[case](folder, scale)
        # What has just changed is not taken for unchanged.
        time.sleep(3)
        raw = count_bytes(folder)
        zstd = compress_files(folder) if raw < 1 << 28 else None
        for tool in list_tools(root, folder):
            if tool.name in _OTHERS and shutil.which(tool.name) is None:
                continue
            if tool.begin:
                run(tool.begin, root)
            row: dict[str, object] = {"case": case, "scale": scale, "tool": tool.name}
            row["raw_bytes"] = raw
            row["first_cpu_seconds"] = round(run(tool.store, root), 2)
            row["stored_bytes"] = count_bytes(tool.kept)
            objects = tool.kept / "objects"
            row["object_bytes"] = count_bytes(objects) if objects.exists() else None
            row["unchanged_cpu_seconds"] = round(run(tool.store, root), 2)
            yield row | {"zstd19_bytes": zstd}


def measure_formats() -> Iterator[dict[str, object]]:
    """Yields a row for each format."""
    with tempfile.TemporaryDirectory() as name:
        for number, (form, files) in enumerate(make_formats().items()):
            root = Path(name, str(number))
            folder = root / "folder"
            folder.mkdir(parents=True)
            for path, data in files.items():
                (folder / path).write_bytes(data)
            tool = next(iter(list_tools(root, folder)))
            seconds = run(tool.store, root)
            objects = count_bytes(tool.kept / "objects")
            row: dict[str, object] = {"case": f"format: {form}", "scale": 1.0, "tool": tool.name}
            row |= {"raw_bytes": count_bytes(folder), "first_cpu_seconds": round(seconds, 2)}
            yield row | {"object_bytes": objects, "zstd19_bytes": compress_files(folder)}


# Runs where nothing can be written but /tmp: prints the seconds of processor time of two pushes.
_INSIDE = """
import json, resource, subprocess, sys
import numpy as np
from pathlib import Path
times = []
for seed in (1, 2):
    folder = Path(f"/tmp/model-{seed}")
    folder.mkdir()
    values = np.random.default_rng(seed).normal(0, 0.02, 21_750_000).astype("<f4")
    np.save(folder / "weights.npy", values)
    push = ["--vault", "/tmp/vault", "push", str(folder), f"bench/{seed}"]
    subprocess.run([sys.executable, *sys.argv[1:], *push], check=True, capture_output=True)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    times.append(spent.ru_utime + spent.ru_stime - sum(times))
print(json.dumps(times))
"""
# Reads what others may not, as Python itself may lie in a private folder; writes nothing of theirs.
_CONTAINER = """
set -e
mount --make-rprivate / && mount -o remount,bind,ro / && mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir /tmp/site && cp -r "$1" /tmp/site/weightvault
find /tmp/site -name '*.nb?' -delete
exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=+dac_read_search \\
    --ambient-caps=+dac_read_search env -i PATH="$PATH" PYTHONPATH=/tmp/site \\
    PYTHONDONTWRITEBYTECODE=1 "$2" -c "$3" "$4" "$5"
"""


def measure_first_use() -> Iterator[dict[str, object]]:
    """Yields a row of a first push in a container, and a row of a second."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        package = Path(name, "weightvault")
        source = Path(__file__).parents[1]
        for part in ("__init__.py", "api", "codecs", "dedup", "store"):
            copy = shutil.copytree if (source / part).is_dir() else shutil.copy2
            package.mkdir(exist_ok=True)
            copy(source / part, package / part)
        python, *start = weightvault_command()
        command = ["unshare", "-m", "sh", "-c", _CONTAINER, "sh", str(package), python, _INSIDE]
        done = subprocess.run([*command, *start], check=True, capture_output=True, text=True)
    for state, seconds in zip(("cold", "warm"), json.loads(done.stdout), strict=True):
        row: dict[str, object] = {"case": f"first use: {state}", "scale": 1.0}
        yield row | {"tool": "weightvault", "first_cpu_seconds": round(seconds, 2)}


_OTHER_CASES = {"formats": measure_formats, "first use": measure_first_use}


def main() -> None:
    """Measures the cases that are named, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, *_OTHER_CASES, []], metavar="CASE")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the sizes above")
    options = parser.parse_args()
    rows = []
    for case in options.cases or [*CASES, *_OTHER_CASES]:
        measured = _OTHER_CASES[case]() if case in _OTHER_CASES else measure(case, options.scale)
        for row in measured:
            print(*(f"{key} {value}" for key, value in row.items()), sep=", ", flush=True)
            rows.append(row)
    save_rows(RESULTS / "folders.csv", rows)


if __name__ == "__main__":
    main()
