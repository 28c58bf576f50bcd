"""Pushes 21 checkpoints of a run that is trained for real, with chains of several lengths.

    python -m weightvault.benchmarks.families.chains [--count N] [--save]

For BF16 and F32 and each length: what is stored as a share of raw as pushed and after `optimise`,
how many frames a chunk of the last checkpoint takes, at most and on average, and how long a pull of
it takes beside one from a vault that has nothing else. --save writes results/chains.csv. Every
checkpoint is compared with what was trained, and each length's vault is scrubbed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from ...dedup.local_vault import LocalVault
from ...dedup.similarity import chain_choice
from ...dedup.transfer import push as pushing
from ...dedup.transfer.pull import pull
from ...dedup.transfer.push import push
from ...dedup.verification.scrub import Scrubber
from ...store.catalogue.edges import inputs_closure
from ..support.machine import RESULTS, save_rows
from ..support.tests_support import load_helper
from ..support.vaults import open_vault
from .checkpoints import Weights, to_bf16, train_checkpoints

LENGTHS = (1, 2, 4, 6, 8)
COUNT, STEPS = 21, 40
_REPEATS = 5
_REPO = "org/run"


def write_checkpoint(folder: Path, weights: Weights, dtype: str) -> int:
    """Writes a checkpoint as the folder's model; returns its bytes."""
    folder.mkdir(exist_ok=True)
    named = {
        name: (dtype, value.shape, (to_bf16(value) if dtype == "BF16" else value).tobytes())
        for name, value in weights.items()
    }
    return (folder / "model.safetensors").write_bytes(
        load_helper("models").safetensors_bytes(named)
    )


@contextmanager
def chains_of(length: int) -> Iterator[None]:
    """Has pushes make chains of at most so many deltas."""
    with (
        mock.patch.object(pushing, "CHAIN_LENGTH", length),
        mock.patch.object(chain_choice, "CHAIN_LENGTH", length),
    ):
        yield


def measure(run: Sequence[Weights], dtype: str, length: int, root: Path) -> dict[str, object]:
    """Returns the row of one dtype and length."""
    vault, raw, commits = _open(root / "vault"), 0, []
    with chains_of(length):
        for weights in run:
            raw += write_checkpoint(root / "model", weights, dtype)
            commits.append(push(vault, root / "model", _REPO).commit.id)
    row: dict[str, object] = {"dtype": dtype, "length": length, "checkpoints": len(run)}
    row["pushed_percent"] = _share(vault, raw)
    most, mean = _count_frames(vault)
    seconds = _time_pull(vault, root)
    alone = _open(root / "alone")
    push(alone, root / "model", _REPO)
    row |= {"most_frames": most, "mean_frames": mean, "pull_seconds": round(seconds, 4)}
    row["times_alone"] = round(seconds / _time_pull(alone, root), 2)
    _optimise(vault)
    row["optimised_percent"] = _share(vault, raw)
    _check(vault, run, commits, dtype, root)
    vault.close()
    alone.close()
    return row


def _open(root: Path) -> LocalVault:
    root.mkdir()
    return open_vault(root)


def _share(vault: LocalVault, raw: int) -> float:
    return round(100 * vault.report().frames / raw, 2)


def _count_frames(vault: LocalVault) -> tuple[int, float]:
    digests = vault.resolve(_REPO).manifest.digests()
    with vault.catalogue.reading() as connection:
        counts = {d: 1 + len(inputs_closure(connection, [d])) for d in digests}
    total = sum(counts[digest] * size for digest, size in digests.items())
    return max(counts.values()), round(total / sum(digests.values()), 2)


def _time_pull(vault: LocalVault, root: Path) -> float:
    """Seconds of the fastest of several pulls of the newest checkpoint."""
    taken = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        pull(vault, _REPO, root / "out")
        taken.append(time.perf_counter() - started)
        shutil.rmtree(root / "out")
    return min(taken)


def _optimise(vault: LocalVault) -> None:
    cursor: int | None = 0
    while cursor is not None:
        cursor = vault.optimise(cursor).cursor


def _check(
    vault: LocalVault, run: Sequence[Weights], commits: Sequence[str], dtype: str, root: Path
) -> None:
    for weights, commit in zip(run, commits, strict=True):
        write_checkpoint(root / "model", weights, dtype)
        pull(vault, _REPO, root / "out", commit)
        expected, found = (root / name / "model.safetensors" for name in ("model", "out"))
        assert expected.read_bytes() == found.read_bytes()
        shutil.rmtree(root / "out")
    assert Scrubber(vault).run().problems == []


def main() -> None:
    """Trains, measures, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    run = list(train_checkpoints(options.count, STEPS))
    rows = []
    for dtype in ("BF16", "F32"):
        for length in LENGTHS:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(run, dtype, length, Path(folder)))
                print(rows[-1], flush=True)
    if options.save:
        save_rows(RESULTS / "chains.csv", rows)


if __name__ == "__main__":
    main()
