"""How long requests take whose content another tenant has privately, beside content nobody has.

    python -m weightvault.benchmarks.attacks.timing [--samples N] [RESULT.csv]

A token that is limited to a namespace asks for, sends and commits small models and texts. Every
other one was stored by another tenant before, in private repos. For each kind of request the table
has the median of both in milliseconds, and the chance that one of known content takes longer than
one of unknown (0.5: time tells nothing), with the range that chance alone gives 95 times of 100.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import numpy as np

from ...api.client.http_vault import HttpVault
from ...codecs.pipeline import encode_tensor
from ...dedup.formats.scan import scan_files
from ...dedup.model.files.manifest import Manifest
from ...dedup.model.files.segments import CHUNK_BYTES
from ...dedup.progress import Progress
from ...dedup.repository.pack_writing import add_frame
from ...dedup.transfer.folders.survey import survey
from ...dedup.transfer.push import push
from ...store.packs import PackWriter
from ..support.machine import RESULTS, save_rows
from ..support.servers import running_server, weightvault_command

TENSOR_BYTES = 256 * 1024
TEXT_BYTES = 8 * 1024
SAMPLES = 100

# Seconds of requests by kind; of known content, and of unknown.
Times = dict[str, tuple[list[float], list[float]]]


def main() -> None:
    """Measures and prints, and writes a CSV if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("result", nargs="?", type=Path, default=RESULTS / "attack_timing.csv")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="timing-") as folder:
        rows = list(_rows(_measure(Path(folder), asked.samples)))
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    save_rows(asked.result, rows)


def _measure(root: Path, samples: int) -> Times:
    vault = root / "vault"
    tokens = {name: _make_token(vault, name) for name in ("you", "me")}
    order = [known for known in (True, False) for _ in range(samples)]
    random.Random(1).shuffle(order)
    models = [_write_model(root / "models" / str(n), n) for n in range(len(order))]
    with running_server(vault) as server:
        with closing(HttpVault(server.url, token=tokens["you"])) as theirs:
            for number, (known, model) in enumerate(zip(order, models, strict=True)):
                if known:
                    push(theirs, model, f"you/m{number}")
                    _commit_text(server.url, tokens["you"], f"you/t{number}", number)
        times: Times = defaultdict(lambda: ([], []))
        with closing(HttpVault(server.url, token=tokens["me"])) as mine:
            for number, (known, model) in enumerate(zip(order, models, strict=True)):
                _probe(times, known, mine, model, f"me/m{number}", root)
                with _timed(times, "hub commit of a text", known):
                    _commit_text(server.url, tokens["me"], f"me/t{number}", number)
    return times


def _make_token(vault: Path, name: str) -> str:
    words = ["token", "create", "--name", name, "--role", "write", "--namespace", name]
    command = [*weightvault_command(), "--vault", str(vault), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _write_model(folder: Path, seed: int) -> Path:
    """A file of one tensor, as no other one has it."""
    folder.mkdir(parents=True)
    values = np.random.default_rng(seed).normal(0, 0.05, TENSOR_BYTES // 4).astype(np.float32)
    np.save(folder / "weights.npy", values)
    return folder


def _probe(times: Times, known: bool, vault: HttpVault, model: Path, repo: str, root: Path) -> None:
    """Does what a push does, step by step, and times each."""
    files = survey(model).files
    manifest = scan_files(files, Progress(), CHUNK_BYTES)
    digests = list(manifest.digests())
    with _timed(times, "missing", known):
        vault.find_missing(digests)
    path = root / "pack"
    name = _write_pack(path, manifest, files)
    with _timed(times, "pack", known):
        vault.add_pack(path, name)
    with _timed(times, "commit", known):
        vault.commit(repo, "main", manifest)
    with _timed(times, "missing, once committed", known):
        vault.find_missing(digests)


def _write_pack(path: Path, manifest: Manifest, files: dict[str, Path]) -> str:
    path.unlink(missing_ok=True)
    with PackWriter(path) as writer:
        for entry in manifest.files:
            data = files[entry.path].read_bytes()
            for use in entry.chunks(manifest.chunk_bytes):
                part = data[use.offset : use.offset + use.size]
                add_frame(writer, encode_tensor(part, use.dtype, digest=use.digest))
        return writer.finish()


def _commit_text(url: str, token: str, repo: str, seed: int) -> None:
    """Makes a repo over the hub's API with one text in it."""
    text = random.Random(seed).randbytes(TEXT_BYTES // 2).hex()
    headers = {"Authorization": f"Bearer {token}"}
    namespace, name = repo.split("/")
    made = {"name": name, "organization": namespace, "private": True}
    content = base64.b64encode(text.encode()).decode()
    value = {"path": "notes.md", "content": content, "encoding": "base64"}
    lines = [{"key": "header", "value": {"summary": "notes"}}, {"key": "file", "value": value}]
    body = "\n".join(map(json.dumps, lines))
    kind = {"Content-Type": "application/x-ndjson"}
    address = f"{url}/api/models/{repo}/commit/main"
    httpx.post(f"{url}/api/repos/create", json=made, headers=headers).raise_for_status()
    httpx.post(address, content=body, headers=headers | kind).raise_for_status()


@contextmanager
def _timed(times: Times, kind: str, known: bool) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times[kind][0 if known else 1].append(time.perf_counter() - started)


def _rows(times: Times) -> Iterator[dict[str, object]]:
    for kind, (known, unknown) in times.items():
        chance = _chance_longer(known, unknown)
        yield {
            "request": kind,
            "samples_each": len(known),
            "known_ms": f"{1000 * np.median(known):.2f}",
            "unknown_ms": f"{1000 * np.median(unknown):.2f}",
            "known_takes_longer": f"{chance:.3f}",
            "by_chance_within": f"0.5 +- {_by_chance(len(known), len(unknown)):.3f}",
        }


def _chance_longer(known: list[float], unknown: list[float]) -> float:
    """How often a request of known content takes longer than one of unknown, over all pairs."""
    one, other = np.array(known)[:, None], np.array(unknown)[None, :]
    return float(np.mean((one > other) + 0.5 * (one == other)))


def _by_chance(count: int, others: int) -> float:
    """How far from a half that comes 95 times of 100 if time tells nothing (Mann and Whitney)."""
    return 1.96 * float(np.sqrt((count + others + 1) / (12 * count * others)))


if __name__ == "__main__":
    main()
