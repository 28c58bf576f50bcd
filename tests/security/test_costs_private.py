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
from models import bf16_file, make_weights, to_bf16, tune
from tenants import Tenant, make_tenant

from weightvault.dedup.maintenance.background_encode import encode_some
from weightvault.dedup.model.sketch import make_sketch

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


def test_an_edit_of_an_edit_is_taken_whoever_has_what_it_is_made_on(
    shared_app: FastAPI, tmp_path: Path
):
    """A delta on a delta: refused only where nobody else has that very text, it told of them."""
    victim = make_tenant(shared_app, "victim")
    texts = [text(pin) + b"A line of its own.\n" * 50 for pin in range(4)]
    for attacker in (make_tenant(shared_app, "first"), make_tenant(shared_app, "second")):
        for number, data in enumerate(texts):
            folder = tmp_path / f"{attacker.namespace}{number}"
            folder.mkdir()
            (folder / "README.md").write_bytes(data)
            attacker.push(folder, f"{attacker.namespace}/model")
        sent = [answer.status_code for answer in attacker.heard if answer.request.method == "PUT"]
        assert sent == [200] * len(texts)
        if attacker.namespace == "first":
            push_natively(victim, tmp_path, "victim/model", "README.md", texts[1])
            while encode_some(shared_app.state.vault):
                pass


def test_bases_are_told_as_if_others_had_nothing(shared_app: FastAPI, tmp_path: Path):
    """What somebody else has, too, stands alone; what stands alone could be told as a base."""
    shapes = {"layer.weight": (256, 128)}
    base = make_weights(50, shapes)
    models = [base, tune(base, 51), tune(base, 52)]
    victim, attacker = make_tenant(shared_app, "victim"), make_tenant(shared_app, "attacker")
    for number, model in enumerate(models[:2]):
        repo = f"attacker/{number}"
        push_natively(attacker, tmp_path, repo, "m.safetensors", bf16_file(model))
    sketch = make_sketch(to_bf16(models[2]["layer.weight"]).tobytes(), "BF16")
    told = []
    for _ in range(2):
        while encode_some(shared_app.state.vault):
            pass
        told.append(attacker.vault().find_bases([sketch]))
        if len(told) == 1:
            push_natively(victim, tmp_path, "victim/m", "m.safetensors", bf16_file(models[1]))
    assert told[0] == told[1]
