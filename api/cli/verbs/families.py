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
    from ....dedup.vault import Optimised

# Those of dedup/similarity/reads_bound.py, which takes SQLAlchemy to import.
_LEAST_READS, _MOST_READS = 2, 5


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
@click.option(
    "--max-reads",
    type=click.IntRange(_LEAST_READS, _MOST_READS),
    metavar="K",
    help=f"From now on, let no plan take more than K frames to read a chunk, {_LEAST_READS} to "
    f"{_MOST_READS}, whatever that stores more; {_MOST_READS} at first. With --dry-run, what each "
    "K would save is shown.",
)
def optimise(session: Session, dry_run: bool, max_reads: int | None) -> None:
    """Re-encode stored models where a better base saves bytes.

    Safe beside pushes and pulls, and to be interrupted: run it again and it goes on. What of the
    frames it replaces lies among others that stay is garbage until gc. Pushes may build longer
    chains than --max-reads says; the next run makes them shorter.
    """
    from ...progress import make_progress

    each: dict[int, Optimised] = {}
    with session.open() as vault, interruptible(_explain_interruption):
        done = vault.optimise_all(dry_run=dry_run, reads=max_reads, progress=make_progress())
        if dry_run and max_reads is not None:
            others = {k for k in range(_LEAST_READS, _MOST_READS + 1) if k != max_reads}
            each = {k: vault.optimise_all(dry_run=True, reads=k) for k in others}
            each[max_reads] = done
    found = {"dry_run": dry_run, "saved": done.saved, **asdict(done)}
    if each:
        found["by_reads"] = {str(k): each[k].saved for k in sorted(each)}
    lines = [_describe(done, dry_run), *(_describe_bound(k, each[k]) for k in sorted(each))]
    session.emit(found, "\n".join(lines))


def _explain_interruption() -> tuple[str, str]:
    return (
        "interrupted; what was re-encoded so far is in use",
        "run `weightvault optimise` again to go on",
    )


def _describe_bound(reads: int, done: Optimised) -> str:
    size = format_bytes(abs(done.saved))
    return f"at most {reads} frames a chunk: {size} {'less' if done.saved >= 0 else 'more'}"


def _describe(done: Optimised, dry_run: bool) -> str:
    seen = f"{done.families} families of chunks with something to plan"
    if not done.changed:
        return f"{seen}: nothing to save"
    verb_form = "would save about" if dry_run else "saved"
    if done.saved < 0:
        verb_form = "would take about" if dry_run else "took"
    than = " more than" if done.saved < 0 else " of"
    share = format_percent(abs(done.saved), done.before)
    disk = ""
    if not dry_run:
        less, size = ("less", done.freed) if done.freed >= 0 else ("more until gc", -done.freed)
        disk = f"; {format_bytes(size)} {less} on disk"
    return (
        f"{seen}, {done.changed} with a better plan\n"
        f"{verb_form} {format_bytes(abs(done.saved))}{than} {format_bytes(done.before)} "
        f"({share}) in {format_count(done.chunks, 'chunk')}{disk}"
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
