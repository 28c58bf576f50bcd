"""Pushes and pulls one large synthetic file over HTTP and records both sides' peak memory.

    python -m weightvault.benchmarks.serving.large_file [--gib 4]

The file holds one tensor of half its size and many of 64 MiB, normally distributed BF16 weights.
Result: a CSV in benchmarks/results. Needs about three times the file's size of disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from ..support.machine import RESULTS, save_rows
from ..support.servers import Server, running_server, weightvault_command
from ..support.weights import round_to_bf16

OUT = RESULTS / "large_file.csv"
_PART_BYTES = 64 * 2**20


def main() -> None:
    """Runs the benchmark and appends its figures to the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=4.0, help="size of the file")
    size = int(parser.parse_args().gib * 2**30)
    with tempfile.TemporaryDirectory(prefix="weightvault-large-") as temporary:
        root = Path(temporary)
        (root / "in").mkdir()
        write_large_file(root / "in" / "model.safetensors", size)
        with running_server(root / "vault") as server:
            rows = [
                measure(server, "push", root / "in", "bench/large"),
                measure(server, "pull", "bench/large", root / "out"),
            ]
        same = hash_file(root / "in/model.safetensors") == hash_file(root / "out/model.safetensors")
    if not same:
        raise SystemExit("the file came back with other bytes")
    record([{"gib": size / 2**30, "identical": same, **row} for row in rows])


def write_large_file(path: Path, size: int) -> None:
    """Writes a BF16 safetensors file of about `size` bytes of normally distributed weights."""
    parts = size // _PART_BYTES
    lengths = [parts // 2 * _PART_BYTES] + [_PART_BYTES] * (parts - parts // 2)
    header, offset = {}, 0
    for i, length in enumerate(lengths):
        span = [offset, offset + length]
        header[f"t{i}"] = {"dtype": "BF16", "shape": [length // 2], "data_offsets": span}
        offset += length
    text = json.dumps(header).encode()
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in range(offset // _PART_BYTES):
            values = rng.standard_normal(_PART_BYTES // 2, np.float32) * np.float32(0.02)
            file.write(round_to_bf16(values).tobytes())


def measure(server: Server, verb: str, *arguments: object) -> dict[str, object]:
    """Runs one verb; returns seconds and the peak resident memory of both sides in MiB."""
    reset_peak(server.process.pid)
    command = [*weightvault_command(), "--json", "--vault", server.url, verb, *map(str, arguments)]
    started = time.monotonic()
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as client:
        client_peak = watch_peak(client)
    if client.returncode:
        raise SystemExit(f"{verb} ended with {client.returncode}; run it by hand to see why")
    return {
        "verb": verb,
        "seconds": round(time.monotonic() - started, 1),
        "client_peak_mib": round(client_peak / 2**20),
        "server_peak_mib": round(read_peak(server.process.pid) / 2**20),
    }


def watch_peak(process: subprocess.Popen[bytes]) -> int:
    """Returns the peak resident memory, in bytes, of a process once it has ended."""
    peak = 0
    while process.poll() is None:
        try:
            peak = max(peak, read_peak(process.pid))
        except (OSError, StopIteration):
            # It ended between the two questions: its memory is gone from the table.
            continue
        time.sleep(0.02)
    return peak


def reset_peak(pid: int) -> None:
    """Makes the kernel forget a process's peak of resident memory."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def read_peak(pid: int) -> int:
    """Returns the peak resident memory of a process in bytes since the last reset."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record(rows: list[dict[str, object]]) -> None:
    """Writes the rows with the machine they were measured on, and prints them."""
    save_rows(OUT, rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
