"""The verbs that keep a vault well: gc, undelete, scrub, repair, rebuild-catalogue, migrate.

They work on the folder or bucket itself, beside servers and other commands; a server that is asked
to do them refuses and says where to run them.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ... import config
from ...formatting import format_bytes, format_count
from ...progress import make_progress
from ...terminal import show
from .. import exits
from ..console import Session, interruptible
from ..options import BytesType, SecondsType, ShareType, verb

if TYPE_CHECKING:
    from ....dedup.maintenance.gc import Collected
    from ....dedup.verification.scrub import Scrubbed


@verb("gc")
@click.option(
    "--grace",
    type=SecondsType(bare=True),
    metavar="TIME",
    help="How long an object must be unused before it is deleted, as 12h, 7d or seconds; by "
    "default 7d. It must be longer than the longest pause of a push.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
@click.option(
    "--dead",
    type=ShareType(),
    metavar="SHARE",
    help="Rewrite packs of which at least this share is garbage; by default as long as more than "
    "2% of what is stored is garbage.",
)
@click.option(
    "--base-copies",
    type=click.IntRange(min=0),
    metavar="N",
    help="From now on, keep a second copy of bases of at least N deltas; 0 switches this off.",
)
@click.option(
    "--alone",
    is_flag=True,
    help="No other machine uses the store with a catalogue of its own, and no backup is being "
    "made: forget those that were seen.",
)
def gc(
    session: Session,
    grace: float | None,
    dry_run: bool,
    dead: float | None,
    base_copies: int | None,
    alone: bool,
) -> None:
    """Collect garbage: delete what nothing has needed for the grace period.

    What is not needed now gets a tombstone, and is removed by the first gc after its grace; frames
    that better ones replaced go at once, where no other catalogue was at work within a week. Safe
    beside pushes, pulls and servers.
    """
    from ....dedup.maintenance.collection.plan import DEFAULT_GRACE_SECONDS
    from ....dedup.maintenance.gc import Collector
    from ....dedup.repository.journal.heads import forget_others

    def explain() -> tuple[str, str]:
        return "interrupted; nothing that is needed was touched", "run gc again to go on"

    with session.open_local() as vault, interruptible(explain):
        if base_copies is not None and not dry_run:
            vault.keep_base_copies(base_copies)
        if alone and not dry_run:
            forget_others(vault.backend, vault.catalogue)
        least = vault.base_copies() if base_copies is None else base_copies
        collector = Collector(
            vault,
            grace_seconds=DEFAULT_GRACE_SECONDS if grace is None else grace,
            dead_share=dead,
            copies_from=least or None,
            progress=make_progress(),
        )
        found = collector.predict() if dry_run else collector.run()
        if not dry_run:
            vault.record_totals()
    session.emit(asdict(found), _describe_collected(found))


@verb("undelete")
@click.argument("repo")
def undelete(session: Session, repo: str) -> None:
    """Restore REPO as it was when it was last deleted, unless gc has deleted its files."""
    from ....dedup.maintenance.undelete_repo import undelete as bring_back

    def explain() -> tuple[str, str]:
        return f"interrupted; {repo} may be back in part", "run undelete again to go on"

    with session.open_local() as vault, interruptible(explain):
        found = bring_back(vault, repo)
    session.emit(asdict(found), f"{repo} is back, {format_count(found.commits, 'commit')}")


@verb("scrub")
@click.option(
    "--sample",
    type=ShareType(),
    metavar="SHARE",
    help="Read only this share, longest unread first.",
)
@click.option(
    "--rate", type=BytesType(), metavar="BYTES", help="Read at most so many bytes a second."
)
def scrub(session: Session, sample: float | None, rate: float | None) -> None:
    """Read, decode and hash everything that is stored; record damage.

    Ends with status 1 if anything is. A scrub that was stopped goes on where it was.
    """
    from ....dedup.verification.scrub import Scrubber

    def explain() -> tuple[str, str]:
        return "interrupted; what was read is noted", "run scrub again to go on"

    with session.open_local() as vault, interruptible(explain):
        scrubber = Scrubber(vault, sample=sample or 1.0, rate=rate, progress=make_progress())
        found = scrubber.run()
    session.emit({"ok": not found.problems, **asdict(found)}, _describe_scrubbed(found))
    if found.problems:
        click.get_current_context().exit(exits.FAILED)


@verb("repair")
@click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
@click.option(
    "--accept-lost-entries",
    is_flag=True,
    help="Give up journal entries that are gone and that this catalogue never read.",
)
def repair(session: Session, dry_run: bool, accept_lost_entries: bool) -> None:
    """Repair what the last scrub found, from redundant copies; name what has none.

    Ends with status 1 if files are lost.
    """
    from ....dedup.maintenance.repair import Repairer, sentences

    def explain() -> tuple[str, str]:
        return "interrupted; what was repaired stays repaired", "run repair again to go on"

    with session.open_local(rebuild_marker=not dry_run) as vault, interruptible(explain):
        done = Repairer(
            vault, dry_run=dry_run, accept_lost=accept_lost_entries, progress=make_progress()
        ).run()
    session.emit(asdict(done), "\n".join(map(show, sentences(done))) or "nothing to repair")
    if done.lost:
        click.get_current_context().exit(exits.FAILED)


@verb("rebuild-catalogue")
def rebuild_catalogue(session: Session) -> None:
    """Rebuild the catalogue from the stored objects. Stop its servers first.

    Ends with status 1 if entries of the journal are gone.
    """
    from ....dedup.maintenance.rebuild_catalogue import rebuild_catalogue as rebuild

    def explain() -> tuple[str, str]:
        return "interrupted; the catalogue is not complete", "the next command goes on with it"

    parts = config.open_parts(session.local_url(alone=True), session.catalogue, migrate=True)
    try:
        with interruptible(explain):
            found = rebuild(parts.backend, parts.catalogue, make_progress())
    finally:
        parts.close()
    text = (
        f"{format_count(found.repos, 'repo')}, {format_count(found.commits, 'commit')} and "
        f"{format_count(found.packs, 'pack')} from {found.entries} journal entries"
    )
    session.emit(asdict(found), "\n".join([text, *map(show, found.lost)]))
    if found.lost:
        click.get_current_context().exit(exits.FAILED)


@verb("migrate")
def migrate(session: Session) -> None:
    """Upgrade the tables of the catalogue. Stop the servers that share it first."""
    progress = make_progress()
    with ExitStack() as ending:

        def tell(done: int, total: int) -> None:
            if done:
                progress.advance(1)
            else:
                progress.begin("migrating", total, "versions")
                ending.callback(progress.end)

        def explain() -> tuple[str, str]:
            return "interrupted; the catalogue is as it was", "run migrate again: it starts over"

        with interruptible(explain):
            parts = config.open_parts(
                session.local_url(alone=True), session.catalogue, migrate=True, on_step=tell
            )
    parts.close()
    session.emit({"catalogue": parts.catalogue.url}, f"{parts.catalogue.url} is up to date")


def _describe_collected(found: Collected) -> str:
    would = "would be " if found.dry_run else ""
    rows = [
        f"{_objects(found.removed, found.removed_bytes)} {would}removed",
        f"{_objects(found.retired, found.retired_bytes)} {would}given a tombstone",
        f"{_objects(found.waiting, found.waiting_bytes)} waiting for the end of the grace",
    ]
    if found.compacted:
        moved = format_bytes(found.moved_bytes)
        rows.append(f"{format_count(found.compacted, 'pack')} {would}rewritten, {moved} moved")
    if found.copied_bytes:
        rows.append(f"{format_bytes(found.copied_bytes)} of bases stored a second time")
    if found.strays:
        rows.append(f"{_objects(found.strays, found.strays_bytes)} of dead pushes {would}removed")
    if found.others:
        others = format_count(found.others, "other catalogue")
        rows.append(
            f"replaced frames wait for the grace: {others}, or a backup, was at work here within "
            "a week; if there is none any more, run `gc --alone`"
        )
    return "\n".join(rows)


def _objects(count: int, size: int) -> str:
    return f"{format_count(count, 'object')} ({format_bytes(size)})"


def _describe_scrubbed(found: Scrubbed) -> str:
    went_on = f", {format_count(found.skipped, 'pack')} read before" if found.resumed else ""
    seen = (
        f"{format_count(found.packs, 'pack')} with {format_count(found.frames, 'frame')} "
        f"({format_bytes(found.bytes)}) and {format_count(found.objects, 'other object')} "
        f"read{went_on}"
    )
    verdict = f"{format_count(len(found.problems), 'problem')}:" if found.problems else "all well"
    return "\n".join((f"{seen}: {verdict}", *map(show, found.problems)))
