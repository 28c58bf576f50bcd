"""Completion in shells: of verbs and options by click, and of repos and revisions by the vault."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from ...dedup.errors import VaultError
from .. import config
from ..errors import from_os_error
from .console import Session
from .options import verb

_NAME, _VARIABLE = "weightvault", "_WEIGHTVAULT_COMPLETE"
# Where shells look by themselves, below the home folder; zsh does in none of a user.
_PLACES = {
    "bash": ".local/share/bash-completion/completions/weightvault",
    "fish": ".config/fish/completions/weightvault.fish",
    "zsh": ".zfunc/_weightvault",
}
_INSTALL = "install"
_ZSH_HINT = "in ~/.zshrc, before compinit: fpath+=~/.zfunc"


@verb("completion")
@click.argument("shell", type=click.Choice([*_PLACES, _INSTALL]))
@click.option("--install", is_flag=True, help="Write it to where the shell looks for it.")
def completion(session: Session, shell: str, install: bool) -> None:
    """Print what lets SHELL complete commands, repos and revisions. `install` is --install for your
    login shell."""
    if shell == _INSTALL:
        shell, install = _login_shell(), True
    root = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(root, {}, _NAME, _VARIABLE).source()
    if not install:
        session.emit({"shell": shell, "script": script}, script)
        return
    path = Path.home() / _PLACES[shell]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
    except OSError as error:
        raise from_os_error(error, f"cannot write {path}") from error
    hint = f"\n{_ZSH_HINT}" if shell == "zsh" else ""
    session.emit({"shell": shell, "path": str(path)}, f"wrote {path}{hint}")


def _login_shell() -> str:
    name = PurePath(os.environ.get("SHELL", "")).name
    if name not in _PLACES:
        told = f"SHELL names {name!r}" if name else "SHELL names none"
        raise click.UsageError(f"{told}: write `weightvault completion bash --install`")
    return name


def repo_argument(name: str = "repo", **options: Any) -> Callable[..., Any]:
    """A click argument that is completed by the repos of the vault, and after `@` by revisions."""
    return click.argument(name, shell_complete=_complete_repo, **options)


def _complete_repo(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Returns what the vault has that begins so: nothing, where it cannot be asked."""
    given = ctx.find_root().params
    repo, at, begun = incomplete.partition("@")
    try:
        url = config.vault_url(given.get("vault"))
        vault = config.open_vault(url, given.get("catalogue"), create=False)
        try:
            if at:
                refs = vault.list_refs(repo)
                found = [f"{repo}@{name}" for name in (*refs.branches, *refs.tags)]
            else:
                found = [each.name for each in vault.list_repos()]
        finally:
            vault.close()
    except (VaultError, OSError):
        return []
    return [CompletionItem(name) for name in found if name.startswith(f"{repo}{at}{begun}")]
