"""The verb mirror: copies repos of another hub ahead of their use, and lists the copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .... import config
from ....formatting import format_bytes, format_count, format_table, format_time
from ....terminal import show
from ...console import Session
from ...options import upstream_options, verb

if TYPE_CHECKING:
    from .....store.catalogue.files.mirrors import MirrorTotals
    from ....mirror.mirror import Prefetched


@verb("mirror")
@click.argument("repos", nargs=-1, metavar="REPO[@REVISION]...")
@upstream_options
def mirror(
    session: Session,
    repos: tuple[str, ...],
    **upstream: Any,
) -> None:
    """Copy REPO, or REPO@REVISION, from the hub --upstream, whole and under its commit's id;
    without a REPO, list the copies that are here.

    Run again, it fetches what is new. It works on the folder or bucket that a server serves.
    """
    if not repos:
        _list(session)
        return
    from ....mirror.chosen import choose_upstream

    settings = choose_upstream(**upstream)
    if settings is None:
        raise click.UsageError("which hub? name it with --upstream, as https://huggingface.co")
    from ....library.names import split_repo
    from ....mirror.mirror import Mirror
    from ....progress import make_progress
    from ....requests.quotas import Quotas

    vault = config.open_local_vault(session.local_url(), session.catalogue)
    try:
        copier = Mirror(vault, settings, Quotas(vault))
        try:
            progress = make_progress()
            found = [copier.prefetch(*split_repo(repo), progress) for repo in repos]
        finally:
            copier.close()
        vault.note_heads()
    finally:
        vault.close()
    session.emit({"mirrored": [asdict(each) for each in found]}, _describe(found))


def _list(session: Session) -> None:
    from .....store.catalogue.files.mirrors import list_mirrors

    with session.open_local() as vault:
        found = list_mirrors(vault.catalogue)
    rows = [{**asdict(each.row), "files": each.files, "bytes": each.bytes} for each in found]
    session.emit({"mirrored": rows}, _describe_list(found))


def _describe(found: Sequence[Prefetched]) -> str:
    return "\n".join(
        f"{show(each.repo)} {each.commit}: {format_count(each.files, 'file')}, "
        f"{format_bytes(each.bytes)}, of which {format_count(each.fetched_files, 'file')}, "
        f"{format_bytes(each.fetched_bytes)}, were fetched"
        for each in found
    )


def _describe_list(found: Sequence[MirrorTotals]) -> str:
    if not found:
        return "no repos are copies of another hub's"
    head = ("repo", "of", "who may read", "files", "size", "used")
    rows = [
        (
            show(each.row.repo),
            show(each.row.upstream),
            "as there" if each.row.guarded else "everybody",
            str(each.files),
            format_bytes(each.bytes),
            format_time(each.row.used),
        )
        for each in found
    ]
    return format_table([head, *rows], left=3)
