"""Measures what uploads of the stock client take: through Xet, first and again, beside git-lfs.

    python -m weightvault.benchmarks.serving.xet_uploads [--mb 400] [--save]

Runs huggingface_hub 2.4 (`make .venv-hf-2/ready`) with random bytes, the worst case: nothing to
find, nothing to code. The same bytes go up by git-lfs, which the same client takes when it is told
not to use Xet, into another server. `server_cpu_s` is the time of all of the server's threads until
the client was done; what it codes behind the back of uploads is part of it. Result: a CSV in
benchmarks/results.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..support.machine import RESULTS, save_rows
from ..support.servers import Server, running_server
from .large_file import read_peak, reset_peak

OUT = RESULTS / "xet_uploads.csv"
CLIENT = Path(__file__).parents[2] / ".venv-hf-2" / "bin" / "python"
_CODE = """
import sys
from huggingface_hub import HfApi
repo, path = sys.argv[1:]
HfApi().create_repo(repo, exist_ok=True)
HfApi().upload_file(path_or_fileobj=path, path_in_repo="model.bin", repo_id=repo)
"""
_NO_XET = {"HF_HUB_DISABLE_XET": "1"}
_EDITS = 10


def main() -> None:
    """Runs the benchmark and writes its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mb", type=int, default=400, help="size of the file, 10^6 bytes")
    parser.add_argument("--save", action="store_true", help="write the CSV")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weightvault-xet-") as temporary:
        rows = list(measure(Path(temporary), asked.mb * 1_000_000))
    if asked.save:
        save_rows(OUT, [{"mb": asked.mb, **row} for row in rows])


def measure(root: Path, size: int) -> Iterator[dict[str, object]]:
    """Yields a row for each upload."""
    data = bytearray(np.random.default_rng(1).bytes(size))
    whole, edited = root / "whole", root / "edited"
    whole.write_bytes(data)
    for i in range(_EDITS):
        data[i * size // _EDITS + 1000] ^= 1
    edited.write_bytes(data)
    with running_server(root / "lfs-vault") as server:
        upload(server, root / "warm-up", "me/first", Path(__file__))
        yield upload(server, root / "lfs", "me/model", whole, "git-lfs, first", _NO_XET)
    with running_server(root / "xet-vault") as server:
        upload(server, root / "warm-up", "me/first", Path(__file__))
        yield upload(server, root / "a", "me/model", whole, "Xet, first")
        yield upload(server, root / "a", "me/again", whole, "Xet, again into another repo")
        yield upload(server, root / "a", "me/model", edited, "Xet, edited in ten places")
        yield upload(server, root / "b", "me/other", edited, "Xet, the same from a new machine")


def upload(
    server: Server,
    home: Path,
    repo: str,
    path: Path,
    what: str = "",
    extra: dict[str, str] | None = None,
) -> dict[str, object]:
    """Uploads a file by the stock client with its caches in `home`; prints and returns a row."""
    env = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": server.url, "HF_TOKEN": "any"}
    reset_peak(server.process.pid)
    cpu = cpu_seconds(server)
    started = time.monotonic()
    command = [str(CLIENT), "-c", _CODE, repo, str(path)]
    subprocess.run(command, env={**env, **(extra or {})}, check=True, capture_output=True)
    seconds = time.monotonic() - started
    size = path.stat().st_size
    row = {
        "upload": what,
        "seconds": round(seconds, 1),
        "mb_per_s": round(size / seconds / 1e6),
        "server_cpu_s": round(cpu_seconds(server) - cpu, 1),
        "server_peak_mib": round(read_peak(server.process.pid) / 2**20),
    }
    if what:
        print(row, flush=True)
    return row


def cpu_seconds(server: Server) -> float:
    """Returns the processor time that a server has taken."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
