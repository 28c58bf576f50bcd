"""A server with two tenants, and what both draw from."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from models import bf16_file, make_weights, tune
from tenants import Tenant, make_tenant
from vaults import open_local

from weightvault.api.requests.settings import ServerSettings
from weightvault.api.server.app import create_app
from weightvault.api.web import front
from weightvault.dedup.local_vault import LocalVault

SHAPES = {"embed.weight": (48, 64), "layer.weight": (64, 64), "layer.bias": (64,)}
# Files of the store have real times, which a collection compares with this one.
START = float(int(time.time()))
STEP_SECONDS = 100.0
BASE = make_weights(1, SHAPES)
CARD = "---\nlicense: mit\nbase_model: {base}\n---\n# A model\n\n{text}\n"
TEXT = "The number is 7391, and the rest of it is known. " * 12


def card(base: str, text: str = TEXT) -> bytes:
    """A model card that names a base."""
    return CARD.format(base=base, text=text).encode()


# What both tenants draw from: the same bytes, near relatives, texts with small edits.
MODELS = [
    BASE,
    tune(BASE, 2),
    tune(BASE, 3),
    BASE | {"layer.bias": make_weights(4, SHAPES)["layer.bias"]},
]
WEIGHTS = [bf16_file(model) for model in MODELS]
TEXTS = [card("alpha/model"), card("beta/model"), card("pub/base"), card("alpha/model", TEXT[1:])]
BLOBS = [random.Random(5).randbytes(30_000), random.Random(6).randbytes(30_000)]


class Clock:
    """The time of day: it goes on with the first tenant's steps alone."""

    now = START

    def __call__(self) -> float:
        return self.now


@contextmanager
def frozen(clock: Clock) -> Iterator[None]:
    """Within, that is the time, and pages of the list are short."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "time", clock)
        # So that lists have several pages.
        patched.setattr(front, "PAGE", 2)
        yield


@dataclass
class World:
    """A server with two tenants, somebody without a token, and its operator."""

    root: Path
    vault: LocalVault
    app: FastAPI
    alpha: Tenant
    beta: Tenant
    nobody: Tenant
    kept: dict[str, Any] = field(default_factory=dict)

    def folder(self, name: str, files: dict[str, bytes]) -> Path:
        """A folder of files."""
        path = self.root / name
        path.mkdir(exist_ok=True)
        for old in path.iterdir():
            old.unlink()
        for file, data in files.items():
            (path / file).write_bytes(data)
        return path


@contextmanager
def open_world() -> Iterator[World]:
    """A server where a public base is and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        vault = open_local(root / "served")
        app = create_app(vault, ServerSettings(anonymous_reads="public"))
        beta, alpha = make_tenant(app, "beta"), make_tenant(app, "alpha")
        pub, nobody = make_tenant(app, "pub"), Tenant(app, None, None)
        for tenant in (beta, nobody):
            tenant.web.headers["X-Request-Id"] = "fixed"
        world = World(root, vault, app, alpha, beta, nobody)
        base = {"model.safetensors": WEIGHTS[0], "README.md": card("none/none")}
        pub.push(world.folder("pub", base), "pub/base")
        pub.web.put("/api/models/pub/base/settings", json={"private": False})
        yield world
        vault.close()
