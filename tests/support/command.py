"""The command line, in this process."""

from __future__ import annotations

from pathlib import Path

import click.testing

from weightvault.api.cli.main import cli


def run(*args: str | Path) -> click.testing.Result:
    """Runs it: `run("--vault", url, "ls")`."""
    return click.testing.CliRunner().invoke(cli, list(map(str, args)))
