"""Kernels are prepared before somebody waits for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from vaults import open_local

from weightvault.codecs import pipeline
from weightvault.dedup.progress import Progress
from weightvault.dedup.reading import warmup
from weightvault.dedup.transfer.push import push


class Stages(Progress):
    """Notes the tasks that begin."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def begin(self, task: str, total: int | None, unit: str | None = None) -> None:
        self.begun.append(task)


def test_every_dtype_has_samples_that_come_back():
    for name in warmup.EVERY:
        for raw, base in warmup.samples(name):
            assert len(raw) == len(base)
            assert raw != base
            frame = pipeline.encode_tensor(raw, name, base=base)
            assert bytes(pipeline.decode_tensor(frame, base=base)) == raw


def test_preparing_is_a_stage_of_its_own_and_comes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(warmup, "_prepared", set())
    values = np.random.default_rng(1).normal(0, 1, 3 << 20).astype("<f4")
    np.save(tmp_path / "large.npy", values)
    (tmp_path / "small").write_text("s")
    vault = open_local(tmp_path / "vault")
    begun = []
    for name in ("small", "large.npy"):
        stages = Stages()
        push(vault, tmp_path / name, "o/r", progress=stages)
        begun.append(stages.begun)
    vault.close()
    assert "preparing kernels (once)" not in begun[0]
    at = begun[1].index("preparing kernels (once)")
    assert begun[1].index("hashing") < at < begun[1].index("storing")
    stages = Stages()
    warmup.prepare_kernels(("F32",), stages, deltas=False)
    assert stages.begun == []
