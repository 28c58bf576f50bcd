"""The verbs about repos: ls, info and rm."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

import click

from ... import config
from ...formatting import format_bytes, format_count, format_table, format_time
from ...library.names import split_repo
from ...terminal import show
from ..completion import repo_argument
from ..console import Interrupted, Session, interruptible
from ..options import verb

if TYPE_CHECKING:
    from ....dedup.vault import Computed, FileInfo, RepoInfo, RepoSummary
    from ...client.http_vault import HttpVault


@verb("ls")
@repo_argument(required=False)
def ls(session: Session, repo: str | None) -> None:
    """List the repos of the vault, or the files of REPO, or REPO@REVISION."""
    from ....dedup.vault import list_files

    with session.open() as vault:
        if repo is not None:
            snapshot = vault.resolve(*split_repo(repo))
            files = list_files(snapshot.manifest)
            document = {"commit": snapshot.commit.id, "files": [asdict(each) for each in files]}
            session.emit(document, _describe_files(files))
            return
        repos = vault.list_repos()
        if not repos and config.is_server(session.url):
            cast("HttpVault", vault).require_access()
    session.emit({"repos": [asdict(repo) for repo in repos]}, _describe_list(repos))


@verb("info")
@repo_argument()
def info(session: Session, repo: str) -> None:
    """Show the branches and files of REPO and what it costs."""
    with session.open() as vault:
        found = vault.describe_repo(repo)
    session.emit(asdict(found), _describe_repo(found))


@verb("mv")
@repo_argument()
@click.argument("new")
def mv(session: Session, repo: str, new: str) -> None:
    """Rename REPO to NEW, with its commits, branches and tags."""
    with session.open() as vault:
        vault.rename_repo(repo, new)
    session.emit({"renamed": repo, "to": new}, f"renamed {repo} to {new}")


@verb("cp")
@repo_argument()
@click.argument("new")
@click.option("-m", "--message", help="What to say of the commit.")
def cp(session: Session, repo: str, new: str, message: str | None) -> None:
    """Commit the files of REPO, or REPO@REVISION, to NEW, or NEW@BRANCH, which share all bytes."""
    from ...library.operations import copy_revision

    with session.open() as vault:
        snapshot = vault.resolve(*split_repo(repo))
        made = copy_revision(vault, snapshot, *split_repo(new), message)
    session.emit({"commit": asdict(made)}, f"copied to {made.repo} {made.branch} {made.id}")


@verb("rm")
@repo_argument()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def rm(session: Session, repo: str, yes: bool) -> None:
    """Delete REPO with all its commits. Until gc removes its data, undelete restores it."""
    from ....dedup.maintenance.collection.plan import DEFAULT_GRACE_SECONDS

    def explain() -> tuple[str, str]:
        return f"interrupted; {repo} may have been deleted", "`weightvault ls` tells"

    with session.open() as vault:
        found = vault.describe_repo(repo)
        if not yes and not _confirm(found):
            raise Interrupted(f"{repo} was not deleted")
        with interruptible(explain):
            vault.delete_repo(repo)
    until = time.time() + DEFAULT_GRACE_SECONDS
    document = {"deleted": repo, "own": found.cost.exclusive, "restorable_until": until}
    session.emit(document, _describe_deleted(found, until, config.is_server(session.url)))


def _describe_deleted(found: RepoInfo, until: float, served: bool) -> str:
    commits = format_count(found.cost.commits, "commit")
    own = format_bytes(found.cost.exclusive)
    kept = "stored" if found.cost.counted == "frames" else "of distinct content"
    where = ", where the server runs," if served else ""
    return (
        f"deleted {show(found.name)}, {commits}\n"
        f"{own} {kept} for it alone can be freed: by `weightvault gc`{where} after "
        f"{format_time(until)}, at the earliest\n"
        f"until then, `weightvault undelete {show(found.name)}`{where} restores it"
    )


def _confirm(found: RepoInfo) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("rm asks before it deletes, and nobody is there: add --yes")
    freed = format_bytes(found.cost.exclusive)
    commits = format_count(found.cost.commits, "commit")
    return click.confirm(f"delete {show(found.name)}, {commits}, {freed} of its own?", err=True)


def _describe_list(repos: list[RepoSummary]) -> str:
    if not repos:
        return "no repos yet"
    head = ("repo", "branches", "files", "size", "updated")
    rows = [
        (r.name, ",".join(r.branches), str(r.files), format_bytes(r.size), format_time(r.updated))
        for r in repos
    ]
    return format_table([head, *rows], left=2)


def _describe_repo(found: RepoInfo) -> str:
    cost = found.cost
    kept = "stored" if cost.counted == "frames" else "of distinct content"
    facts = [
        ("repo", found.name),
        *((f"branch {name}", commit) for name, commit in found.branches.items()),
        ("newest", f"{found.commit.id} of {format_time(found.commit.created)}"),
        ("base", found.commit.base or "none"),
        ("commits", str(cost.commits)),
        ("logical", format_bytes(cost.logical)),
        ("unique", format_bytes(cost.unique)),
        ("own", f"{format_bytes(cost.exclusive)} {kept} for this repo alone"),
        ("shared", f"{format_bytes(cost.shared)} {kept} for others too"),
        *(("computed", _describe_computed(each)) for each in found.computed),
    ]
    return f"{format_table(facts, left=2)}\n\n{_describe_files(found.files)}"


def _describe_files(files: Sequence[FileInfo]) -> str:
    rows = [(f.path, str(f.tensors), format_bytes(f.size), f"  {f.blake3[:16]}") for f in files]
    return format_table([("file", "tensors", "size", "  blake3"), *rows])


def _describe_computed(found: Computed) -> str:
    """Says what is computed from what: "Q4_K of blk.0.weight and 3 more, from org/base"."""
    what = f"{found.dtype} of {found.source or 'a tensor'}"
    if found.tensors > 1:
        what += f" and {found.tensors - 1} more"
    size = f"{format_bytes(found.raw)} in {format_bytes(found.stored)}"
    return f"{what}, from {found.repo or 'a deleted repo'}: {size}"
