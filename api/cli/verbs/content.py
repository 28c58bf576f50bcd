"""The verbs that look into a revision: cat, tensor and verify."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ....dedup.errors import EntryNotFound, InvalidInput
from ...formatting import format_bytes, format_count, format_table
from ...library.names import split_repo
from ...terminal import show
from .. import exits
from ..completion import repo_argument
from ..console import Session, print_text
from ..options import verb

if TYPE_CHECKING:
    from ...library.statistics import TensorFacts

# Of a file that a terminal is to show.
_MOST_SHOWN_BYTES = 1 << 20


@verb("cat")
@repo_argument()
@click.argument("path")
def cat(session: Session, repo: str, path: str) -> None:
    """Write the file PATH of REPO, or REPO@REVISION, to stdout.

    A terminal is shown text alone. With --json the bytes are in base64.
    """
    from ...library.tensor_source import TensorSource

    with session.open() as vault:
        snapshot = vault.resolve(*split_repo(repo))
        entry = snapshot.manifest.file(path)
        if entry is None:
            raise EntryNotFound(
                f"{repo} has no file {path!r}", f"`weightvault ls {repo}` lists them"
            )
        pieces = TensorSource(lambda: vault, snapshot, [entry]).stream_file(path)
        if session.json:
            from base64 import b64encode

            data = b64encode(b"".join(map(bytes, pieces))).decode()
            session.emit({"path": path, "size": entry.size, "base64": data}, "")
        elif sys.stdout.isatty():
            print_text(_shown_text(pieces, entry.size))
        else:
            _write_all(pieces)


@verb("tensor")
@repo_argument()
@click.argument("name")
@click.option("--file", metavar="PATH", help="The file, if several have a tensor of that name.")
@click.option("--stats", is_flag=True, help="Show least, largest, mean, deviation, zeros, NaNs.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write it to this .npy file; BF16 and eight-bit floats as float32 of the same value.",
)
def tensor(
    session: Session, repo: str, name: str, file: str | None, stats: bool, output: Path | None
) -> None:
    """Show the tensor NAME of REPO, or REPO@REVISION: dtype, shape, size, first values."""
    from ...library.statistics import read_facts, write_npy
    from ...library.tensor_file import open_source

    with session.open() as vault:
        snapshot = vault.resolve(*split_repo(repo))
        source = open_source(lambda: vault, snapshot, file)
        facts = read_facts(source, name, stats=stats)
        if output is not None:
            if output.suffix != ".npy":
                raise InvalidInput(f"{output} does not end in .npy", "name a .npy file")
            write_npy(source, name, output)
    session.emit(asdict(facts), _describe_tensor(facts, output))


@verb("verify")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@repo_argument()
def verify(session: Session, folder: Path, repo: str) -> None:
    """Compare FOLDER with the files of REPO, or REPO@REVISION, byte for byte.

    The exit status is 1 if a file is missing or has other bytes. Files that the revision does not
    have do not count.
    """
    from ...library.operations import verify_folder

    with session.open() as vault:
        snapshot = vault.resolve(*split_repo(repo))
    wrong = verify_folder(snapshot.manifest, folder)
    files = len(snapshot.manifest.files)
    lines = [f"{show(path)} is missing or differs" for path in wrong]
    lines.append(f"{files - len(wrong)} of {format_count(files, 'file')} are the same")
    document = {"commit": snapshot.commit.id, "files": files, "wrong": wrong}
    session.emit(document, "\n".join(lines))
    if wrong:
        click.get_current_context().exit(exits.FAILED)


def _write_all(pieces: Iterable[bytes | bytearray | memoryview]) -> None:
    stdout = sys.stdout.buffer
    for piece in pieces:
        stdout.write(piece)
    stdout.flush()


def _shown_text(pieces: Iterable[bytes | bytearray | memoryview], size: int) -> str:
    """Returns what a terminal may show. Raises InvalidInput for what is no text."""
    try:
        if size > _MOST_SHOWN_BYTES:
            raise ValueError
        return b"".join(map(bytes, pieces)).decode().rstrip("\n")
    except ValueError as error:
        raise InvalidInput(
            f"{format_bytes(size)} that are no text, or too much of it", "redirect it to a file"
        ) from error


def _describe_tensor(facts: TensorFacts, output: Path | None) -> str:
    rows = [
        ("tensor", facts.name),
        ("file", facts.path),
        ("dtype", facts.dtype),
        ("shape", "x".join(map(str, facts.shape)) or "scalar"),
        ("size", format_bytes(facts.size)),
        ("first", " ".join(f"{value:.6g}" for value in facts.first) or "-"),
    ]
    if facts.stats is not None:
        rows += [
            (key, str(value) if isinstance(value, int) else f"{value:.6g}")
            for key, value in asdict(facts.stats).items()
        ]
    if output is not None:
        rows.append(("written", str(output)))
    return format_table(rows, left=2)
