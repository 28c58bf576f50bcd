"""The verb that looks at a file instead of a vault: inspect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...formatting import format_bytes, format_percent, format_table
from ..console import Session
from ..options import verb

if TYPE_CHECKING:
    from ....dedup.reports.inspect_file import Inspection, Part
    from ...trial import Trial

# Enough to tell digests and sketches apart by eye; --json has all of them.
_SHOWN_DIGITS = 16


@verb("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Show what of FILE could be computed from this file or folder.",
)
def inspect(session: Session, file: Path, against: Path | None) -> None:
    """Show what FILE consists of: tensors, other bytes, their sizes and digests.

    No vault is needed. Equal digests are stored once; tensors whose sketches are nearly equal are
    of one family.
    """
    from ....dedup.reports.inspect_file import inspect_file
    from ...progress import make_progress

    if against is not None:
        from ...trial import try_against

        tried = try_against(file, against, make_progress())
        session.emit(asdict(tried), _describe_trial(tried))
        return
    found = inspect_file(file, make_progress())
    session.emit(asdict(found), _describe(found))


def _describe(found: Inspection) -> str:
    facts = [
        ("file", found.path),
        ("format", found.format),
        ("size", format_bytes(found.size)),
        ("blake3", found.blake3),
        *([("warning", found.warning)] if found.warning else []),
    ]
    tables = [format_table(facts, left=2), format_table(list(_total_rows(found)))]
    rows = list(_part_rows(found))
    if len(rows) > 1:
        tables.append(format_table(rows))
    return "\n\n".join(tables)


def _describe_trial(tried: Trial) -> str:
    computed = [tensor for tensor in tried.tensors if tensor.how == "computed"]
    size = sum(tensor.size for tensor in computed)
    facts = [
        ("file", tried.path),
        ("against", tried.against),
        (
            "tensors",
            f"{format_bytes(tried.size)}, stored beside it in {format_bytes(tried.stored)}",
        ),
        ("computed", f"{len(computed)} of {len(tried.tensors)}, {format_bytes(size)}"),
    ]
    rows = [("name", "dtype", "from", "size", "stored")]
    for tensor in tried.tensors:
        origin = f"{tensor.how} from {tensor.source}" if tensor.source else tensor.how
        sizes = format_bytes(tensor.size), format_bytes(tensor.stored)
        rows.append((tensor.name, tensor.dtype, origin, *sizes))
    return f"{format_table(facts, left=2)}\n\n{format_table(rows, left=3)}"


def _total_rows(found: Inspection) -> Iterator[tuple[str, ...]]:
    """One row for each kind of part, the largest first."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for part in found.parts:
        sizes[part.dtype or part.kind].append(part.size)
    yield "made of", "parts", "size", "share"
    for kind, parts in sorted(sizes.items(), key=lambda item: -sum(item[1])):
        total = sum(parts)
        yield kind, str(len(parts)), format_bytes(total), format_percent(total, found.size)


def _part_rows(found: Inspection) -> Iterator[tuple[str, ...]]:
    """One row for each part that is stored as chunks of its own."""
    yield "name", "dtype", "shape", "offset", "size", "digest", "sketch"
    for part in found.parts:
        if part.kind != "literal":
            yield (
                part.name if part.name is not None else f"({part.kind})",
                part.dtype or "-",
                "x".join(map(str, part.shape)) if part.shape else "-",
                str(part.offset),
                format_bytes(part.size),
                _show_digests(part),
                part.sketch[:_SHOWN_DIGITS] if part.sketch else "-",
            )


def _show_digests(part: Part) -> str:
    first, *more = part.digests
    return f"{first[:_SHOWN_DIGITS]} +{len(more)}" if more else first[:_SHOWN_DIGITS]
