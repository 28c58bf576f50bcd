"""What stateful tests of vaults have in common."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, rule
from models import make_weights, tune, write_model
from vaults import open_local


class ModelMachine(RuleBasedStateMachine):
    """A vault in a folder of its own, and models to push: four tunes of each base, of `shapes`."""

    shapes: dict[str, tuple[int, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="stateful-"))
        self.vault = open_local(self.root / "vault")

    def teardown(self) -> None:
        self.vault.close()
        shutil.rmtree(self.root)

    def source(self, seed: int, tensors: int | None = None) -> Path:
        """Writes the model of a seed, or the first `tensors` of it; every fourth is a base."""
        folder = self.root / "sources" / f"{seed}-{tensors}"
        weights = make_weights(seed // 4, self.shapes)
        if seed % 4:
            weights = {**weights, "w": tune(weights, seed)["w"]}
        weights = dict(list(weights.items())[:tensors])
        return folder if folder.exists() else write_model(folder, weights, card=f"# {seed}\n" * 40)

    @rule()
    def optimise(self) -> None:
        """Plans all families anew."""
        cursor: int | None = 0
        while cursor is not None:
            cursor = self.vault.optimise(cursor).cursor


def brief(examples: int) -> settings:
    """Returns how a machine runs with every test run."""
    return settings(
        max_examples=examples,
        stateful_step_count=12,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def at_length(examples: int) -> settings:
    """Returns how a machine runs in tests that are marked slow."""
    return settings(brief(examples), stateful_step_count=30)
