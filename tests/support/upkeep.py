"""Collections in tests: a clock to set forward, and what is there afterwards."""

from __future__ import annotations

import time
from pathlib import Path

from models import make_weights, read_folder, write_model

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collected, Collector
from weightvault.dedup.transfer.pull import pull

GRACE = 1000.0


class Clock:
    """A clock that is set forward by hand."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def gc(vault: LocalVault, grace: float = 0.0, **options) -> Collected:
    """Collects, without grace unless told otherwise."""
    return Collector(vault, grace_seconds=grace, **options).run()


def model(folder: Path, seed: int) -> Path:
    """Writes a model of random weights."""
    return write_model(folder / str(seed), make_weights(seed))


def keys(vault: LocalVault) -> set[str]:
    """Returns the keys of all objects."""
    return {info.key for info in vault.backend.list()}


def assert_pulls(vault: LocalVault, repo: str, source: Path, out: Path) -> None:
    """Checks that a repo comes back byte for byte and nothing is amiss."""
    pull(vault, repo, out)
    assert read_folder(out) == read_folder(source)
    assert vault.check().problems == ()
