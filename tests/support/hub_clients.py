"""Runs the real clients of hubs as processes, each with a home of its own.

`make test` makes their environments: .venv-hf-0, -1 and -2 have one version of huggingface_hub
each, .venv-hf-torch has transformers. Where they lack, tests are skipped, but fail in CI.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from weightvault.api.requests.tokens import create_token
from weightvault.dedup.local_vault import LocalVault

ROOT = Path(__file__).parents[2]


@dataclass
class Hub:
    """A running server and its vault."""

    url: str
    vault: LocalVault

    def token(self, role: str = "admin", namespace: str | None = None, name: str = "me") -> str:
        """A new token; from the first on, the server is closed to others."""
        return create_token(self.vault, name, role, namespace).secret


VERSIONS = {"0.36": ".venv-hf-0", "1.33": ".venv-hf-1", "2.4": ".venv-hf-2"}
TRANSFORMERS = ".venv-hf-torch"
SECONDS = 240
HOW_TO_INSTALL = "{} is missing: `make {}/ready` makes it"

NO_XET = {"HF_HUB_DISABLE_XET": "1"}


def find_python(environment: str) -> Path:
    """The interpreter of an environment; skips the test where there is none."""
    python = ROOT / environment / "bin" / "python"
    if not python.exists():
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end(HOW_TO_INSTALL.format(environment, environment))
    return python


def client_environment(home: Path, extra: Mapping[str, str] = {}) -> dict[str, str]:
    """Environment variables of a client that has nothing from before."""
    foreign = ("HF_", "HUGGING", "WEIGHTVAULT_", "TRANSFORMERS_")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return {**clean, "HOME": str(home), "HF_HOME": str(home / "hf"), **quiet, **extra}


def run(
    python: Path, script: str, *arguments: str | Path, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Runs a script of tests/hub; a failure shows all it said."""
    path = Path(__file__).parents[1] / "hub" / script
    command = [str(python), str(path), *map(str, arguments)]
    return checked(command, env)


def checked(
    command: list[str], env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command that must succeed."""
    done = subprocess.run(
        command, env=dict(env), cwd=cwd, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def hf(environment: str) -> str:
    """The `hf` command of an environment."""
    return str(find_python(environment).with_name("hf"))
