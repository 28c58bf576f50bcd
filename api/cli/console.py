"""What people and programs see: results on stdout, everything else on stderr."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import click

from ...dedup.errors import InvalidInput, RepoNotFound, VaultError
from .. import config
from ..terminal import show_json, show_lines

if TYPE_CHECKING:
    from ...dedup.local_vault import LocalVault
    from ...dedup.vault import Vault


class Interrupted(Exception):
    """Ctrl-C or a termination signal, with what it means for the work at hand."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass
class Session:
    """What the options before the verb say."""

    vault: str | None = None
    catalogue: str | None = None
    json: bool = False

    @property
    def url(self) -> str:
        """The address of the vault."""
        return config.vault_url(self.vault)

    @contextmanager
    def open(self, *, create: bool = False) -> Iterator[Vault]:
        """Gives the vault, closed on the way out; makes a new one only with `create`."""
        vault = config.open_vault(self.url, self.catalogue, create=create)
        if not config.is_server(self.url):
            warn_of_exposure(config.find_exposure(cast("LocalVault", vault)))
        try:
            yield vault
            if not config.is_server(self.url):
                cast("LocalVault", vault).note_heads()
        except RepoNotFound as error:
            raise _with_near_name(error, vault) from error
        finally:
            vault.close()

    def local_url(self, *, alone: bool = False) -> str:
        """Returns the address of a vault that this process can keep itself; `alone` says that no
        server may be at work meanwhile."""
        if config.is_server(self.url):
            server = "stop the server first" if alone else "the server may go on meanwhile"
            raise InvalidInput(
                f"this works on the folder or bucket behind {self.url}, not through the server",
                "run it where the server runs, with the --vault and --catalogue that the server "
                f"has; {server}",
            )
        return self.url

    @contextmanager
    def open_local(self, *, rebuild_marker: bool = False) -> Iterator[LocalVault]:
        """Gives a vault that this process keeps itself, closed on the way out."""
        vault = config.open_local_vault(
            self.local_url(), self.catalogue, create=False, rebuild_marker=rebuild_marker
        )
        warn_of_exposure(config.find_exposure(vault))
        try:
            yield vault
            vault.note_heads()
        finally:
            vault.close()

    def emit(self, document: Any, text: str) -> None:
        """Prints a result: `document` as JSON if that was asked for, else `text`."""
        if self.json:
            print_json(document, indent=2)
        else:
            print_text(text)


def _with_near_name(error: RepoNotFound, vault: Vault) -> RepoNotFound:
    """Returns the error with a hint at the repo that was probably meant, if any is like it."""
    given = click.get_current_context().params.get("repo")
    if not isinstance(given, str):
        return error
    try:
        names = [repo.name for repo in vault.list_repos()]
    except VaultError:
        return error
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(given.casefold(), folded, n=1, cutoff=0.8)
    same = [name for name in names if name.rpartition("/")[2] == given.rpartition("/")[2]]
    meant = [folded[near[0]]] if near else same[:1]
    hint = f"did you mean {meant[0]}? `weightvault ls` lists them" if meant else error.hint
    return RepoNotFound(error.message, hint)


def warn_of_exposure(exposed: tuple[str, str] | None) -> None:
    """Prints what of a vault others can read, if anything, and the fix."""
    if exposed is not None:
        message, hint = exposed
        print_remark("warning:", "yellow", message)
        print_remark("hint:", "cyan", hint)


@contextmanager
def interruptible(explain: Callable[[], tuple[str, str]]) -> Iterator[None]:
    """Turns Ctrl-C inside into Interrupted with the message and hint that `explain` gives."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise Interrupted(*explain()) from interrupt


def print_text(text: str, *, err: bool = False) -> None:
    """Prints lines, whoever wrote them: nothing in them commands a terminal."""
    click.echo(show_lines(text), err=err)


def print_json(document: Any, indent: int | None = None) -> None:
    """Prints a JSON document, readable and without anything that commands a terminal."""
    click.echo(show_json(json.dumps(document, indent=indent, ensure_ascii=False)))


def print_failure(message: str, hint: str | None) -> None:
    """Prints on stderr what failed and, after an empty line, what to do."""
    print_remark("error:", "red", message)
    if hint:
        click.echo("", err=True)
        print_remark("hint:", "cyan", hint)


def print_remark(label: str, colour: str, text: str) -> None:
    """Prints on stderr a text behind a label in colour; further lines of it are indented, so that
    none passes for a label."""
    lines = show_lines(text).replace("\n", "\n  ")
    click.echo(f"{click.style(label, fg=colour, bold=True)} {lines}", err=True)
