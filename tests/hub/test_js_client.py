"""The JavaScript client of hubs, @huggingface/hub, as node runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_clients import HOW_TO_INSTALL, ROOT, SECONDS, Hub

STEPS = [
    *("whoAmI", "createRepo", "checkRepoAccess", "uploadFile", "listFiles", "downloadFile"),
    *("commit", "branches", "pull-request", "deleteFiles", "info", "deleteRepo"),
]
FOLDER = ".venv-hf-js"


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_people_do_with_the_javascript_client(
    start_hub: Callable[..., Hub], tmp_path: Path, kind: str
):
    node = shutil.which("node")
    module = ROOT / FOLDER / "node_modules" / "@huggingface" / "hub" / "dist" / "index.mjs"
    if node is None or not module.exists():
        end = pytest.fail if os.environ.get("CI") and node else pytest.skip
        end(HOW_TO_INSTALL.format(FOLDER, FOLDER))
    hub = start_hub()
    token = hub.token("write", "me")
    script = Path(__file__).with_name("js_client.mjs")
    command = [node, str(script), hub.url, token, kind, str(module)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.replace(" ", "-").split() == STEPS
