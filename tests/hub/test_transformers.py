"""transformers pushes models to a hub and loads them from it, bit for bit; and loads them from a
vault without a hub."""

import sysconfig
from pathlib import Path

import pytest
from hub_clients import NO_XET, TRANSFORMERS, Hub, client_environment, find_python, run


@pytest.mark.parametrize("extra", [{}, NO_XET], ids=["xet", "no-xet"])
def test_push_and_load(hub: Hub, tmp_path: Path, extra: dict[str, str]):
    python = find_python(TRANSFORMERS)
    env = client_environment(tmp_path, extra)
    done = run(python, "transformers_client.py", hub.url, hub.token("write", "me"), env=env)
    assert "ok whole 1" in done.stdout
    assert "ok sharded" in done.stdout


@pytest.mark.parametrize("place", ["folder", "server"])
def test_models_are_loaded_from_a_vault(hub: Hub, tmp_path: Path, place: str):
    python = find_python(TRANSFORMERS)
    env = client_environment(tmp_path / "home")
    url, token = str(tmp_path / "vault"), ""
    if place == "server":
        url, token = hub.url, hub.token("write", "me")
    done = run(python, "pretrained_client.py", url, token, sysconfig.get_path("purelib"), env=env)
    assert "ok all" in done.stdout
    assert done.stdout.count("refused") == 3
