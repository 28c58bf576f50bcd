"""What a push takes of a folder: the options that say so, and how what was found is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...formatting import format_bytes, format_count, format_table
from ...terminal import show
from .. import exits
from ..console import Session

if TYPE_CHECKING:
    from ....dedup.model.paths import Remark
    from ....dedup.transfer.folders.memory import ScanMemory
    from ....dedup.transfer.folders.rules import Rules
    from ....dedup.transfer.folders.survey import Survey

# More are counted; --json names them all.
_MOST_SHOWN = 50


def folder_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a push that say what of a folder is stored."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Show what would be stored; store nothing."),
        click.option(
            "--rescan",
            is_flag=True,
            help="Read all files again, even if size and times are as in the last push.",
        ),
        click.option(
            "--skip-broken",
            is_flag=True,
            help="Go on without what cannot be read and links that lead nowhere.",
        ),
        click.option(
            "--exclude",
            multiple=True,
            metavar="PATTERN",
            help="Leave out what matches, as a line of .gitignore does; may be repeated.",
        ),
        click.option(
            "--include",
            multiple=True,
            metavar="PATTERN",
            help="Store what matches although it would be left out or refused; may be repeated. "
            "To store nothing else, add --exclude '*'.",
        ),
    ):
        function = option(function)
    return function


def open_memory(rescan: bool) -> ScanMemory:
    """Returns what earlier pushes of this user found in files."""
    from platformdirs import user_cache_path

    from ....dedup.transfer.folders.memory import ScanMemory

    return ScanMemory(user_cache_path("weightvault", appauthor=False) / "pushed", anew=rescan)


def show_plan(session: Session, path: Path, rules: Rules) -> None:
    """Prints what a push would store and leave out; fails where it would."""
    from ....dedup.formats.scan import find_oddities
    from ....dedup.transfer.folders.survey import survey

    found = survey(path, rules)
    found.warnings += find_oddities(found.files)
    sizes = {name: file.stat().st_size for name, file in found.files.items()}
    document = {
        "files": [{"path": name, "size": size} for name, size in sizes.items()],
        "size": sum(sizes.values()),
        **{name: [asdict(each) for each in remarks] for name, remarks in _groups(found).items()},
    }
    session.emit(document, _describe_plan(found, sizes))
    if found.broken or found.misnamed or found.secrets or not found.files:
        click.get_current_context().exit(exits.INVALID_INPUT)


def describe_remarks(left_out: Sequence[Remark], warnings: Sequence[Remark]) -> str:
    """Returns lines that name what was left out and what is odd, each after a line break."""
    lines = [*_name_all("left out", left_out), *_name_all("warning:", warnings)]
    return "".join(f"\n{line}" for line in lines)


def _groups(found: Survey) -> dict[str, list[Remark]]:
    return {
        "left_out": found.left_out,
        "broken": found.broken,
        "misnamed": found.misnamed,
        "secrets": found.secrets,
        "warnings": found.warnings,
    }


def _describe_plan(found: Survey, sizes: dict[str, int]) -> str:
    rows = [(show(name), format_bytes(size)) for name, size in sizes.items()]
    total = format_bytes(sum(sizes.values()))
    lines = [
        *([format_table([("file", "size"), *rows])] if rows else []),
        f"would store {format_count(len(sizes), 'file')}, {total}",
        *_name_all("left out", found.left_out),
        *_name_all("broken:", [*found.broken, *found.misnamed]),
        *_name_all("refused:", found.secrets),
        *_name_all("warning:", found.warnings),
    ]
    return "\n".join(lines)


def _name_all(label: str, remarks: Iterable[Remark]) -> Iterator[str]:
    named = list(remarks)
    for remark in named[:_MOST_SHOWN]:
        yield f"{label} {show(remark.path)}: {show(remark.reason)}"
    if len(named) > _MOST_SHOWN:
        yield f"{label} {len(named) - _MOST_SHOWN} more; --json names them all"
    if len(named) > 1:
        yield f"{label} {len(named)} in all"
