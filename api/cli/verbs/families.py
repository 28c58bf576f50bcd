"""The verbs about families of models: families and optimise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...errors import from_os_error
from ...formatting import format_bytes, format_count, format_percent
from ...terminal import show
from ..console import Session, interruptible
from ..options import verb

if TYPE_CHECKING:
    from ....dedup.model.families import Family, FamilyMember
    from ....dedup.progress import Progress
    from ....dedup.vault import OptimiseStep, Vault

# What all steps of optimise come to.
_SUMMED = ("families", "changed", "chunks", "before", "after")


@verb("families")
@click.option(
    "--svg", type=click.Path(dir_okay=False, path_type=Path), help="Also write a picture to FILE."
)
def families(session: Session, svg: Path | None) -> None:
    """Show which models form families: their main base, sizes and distances.

    The distance is the share of sketch bits that differ from the bases'; 50 % is no relation.
    """
    with session.open() as vault:
        found = vault.list_families()
    if svg is not None:
        _write_picture(svg, found)
    session.emit({"families": [asdict(family) for family in found]}, _describe_families(found))


@verb("optimise")
@click.option(
    "--dry-run", is_flag=True, help="Show what would change, with predicted bytes; change nothing."
)
def optimise(session: Session, dry_run: bool) -> None:
    """Re-encode stored models where a better base saves bytes.

    Safe beside pushes and pulls, and to be interrupted: run it again and it goes on. The frames it
    replaces are garbage until they are collected.
    """
    from ...progress import make_progress

    total: dict[str, int] = {}

    def explain() -> tuple[str, str]:
        return (
            f"interrupted; {format_bytes(_saved(total))} were saved so far",
            "run `weightvault optimise` again to go on",
        )

    with session.open() as vault, interruptible(explain):
        for step in _steps(vault, dry_run, make_progress()):
            for name in _SUMMED:
                total[name] = total.get(name, 0) + getattr(step, name)
    session.emit({"dry_run": dry_run, "saved": _saved(total), **total}, _describe(total, dry_run))


def _steps(vault: Vault, dry_run: bool, progress: Progress) -> Iterator[OptimiseStep]:
    cursor: int | None = 0
    left = vault.count_centres()
    with progress.running("optimising", left, "chunks"):
        while cursor is not None:
            step = vault.optimise(cursor, dry_run=dry_run)
            cursor = step.cursor
            # Around what is re-encoded, families have other centres than were counted.
            seen = left if cursor is None else min(step.looked, left)
            left -= seen
            progress.advance(seen)
            yield step


def _saved(total: dict[str, int]) -> int:
    return total.get("before", 0) - total.get("after", 0)


def _describe(total: dict[str, int], dry_run: bool) -> str:
    seen = f"{total['families']} families of chunks with something to plan"
    if not total["changed"]:
        return f"{seen}: nothing to save"
    verb_form = "would save about" if dry_run else "saved"
    return (
        f"{seen}, {total['changed']} with a better plan\n"
        f"{verb_form} {format_bytes(_saved(total))} of {format_bytes(total['before'])} "
        f"({format_percent(_saved(total), total['before'])}) in "
        f"{format_count(total['chunks'], 'chunk')}"
    )


def _write_picture(path: Path, found: list[Family]) -> None:
    from .family_chart import draw_families

    try:
        path.write_text(draw_families(found))
    except OSError as error:
        raise from_os_error(error, f"cannot write {path}") from error


def _describe_families(found: list[Family]) -> str:
    if not found:
        return "no models yet"
    return "\n\n".join("\n".join(_describe_family(family)) for family in found)


def _describe_family(family: Family) -> Iterator[str]:
    yield (
        f"{show(family.centre)}: {format_count(len(family.members), 'model')}, "
        f"{format_bytes(family.raw)} raw, {format_bytes(family.stored)} stored "
        f"({format_percent(family.stored, family.raw)})"
    )
    yield f"    {_describe_member(family.members[0])}"
    yield from _draw_below(family.centre, family.place_members())


def _draw_below(repo: str, below: Mapping[str, Sequence[FamilyMember]]) -> Iterator[str]:
    members = below.get(repo, ())
    for i, member in enumerate(members):
        is_last = i == len(members) - 1
        yield f"{'└── ' if is_last else '├── '}{show(member.repo)}: {_describe_member(member)}"
        for line in _draw_below(member.repo, below):
            yield f"{'    ' if is_last else '│   '}{line}"


def _describe_member(member: FamilyMember) -> str:
    sizes = f"{format_bytes(member.raw)} raw, {format_bytes(member.stored)} stored"
    if member.source is not None:
        return f"{sizes}, {member.computed} of {member.chunks} chunks computed"
    return (
        f"{sizes}, {member.distance:.2%} away, centre of {member.centres} of {member.chunks} chunks"
    )
