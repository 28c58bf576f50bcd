"""What people and programs see: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import click

from ..dedup.errors import InvalidInput
from . import config
from .terminal import show, show_json, show_lines

if TYPE_CHECKING:
    from ..dedup.local_vault import LocalVault
    from ..dedup.vault import Vault

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


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
            _warn_of_exposure(cast("LocalVault", vault))
        try:
            yield vault
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
    def open_local(self, *, mend_marker: bool = False) -> Iterator[LocalVault]:
        """Gives a vault that this process keeps itself, closed on the way out."""
        vault = config.open_local_vault(
            self.local_url(), self.catalogue, create=False, mend_marker=mend_marker
        )
        _warn_of_exposure(vault)
        try:
            yield vault
        finally:
            vault.close()

    def emit(self, document: Any, text: str) -> None:
        """Prints a result: `document` as JSON if that was asked for, else `text`."""
        if self.json:
            print_json(document, indent=2)
        else:
            print_text(text)


def _warn_of_exposure(vault: LocalVault) -> None:
    exposed = config.find_exposure(vault)
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


def format_bytes(count: float) -> str:
    """Returns a number of bytes for people, in binary units: `1.5 MiB`."""
    size = float(count)
    for unit in _UNITS[:-1]:
        # What would be printed as 1024.0 belongs to the next unit.
        if abs(size) < 1023.95:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"


def format_rate(count: float, seconds: float) -> str:
    """Returns bytes per second for people."""
    return f"{format_bytes(count / max(seconds, 1e-3))}/s"


def format_percent(part: float, whole: float) -> str:
    """Returns what share `part` has of `whole`; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def format_money(amount: float) -> str:
    """Returns an amount of no particular currency, with what matters of small ones."""
    if 0 < amount < 0.0001:
        return "under 0.0001"
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.4f}"


def format_count(number: int, noun: str) -> str:
    """Returns `1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_table(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Returns rows as aligned columns, the first `left` of them flush left, the others right.

    Nothing is cut to the terminal's width: the output may go to a pipe.
    """
    rows = [tuple(map(show, row)) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return "\n".join(map(line, rows))
