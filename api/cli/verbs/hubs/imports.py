"""The verbs import and export: takes over what others keep; writes what clients of hubs read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .....dedup.errors import InvalidInput
from .... import config
from ....formatting import format_bytes, format_count, format_percent, format_table
from ....library.names import split_repo
from ....terminal import show
from ... import exits
from ...completion import repo_argument
from ...console import Session, interruptible
from ...options import verb

if TYPE_CHECKING:
    from .....dedup.repository.repository import Repository
    from .....dedup.transfer.imports.revisions import ImportReport
    from ....hub.cache_export import Exported

_USUAL = ""


@verb("import")
@click.option(
    "--hf-cache",
    is_flag=False,
    flag_value=_USUAL,
    metavar="[DIR]",
    help="A cache of huggingface_hub: all revisions of all repos in it; this user's by default.",
)
@click.option(
    "--dir-per-repo",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with a folder NAMESPACE/NAME for each repo.",
)
@click.option("--s3", metavar="URL", help="s3://bucket/prefix with files NAMESPACE/NAME/PATH.")
@click.option(
    "--namespace",
    metavar="NAME",
    help="The namespace of repos whose names have none: folders are called NAME then.",
)
@click.option("--skip-broken", is_flag=True, help="Leave out files that cannot be stored.")
def import_all(
    session: Session,
    hf_cache: str | None,
    dir_per_repo: Path | None,
    s3: str | None,
    namespace: str | None,
    skip_broken: bool,
) -> None:
    """Store everything in a place that keeps many repos, under the names that they have there.

    Revisions of a cache become commits with the ids that they have at the hub, on its branches.
    Stopped, it goes on where it was when it is run again. It works on a folder or bucket, where the
    server runs, also while it does.
    """
    if [hf_cache, dir_per_repo, s3].count(None) != 2:
        raise click.UsageError("name one of --hf-cache, --dir-per-repo and --s3")
    vault = config.open_local_vault(session.local_url(), session.catalogue)

    def explain() -> tuple[str, str]:
        return "interrupted; what was imported is kept", "run the command again to go on"

    try:
        with interruptible(explain):
            found = _import(session, vault, hf_cache, dir_per_repo, s3, namespace, skip_broken)
        vault.note_heads()
    finally:
        vault.close()
    totals = {"logical": found.logical, "stored": found.stored}
    session.emit({**asdict(found), **totals}, _describe(found))
    if found.failed:
        click.get_current_context().exit(exits.INVALID_INPUT)


def _import(
    session: Session,
    vault: Repository,
    hf_cache: str | None,
    dir_per_repo: Path | None,
    s3: str | None,
    namespace: str | None,
    skip_broken: bool,
) -> ImportReport:
    from .....dedup.transfer.folders.rules import Rules
    from .....dedup.transfer.imports.found_repos import find_cached, find_folders
    from .....dedup.transfer.imports.revisions import import_revisions
    from ....progress import make_progress

    own = config.own_paths(session.url, session.catalogue)
    options = {"rules": Rules(own=own, skip_broken=skip_broken), "progress": make_progress()}
    if s3 is not None:
        from .....dedup.transfer.imports.buckets import import_bucket

        return import_bucket(vault, _open_bucket(s3), namespace, **options)
    if dir_per_repo is not None:
        found = find_folders(dir_per_repo, namespace)
    else:
        found = find_cached(Path(hf_cache or config.hub_cache()).expanduser(), namespace)
    return import_revisions(vault, found.revisions, found.left_out, **options)


def _open_bucket(url: str):
    from .....store.backends.open import open_backend
    from .....store.backends.s3 import S3Backend

    try:
        bucket = open_backend(url)
    except ValueError as error:
        raise InvalidInput(str(error), "write s3://bucket/prefix") from error
    if not isinstance(bucket, S3Backend):
        raise InvalidInput(f"{url!r} is no address of a bucket", "write s3://bucket/prefix")
    return bucket


@verb("export")
@repo_argument()
@click.argument("dest", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--as-hf-cache",
    is_flag=True,
    required=True,
    help="In the form in which huggingface_hub keeps its downloads.",
)
def export(session: Session, repo: str, dest: Path, as_hf_cache: bool) -> None:
    """Write REPO, or REPO@REVISION, into the folder DIR so that HF_HUB_CACHE=DIR makes clients of
    hubs read it without a server. Run again, it writes what lacks."""
    from ....hub.cache_export import export_to_cache
    from ....progress import make_progress

    with session.open() as vault:
        found = export_to_cache(vault, *split_repo(repo), dest, make_progress())
    session.emit(asdict(found), _describe_export(found))


def _describe(found: ImportReport) -> str:
    head = ("repo", "commit", "refs", "files", "size", "added")
    rows = [
        (
            show(each.repo),
            each.commit[:12],
            show(",".join(each.refs)),
            str(each.files),
            format_bytes(each.logical),
            "was there" if each.present else format_bytes(each.stored),
        )
        for each in found.imported
    ]
    share = format_percent(found.stored, found.logical) if found.logical else "0 %"
    remarks = "".join(f"\nleft out {show(e.path)}: {show(e.reason)}" for e in found.left_out)
    failed = "".join(f"\nfailed {show(e.path)}: {show(e.reason)}" for e in found.failed)
    return (
        f"{format_table([head, *rows], left=3)}\n\n"
        f"{format_bytes(found.logical)} in {format_count(len(found.imported), 'revision')} added "
        f"{format_bytes(found.stored)} ({share}){remarks}{failed}"
    )


def _describe_export(found: Exported) -> str:
    return (
        f"wrote {found.commit} into {show(found.folder)}\n"
        f"{format_count(found.files, 'file')}, {format_bytes(found.logical)}, "
        f"{found.present} there before"
    )
