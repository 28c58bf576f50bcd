"""Measures what clients of hubs get: downloads beside a plain static file server, uploads, memory.

    python -m weightvault.benchmarks.serving.hub [--gib 1] [--rounds 5] [--at-once 8] [--save]

A BF16 model of synthetic, normally distributed weights, and a fine-tune of it. Both are uploaded as
the clients do it (git-lfs PUT, then commit), downloaded as they were stored first (raw), and again
after they were coded: the model alone, the fine-tune as deltas. Each download is followed by one of
the same bytes from Starlette's StaticFiles under the same uvicorn, by the same curl; rates are
medians, the share that of the medians. A range of 1 MiB in the middle is asked for too, of which
`first_byte_s` is the time of its first byte, as of whole downloads. Uploads are measured beside
writing the same bytes to a file on the same disk, with fsync. Needs six times the model's size of
disk. Result: a CSV in benchmarks/results, which keeps its rows of models of other sizes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from ..support.machine import RESULTS, save_rows
from ..support.servers import Server, running_server
from ..support.weights import disturb_bf16
from .large_file import hash_file, read_peak, reset_peak, write_large_file

OUT = RESULTS / "hub.csv"
_PIECE_BYTES = 1 << 24
_RANGE_BYTES = 1 << 20
_STATIC = """
import socket, sys, uvicorn
from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles
app = Starlette()
app.mount("/", StaticFiles(directory=sys.argv[1]))
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
"""


def main() -> None:
    """Runs the benchmark and writes its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=1.0, help="size of the model")
    parser.add_argument("--rounds", type=int, default=5, help="downloads of each kind")
    parser.add_argument("--at-once", type=int, default=8, help="downloads of one; 0: none")
    parser.add_argument("--save", action="store_true", help="write the CSV")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weightvault-hub-") as temporary:
        size = int(asked.gib * 2**30)
        rows = list(measure(Path(temporary), size, asked.rounds, asked.at_once))
    if asked.save:
        save(asked.gib, [{"gib": asked.gib, **row} for row in rows])


def save(gib: float, rows: list[dict[str, object]]) -> None:
    """Writes the rows in place of those of models of the same size."""
    kept: list[dict[str, object]] = []
    if OUT.exists():
        with OUT.open(newline="") as file:
            kept = [{**row} for row in csv.DictReader(file) if float(row["gib"]) != gib]
    save_rows(OUT, sorted([*kept, *rows], key=lambda row: float(str(row["gib"]))))


def measure(root: Path, size: int, rounds: int, at_once: int) -> Iterator[dict[str, object]]:
    """Yields a row for each thing measured; rates in MB/s."""
    files = root / "files"
    files.mkdir()
    write_large_file(files / "model", size)
    write_tune(files / "model", files / "tune")
    with running_server(root / "vault") as server, static_server(files) as static:
        for name in ("model", "tune"):
            yield show(measure_upload(server, files / name))
        for name in ("model", "tune"):
            yield show(measure_download(server, static, files / name, "raw", rounds))
        wait_until_coded(root / "vault")
        for name in ("model", "tune"):
            # First, so that nothing of it is at hand.
            yield show(measure_range(server, static, files / name))
            yield show(measure_download(server, static, files / name, "coded", rounds))
        if at_once:
            yield show(measure_many(server, files / "tune", at_once))


def write_tune(base: Path, target: Path) -> None:
    """Writes the model after a small update of all its weights."""
    with base.open("rb") as source, target.open("wb") as file:
        length = source.read(8)
        file.write(length + source.read(int.from_bytes(length, "little")))
        for seed in range(1 << 20):
            words = np.frombuffer(source.read(_PIECE_BYTES), np.uint16)
            if not words.size:
                return
            file.write(disturb_bf16(words, seed).tobytes())


def measure_upload(server: Server, path: Path) -> dict[str, object]:
    """Uploads a file into a repo of its own."""
    size, oid = path.stat().st_size, hash_file(path)
    disk = size / write_again(path) / 1e6
    with httpx.Client(base_url=server.url, timeout=None, trust_env=False) as web:
        web.post("/api/repos/create", json={"name": path.name, "organization": "bench"})
        reset_peak(server.process.pid)
        started = time.monotonic()
        batch = {"operation": "upload", "objects": [{"oid": oid, "size": size}]}
        answer = web.post(f"/bench/{path.name}.git/info/lfs/objects/batch", json=batch).json()
        href = answer["objects"][0]["actions"]["upload"]["href"]
        # A process of its own, as clients are.
        subprocess.run(["curl", "-sfT", str(path), href], check=True)
        value = {"path": "model.safetensors", "algo": "sha256", "oid": oid, "size": size}
        lines = [
            {"key": "header", "value": {"summary": "upload"}},
            {"key": "lfsFile", "value": value},
        ]
        url = f"/api/models/bench/{path.name}/commit/main"
        web.post(url, content="\n".join(map(json.dumps, lines))).raise_for_status()
        seconds = time.monotonic() - started
    rate = size / seconds / 1e6
    return row("upload", path.name, rate, disk, read_peak(server.process.pid))


def measure_download(
    server: Server, static: str, path: Path, state: str, rounds: int
) -> dict[str, object]:
    """Downloads a file from both, in turns."""
    reset_peak(server.process.pid)
    ours, theirs, first = [], [], []
    url = f"{server.url}/bench/{path.name}/resolve/main/model.safetensors"
    # Both files are in the page cache then, as far as that is large enough.
    check_download(url, path)
    download(f"{static}/{path.name}")
    for _ in range(rounds):
        seconds, begun = download(url)
        ours.append(path.stat().st_size / seconds / 1e6)
        first.append(begun)
        theirs.append(path.stat().st_size / download(f"{static}/{path.name}")[0] / 1e6)
    rates = statistics.median(ours), statistics.median(theirs)
    peak = read_peak(server.process.pid)
    return row(f"download {state}", path.name, *rates, peak, statistics.median(first))


def measure_range(server: Server, static: str, path: Path) -> dict[str, object]:
    """Asks for a range in the middle of a file."""
    reset_peak(server.process.pid)
    url = f"{server.url}/bench/{path.name}/resolve/main/model.safetensors"
    first = path.stat().st_size // 2 + 12_345
    asked = f"{first}-{first + _RANGE_BYTES - 1}"
    with path.open("rb") as file:
        file.seek(first)
        expected = file.read(_RANGE_BYTES)
    headers = {"Range": f"bytes={asked}"}
    seconds, begun = download(url, "-r", asked)
    beside, _ = download(f"{static}/{path.name}", "-r", asked)
    if httpx.get(url, headers=headers, timeout=None, trust_env=False).content != expected:
        raise SystemExit(f"{url} gave other bytes in {asked}")
    rates = _RANGE_BYTES / seconds / 1e6, _RANGE_BYTES / beside / 1e6
    return row("range coded", path.name, *rates, read_peak(server.process.pid), begun)


def measure_many(server: Server, path: Path, at_once: int) -> dict[str, object]:
    """Downloads a file several times at once."""
    reset_peak(server.process.pid)
    url = f"{server.url}/bench/{path.name}/resolve/main/model.safetensors"
    started = time.monotonic()
    clients = [subprocess.Popen(["curl", "-sfo", os.devnull, url]) for _ in range(at_once)]
    if any(client.wait() for client in clients):
        raise SystemExit("a download failed")
    rate = at_once * path.stat().st_size / (time.monotonic() - started) / 1e6
    what = f"download coded, {at_once} at once"
    return row(what, path.name, rate, 0.0, read_peak(server.process.pid))


def row(what: str, file: str, rate: float, beside: float, peak: int, first: float = 0.0):
    """Returns a row: rates in MB/s, ours and that of what it is measured beside."""
    return {
        "what": what,
        "file": file,
        "mb_per_s": round(rate),
        "beside_mb_per_s": round(beside),
        "share": round(rate / beside, 2) if beside else "",
        "first_byte_s": round(first, 3) if first else "",
        "server_peak_mib": round(peak / 2**20),
    }


def show(found: dict[str, object]) -> dict[str, object]:
    """Prints a row and returns it."""
    print(found, flush=True)
    return found


def download(url: str, *options: str) -> tuple[float, float]:
    """Downloads and drops a body; returns the seconds that it and its first byte took."""
    told = "%{time_total} %{time_starttransfer}"
    command = ["curl", "-sfo", os.devnull, "-w", told, *options, url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    total, first = map(float, done.stdout.split())
    return total, first


def check_download(url: str, path: Path) -> None:
    """Ends the benchmark unless the bytes are right."""
    hasher = hashlib.sha256()
    with httpx.stream("GET", url, timeout=None, trust_env=False) as answer:
        for piece in answer.iter_raw(_PIECE_BYTES):
            hasher.update(piece)
    if hasher.hexdigest() != hash_file(path):
        raise SystemExit(f"{url} gave other bytes")


def write_again(path: Path) -> float:
    """Returns the seconds that writing the bytes of a file to another one takes, with fsync."""
    copy = path.with_suffix(".copy")
    started = time.monotonic()
    with path.open("rb") as source, copy.open("wb") as file:
        while data := source.read(_PIECE_BYTES):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    copy.unlink()
    return time.monotonic() - started


def wait_until_coded(vault: Path) -> None:
    """Waits until the server has coded all uploads."""
    from ...store.catalogue.catalogue import open_catalogue
    from ...store.catalogue.queues.encode_queue import count_uncoded

    catalogue = open_catalogue(f"sqlite:///{vault / 'catalogue.sqlite'}")
    while count_uncoded(catalogue):
        time.sleep(1)
    catalogue.close()


@contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """Serves a folder as plain files; gives the URL."""
    command = [sys.executable, "-c", _STATIC, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


if __name__ == "__main__":
    main()
