"""Times the pages of a server on one machine: how long it takes to answer, by what kind of page.

    python -m weightvault.benchmarks.serving.web [--repos 1000 10000] [--save]

A made-up vault of so many repos (large_vaults.py), half of them one family, and one real model of
10,000 small tensors pushed into it. The first answer of a page and the median and slowest of 20
more, in milliseconds of wall time over loopback; the server's processor time for the first answer
and for the others, which says more on a machine that does other things, too; and its memory.
--save writes results/web.csv.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from safetensors.numpy import save_file

from ...dedup.transfer.push import push
from ..support.large_vaults import Shape, make_vault
from ..support.machine import RESULTS, save_rows
from ..support.servers import running_server
from ..support.vaults import open_vault

OUT = RESULTS / "web.csv"
_ROUNDS = 20
_MODEL = "org/many-tensors"
_MODEL_TENSORS = 10_000
_TIMEOUT_SECONDS = 120


def main() -> None:
    """Runs the benchmark, and records it if told to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repos", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--save", action="store_true", help="write results/web.csv")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for count in arguments.repos:
        with tempfile.TemporaryDirectory(prefix="weightvault-web-") as temporary:
            rows.extend(measure(Path(temporary), count))
    if arguments.save:
        save_rows(OUT, rows)


def measure(root: Path, count: int) -> Iterator[dict[str, Any]]:
    """Yields a row for each kind of page of a vault with `count` repos."""
    folder = root / "vault"
    folder.mkdir()
    shape = Shape(count, tensors=300, shared=240, first_family=count // 2)
    make_vault(f"sqlite:///{folder / 'catalogue.sqlite'}", folder / "objects", shape)
    _push_model(folder, root)
    with running_server(folder) as server:
        process = psutil.Process(server.process.pid)
        with httpx.Client(base_url=server.url, timeout=_TIMEOUT_SECONDS) as client:
            for page, address in _pages(shape):
                row = {"repos": count, "page": page, **_time(client, address, process)}
                # Wall times say nothing where others keep the cores busy.
                row["load"] = round(os.getloadavg()[0], 1)
                row["memory_mb"] = round(process.memory_info().rss / 1e6)
                print(row, flush=True)
                yield row


def _pages(shape: Shape) -> Iterator[tuple[str, str]]:
    count = shape.repos
    middle = shape.name_of(count // 2)
    yield "front", "/"
    yield "front, deep", f"/?order=updated&after={count // 3}"
    yield "by name, deep", f"/?order=name&after={middle}"
    yield "search", f"/?q={count // 7:05d}"
    yield "search in vain", "/?q=no-such-model"
    yield "card", f"/{_MODEL}"
    yield "files", f"/{_MODEL}/tree/main"
    yield "tensors", f"/{_MODEL}/tensors/main"
    yield "tensors, last page", f"/{_MODEL}/tensors/main?page=100"
    yield "family of 100", f"/{shape.name_of(count - 5)}/family"
    yield f"family of {count // 2}", f"/{shape.name_of(7)}/family"
    yield "storage", "/-/storage"


def _time(client: httpx.Client, address: str, process: psutil.Process) -> dict[str, float]:
    times: list[float] = []
    worked = [_worked_ms(process)]
    kilobytes = 0.0
    for _ in range(_ROUNDS + 1):
        started = time.perf_counter()
        response = client.get(address)
        times.append(1000 * (time.perf_counter() - started))
        worked.append(_worked_ms(process))
        if response.status_code != 200:
            raise RuntimeError(f"{address} answers {response.status_code}")
        kilobytes = len(response.content) / 1000
    first, *others = times
    return {
        "first_cpu_ms": round(worked[1] - worked[0]),
        "cpu_ms": round((worked[-1] - worked[1]) / _ROUNDS, 1),
        "first_ms": round(first, 1),
        "median_ms": round(statistics.median(others), 1),
        "slowest_ms": round(max(others), 1),
        "kilobytes": round(kilobytes, 1),
    }


def _worked_ms(process: psutil.Process) -> float:
    times = process.cpu_times()
    return 1000 * (times.user + times.system)


def _push_model(folder: Path, root: Path) -> None:
    model = root / "model"
    model.mkdir()
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.02, (_MODEL_TENSORS, 64)).astype(np.float32)
    tensors = {f"blocks.{i:05d}.norm.weight": row for i, row in enumerate(values)}
    save_file(tensors, model / "model.safetensors")
    (model / "README.md").write_text(
        "---\nlicense: mit\n---\n# Many tensors\n\n" + "A line.\n\n" * 50
    )
    vault = open_vault(folder)
    push(vault, model, _MODEL)
    vault.close()


if __name__ == "__main__":
    main()
