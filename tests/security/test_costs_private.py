"""Nobody learns from costs, sizes or codecs whether somebody else has the same content.

Attack: a private file holds a secret of few possible values. A tenant commits every guess of that
file and looks for the one of which anything is told differently.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from models import bf16_file, make_weights
from tenants import Tenant, make_tenant

from weightvault.dedup.maintenance.background_encode import encode_some

SECRET = 4
GUESSES = range(8)
WEIGHTS = make_weights(1)


def text(pin: int) -> bytes:
    """A file that is all known but for one digit; one chunk."""
    return f"---\nbase_model: victim/model\n---\nThe PIN is 1{pin}93.\n".encode() * 40


def weights(seed: int) -> bytes:
    """A model of which one tensor is not known."""
    return bf16_file(WEIGHTS | {"layer.0.weight": make_weights(100 + seed)["layer.0.weight"]})


def push_natively(tenant: Tenant, root: Path, repo: str, name: str, data: bytes) -> None:
    folder = root / repo.replace("/", "-")
    folder.mkdir()
    (folder / name).write_bytes(data)
    tenant.push(folder, repo)


def commit_to_hub(tenant: Tenant, _root: Path, repo: str, name: str, data: bytes) -> None:
    tenant.create(repo)
    assert tenant.commit(repo, {name: data}).status_code == 200


def upload_by_lfs(tenant: Tenant, _root: Path, repo: str, name: str, data: bytes) -> None:
    tenant.create(repo)
    tenant.upload(repo, data)
    assert tenant.commit(repo, uploaded={name: data}).status_code == 200


def told_of(tenant: Tenant, repo: str) -> list[str]:
    """All that is told of a repo, without its name and the hashes of its content."""
    paths = [f"/v1/repos/{repo}", f"/v1/repos/{repo}/revision?tensors=true", f"/api/models/{repo}"]
    paths += [f"/{repo}{page}" for page in ("", "/tree/main", "/tensors", "/family")]
    paths += [f"/api/models/{repo}/tree/main?expand=true", "/"]
    answers = [tenant.web.get(path) for path in paths]
    assert all(answer.status_code == 200 for answer in answers)
    named = re.compile(rf"{tenant.namespace}|(?<![0-9a-f])[0-9a-f]{{10,64}}|1\d93")
    return [named.sub("NAMED", answer.text) for answer in answers]


WAYS = [push_natively, commit_to_hub, upload_by_lfs]
Way = Callable[[Tenant, Path, str, str, bytes], None]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "make"), [("README.md", text), ("model.safetensors", weights)])
def test_the_right_guess_looks_like_the_wrong_ones(
    shared_app: FastAPI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Way,
    name: str,
    make: Callable[[int], bytes],
):
    monkeypatch.setattr(time, "time", lambda: 1.8e9)
    victim = make_tenant(shared_app, "victim")
    push_natively(victim, tmp_path, "victim/model", name, make(SECRET))
    # Each guess by somebody else: the attacker's own guesses are like each other, too.
    attackers = [make_tenant(shared_app, f"guess{guess}") for guess in GUESSES]
    for guess, attacker in zip(GUESSES, attackers, strict=True):
        way(attacker, tmp_path, f"guess{guess}/model", name, make(guess))
    for _ in range(2):
        told = [told_of(attacker, f"{attacker.namespace}/model") for attacker in attackers]
        for other in told:
            assert other == told[SECRET]
        while encode_some(shared_app.state.vault):
            pass
