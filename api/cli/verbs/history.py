"""The verbs about commits and what names them: log, diff, tag and branch."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ...formatting import format_bytes, format_count, format_percent, format_table, format_time
from ...library.names import split_repo
from ...terminal import show
from ..completion import repo_argument
from ..console import Session
from ..options import verb

if TYPE_CHECKING:
    from ....dedup.vault import Commit
    from ...library.diff import Diff, TensorChange

_ID_DIGITS = 10


@verb("log")
@repo_argument()
@click.option("-n", "--limit", type=click.IntRange(min=1), help="Show so many commits at most.")
def log(session: Session, repo: str, limit: int | None) -> None:
    """List the commits of REPO, or REPO@REVISION, newest first."""
    name, revision = split_repo(repo)
    with session.open() as vault:
        commits = vault.list_commits(name, revision, limit)
    session.emit({"commits": [asdict(each) for each in commits]}, _describe_log(commits))


@verb("diff")
@repo_argument("before", metavar="A")
@repo_argument("after", metavar="B")
@click.argument("more", nargs=-1, metavar="")
@click.option("--values", is_flag=True, help="Read what changed, and say by how much.")
def diff(session: Session, before: str, after: str, more: tuple[str, ...], values: bool) -> None:
    """Show which files and tensors differ between A and B, each REPO or REPO@REVISION.

    A tensor that changed has a distance: the length of the difference by that of the tensor in A.
    """
    from ...library.diff import diff_snapshots

    if more:
        named = " ".join(f"{before}@{each}" for each in (after, more[0]))
        raise click.UsageError(f"a revision is named with its repo: weightvault diff {named}")
    one, other = split_repo(before), split_repo(after)
    with session.open() as vault:
        old, new = vault.resolve(*one), vault.resolve(*other)
        found = diff_snapshots(lambda: vault, old, new, values=values)
    session.emit(asdict(found), _describe_diff(found, values))


@verb("tag")
@repo_argument()
@click.argument("name", required=False)
@click.option("-m", "--message", help="What to say of it.")
@click.option("--delete", is_flag=True, help="Take the tag away.")
def tag(session: Session, repo: str, name: str | None, message: str | None, delete: bool) -> None:
    """List the tags of REPO, or let NAME be one of REPO, or REPO@REVISION."""
    _check_name(name, delete)
    found, revision = split_repo(repo)
    with session.open() as vault:
        if name is None:
            _list(session, "tags", vault.list_refs(found).tags)
        elif delete:
            vault.delete_tag(found, name)
            session.emit({"deleted": name}, f"deleted tag {show(name)}")
        else:
            vault.create_tag(found, name, revision, message)
            commit = vault.list_refs(found).tags[name]
            session.emit({"tag": name, "commit": commit}, f"tag {show(name)} {commit}")


@verb("branch")
@repo_argument()
@click.argument("name", required=False)
@click.option("--delete", is_flag=True, help="Take the branch away; its commits stay.")
def branch(session: Session, repo: str, name: str | None, delete: bool) -> None:
    """List the branches of REPO, or make the branch NAME at REPO, or REPO@REVISION."""
    _check_name(name, delete)
    found, revision = split_repo(repo)
    with session.open() as vault:
        if name is None:
            _list(session, "branches", vault.list_refs(found).branches)
        elif delete:
            vault.delete_branch(found, name)
            session.emit({"deleted": name}, f"deleted branch {show(name)}")
        else:
            vault.create_branch(found, name, revision)
            commit = vault.list_refs(found).branches[name]
            session.emit({"branch": name, "commit": commit}, f"branch {show(name)} {commit}")


def _check_name(name: str | None, delete: bool) -> None:
    if delete and name is None:
        raise click.UsageError("--delete takes a NAME")


def _list(session: Session, what: str, refs: dict[str, str]) -> None:
    table = format_table(list(refs.items()), left=2) if refs else f"no {what}"
    session.emit({what: refs}, table)


def _describe_log(commits: list[Commit]) -> str:
    rows = [
        (each.id[:_ID_DIGITS], format_time(each.created), each.author or "-", each.title or "-")
        for each in commits
    ]
    return format_table([("commit", "time", "author", "title"), *rows], left=4)


def _describe_diff(found: Diff, values: bool) -> str:
    same = (
        f"{format_count(found.same_files, 'file')} and "
        f"{format_count(found.same_tensors, 'tensor')} are the same"
    )
    tables = [same]
    if found.tensors:
        head = ("tensor", "", "before", "after", "distance", "largest", "changed")
        rows = [head, *map(_tensor_row, found.tensors)]
        # What is only known once values were read.
        shown = rows if values else [row[:4] for row in rows]
        tables.insert(0, format_table(shown, left=4))
    if found.files:
        rows = [
            (each.path, each.kind, _size(each.before), _size(each.after)) for each in found.files
        ]
        tables.insert(0, format_table([("file", "", "before", "after"), *rows], left=2))
    return "\n\n".join(tables)


def _tensor_row(each: TensorChange) -> tuple[str, ...]:
    measured = (
        ("-", "-", "-")
        if each.distance is None or each.largest is None or each.share is None
        else (f"{each.distance:.3g}", f"{each.largest:.3g}", format_percent(each.share, 1))
    )
    return (each.name, each.kind, each.before or "-", each.after or "-", *measured)


def _size(count: int | None) -> str:
    return "-" if count is None else format_bytes(count)
