"""The verbs about which commits stay: forget, and the rules of namespaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .....store.catalogue.access.rules import COUNT_NAMES, UNLIMITED, RetentionRules
from .... import config
from ....formatting import format_bytes, format_count, format_table, format_time
from ....terminal import show
from ...completion import repo_argument
from ...console import Session, interruptible
from ...options import SecondsType, verb

if TYPE_CHECKING:
    from .....dedup.model.history import Forgetting

_ID_DIGITS = 10
_PERIODS = {
    "last": "The newest N commits.",
    "hourly": "The newest commit of each of the last N hours that have one.",
    "daily": "The newest commit of each of the last N days that have one.",
    "weekly": "The newest commit of each of the last N ISO weeks that have one.",
    "monthly": "The newest commit of each of the last N months that have one.",
    "yearly": "The newest commit of each of the last N years that have one.",
}


class CountType(click.ParamType):
    """How many to keep: 1 or more, or `unlimited`."""

    name = "n"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Returns it as a whole number, -1 for all."""
        if value in ("unlimited", str(UNLIMITED)):
            return UNLIMITED
        text = str(value)
        if not text.isascii() or not text.isdecimal() or not 0 < len(text) < 10 or not int(text):
            self.fail(f"{text!r} is neither a number from 1 on nor `unlimited`", param, ctx)
        return int(text)


def _rule_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what to keep, as restic calls them."""
    tagged = "Commits that a tag names, which always stay: alone, it lets the others go."
    within = "Commits that are less than TIME older than the newest, such as 30d."
    function = click.option("--keep-tagged", "tagged", is_flag=True, help=tagged)(function)
    function = click.option(
        "--keep-within", "within_seconds", type=SecondsType(), help=within, metavar="TIME"
    )(function)
    for name in reversed(COUNT_NAMES):
        option = click.option(
            f"--keep-{name}", name, type=CountType(), help=_PERIODS[name], metavar="N"
        )
        function = option(function)
    return function


@verb("forget")
@repo_argument()
@_rule_options
@click.option("--dry-run", is_flag=True, help="Only say what would be forgotten, and freed.")
def forget(session: Session, repo: str, dry_run: bool, **rules: Any) -> None:
    """Remove commits of REPO that no rule keeps, branch by branch.

    A commit stays if any rule keeps it, and whenever a branch or a tag names it. Hours to years are
    those of UTC. The bytes that only the forgotten commits need go with the gc after its grace.
    """
    wanted = RetentionRules(**rules)
    if not wanted.any():
        raise click.UsageError("say what to keep, such as --keep-last 5")

    def explain() -> tuple[str, str]:
        return f"interrupted; commits of {repo} may be forgotten", "run it again"

    with session.open() as vault, interruptible(explain):
        found = vault.forget(repo, wanted, dry_run=dry_run)
    session.emit(asdict(found), _describe(found, config.is_server(session.url)))


@click.group("retention")
def retention() -> None:
    """Rules by which the repos of a namespace forget commits in the background.

    A server applies them every quarter of an hour. Without one, run `forget`.
    """


@verb("set")
@click.argument("namespace")
@_rule_options
def set_retention(session: Session, namespace: str, **rules: Any) -> None:
    """Give NAMESPACE these rules, in place of those that it has."""
    from .....dedup.maintenance.retention import set_rules

    wanted = RetentionRules(**rules)
    if not wanted.any():
        raise click.UsageError("say what to keep, such as --keep-daily 7")
    with session.open_local() as vault:
        set_rules(vault, namespace, wanted)
    session.emit({"namespace": namespace, "rules": asdict(wanted)}, _line(namespace, wanted))


@verb("show")
def show_retention(session: Session) -> None:
    """Show the rules of all namespaces that have any."""
    from .....dedup.maintenance.retention import find_rules

    with session.open_local() as vault:
        found = find_rules(vault)
    document = [{"namespace": name, "rules": asdict(rules)} for name, rules in found.items()]
    lines = [_line(name, rules) for name, rules in found.items()]
    session.emit({"retention": document}, "\n".join(lines) or "no namespace has rules")


@verb("remove")
@click.argument("namespace")
def remove_retention(session: Session, namespace: str) -> None:
    """Take the rules of NAMESPACE away: its repos keep all commits from then on."""
    from .....dedup.maintenance.retention import set_rules

    with session.open_local() as vault:
        set_rules(vault, namespace, RetentionRules())
    session.emit({"removed": namespace}, f"{namespace} has no rules any more")


for _command in (set_retention, show_retention, remove_retention):
    retention.add_command(_command)


def _line(namespace: str, rules: RetentionRules) -> str:
    from .....dedup.maintenance.retention import describe_rules

    return f"{namespace}  {' '.join(describe_rules(rules))}"


def _describe(found: Forgetting, served: bool) -> str:
    kept = [
        (each.commit.id[:_ID_DIGITS], format_time(each.commit.created), ", ".join(each.reasons))
        for each in found.kept
    ]
    goes = [
        (each.id[:_ID_DIGITS], format_time(each.created), "-- forgotten")
        for each in found.forgotten
    ]
    rows = sorted([*kept, *goes], key=lambda row: row[1], reverse=True)
    table = format_table([("commit", "of", "kept by"), *rows], left=3)
    count = format_count(found.forgotten_count, "commit")
    did = "would forget" if found.dry_run else "forgot"
    where = ", where the server runs," if served else ""
    what = "stored" if found.counted == "stored" else "of distinct content"
    freed = f"{format_bytes(found.freed)} ({found.freed} bytes) {what} can be freed"
    return (
        f"{table}\n\n{did} {count} of {show(found.repo)}, {found.kept_count} stay\n"
        f"{freed} by `weightvault gc`{where} after its grace"
    )
