"""The command `weightvault`: options before the verb, errors, exit statuses.

Only modules that load in milliseconds are imported here and in the verbs; what a verb needs
beyond that, it imports when it runs.
"""

from __future__ import annotations

import difflib
import os
import platform
import sys
import traceback
from typing import Any, NoReturn

import click

from ... import __version__
from ...dedup.errors import Unfit, VaultError
from .. import config
from ..errors import error_body, from_os_error
from . import exits
from .completion import completion
from .console import Interrupted, Session, print_failure, print_json, print_text
from .options import json_option, verb
from .signals import heed_signals
from .streams import open_standard_streams
from .verbs import bill as verbs_bill
from .verbs import content, history, inspect_file, maintenance, repos, transfer
from .verbs import families as verbs_families
from .verbs import report as verbs_report
from .verbs import serve as verbs_serve
from .verbs.admin import quotas, retention, tokens
from .verbs.admin import settings as verbs_settings
from .verbs.hubs import imports
from .verbs.hubs import mirror as verbs_mirror

_EPILOG = f"""\b
Environment:
  WEIGHTVAULT_URL        the vault, unless --vault is given
  WEIGHTVAULT_CATALOGUE  database of the catalogue, unless --catalogue is given
  WEIGHTVAULT_CACHE      folder to cache packs of an S3 vault in
  WEIGHTVAULT_CACHE_BYTES  the largest size of that cache, 20 GiB by default
  WEIGHTVAULT_CHUNKS     folder to keep chunks in that were read from servers
  WEIGHTVAULT_CHUNKS_BYTES  the largest size of that, 10 GiB by default; 0: none are kept
  WEIGHTVAULT_TOKEN      token to send to a server
  WEIGHTVAULT_ANONYMOUS_READS  what a server shows without a token: none, public or all
  WEIGHTVAULT_INGEST     when a server encodes uploads of hub clients: background or inline
  WEIGHTVAULT_MAX_CONNECTIONS, WEIGHTVAULT_MAX_CONNECTIONS_PER_CLIENT, WEIGHTVAULT_TRUSTED_PROXIES
                         as the options of serve that are called so
  WEIGHTVAULT_ALLOWED_HOSTS, WEIGHTVAULT_ROOT_PATH
                         as --allowed-host (with commas) and --root-path of serve
  WEIGHTVAULT_WORKERS    how many processes of serve answer, unless --workers is given
  WEIGHTVAULT_UPSTREAM   the hub that serve and mirror copy, unless --upstream is given
  WEIGHTVAULT_UMASK      permissions that new files of a vault lack, 077 unless given
  WEIGHTVAULT_PRICES     table of prices for reports, unless --prices is given
  WEIGHTVAULT_DEBUG      1: show tracebacks

\b
{exits.describe_statuses()}

With --json, before or after the command, stdout carries one JSON document. A
failure is one, too: {{"error": {{"code", "message", "hint"}}}}.
"""


# What others call our verbs.
_ELSEWHERE = {
    **dict.fromkeys(("delete", "remove", "del", "destroy"), "rm"),
    **dict.fromkeys(("list", "repos", "dir"), "ls"),
    **dict.fromkeys(("download", "get", "fetch", "clone", "restore", "checkout"), "pull"),
    **dict.fromkeys(("upload", "put", "add", "commit", "backup", "create", "store"), "push"),
    **dict.fromkeys(("show", "status", "describe", "stat"), "info"),
    **dict.fromkeys(("prune", "clean", "compact"), "gc"),
    **dict.fromkeys(("restore-repo", "recover"), "undelete"),
    **dict.fromkeys(("server", "start"), "serve"),
    **dict.fromkeys(("login", "auth"), "token"),
    "fsck": "check",
}


class VaultGroup(click.Group):
    """A click group whose failures look alike, whoever raised them."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Runs a command line, as click's own main, and exits with a status of exits."""
        session = Session()
        extra |= {"standalone_mode": False, "obj": session}
        try:
            status = super().main(*args, **extra)
        except (Exception, KeyboardInterrupt) as error:
            status = _report_failure(error, session)
        sys.exit(status if isinstance(status, int) else exits.OK)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the verbs under what they are about."""
        width = formatter.width - 6 - max(map(len, self.commands))
        for title, verbs in _SECTIONS.items():
            with formatter.section(title):
                rows = [(each.name or "", each.get_short_help_str(width)) for each in verbs]
                formatter.write_dl(rows, col_max=max(map(len, self.commands)))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the verb; for one that is not there, suggests the nearest."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            meant = _ELSEWHERE.get(name) or (near[0] if near else None)
            suggestion = f"did you mean `weightvault {meant}`?" if meant else None
            raise UnknownVerb(f"there is no command {name!r}", suggestion)
        return super().resolve_command(ctx, args)


class UnknownVerb(click.UsageError):
    """A verb that is not there, with the one that was probably meant."""

    def __init__(self, message: str, suggestion: str | None) -> None:
        super().__init__(message)
        self.suggestion = suggestion


@click.group(
    "weightvault",
    cls=VaultGroup,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--vault", metavar="URL", help="Folder, s3://bucket/prefix or http://host:port.")
@click.option(
    "--catalogue",
    metavar="URL",
    help="Database for the catalogue of a local vault: sqlite:///… or postgresql://…",
)
@json_option
@click.version_option(__version__, prog_name="weightvault")
@click.pass_obj
def cli(session: Session, vault: str | None, catalogue: str | None) -> None:
    """Stores AI model weights losslessly in a fraction of their size, and returns exactly the bytes
    that were stored.

    The vault is a folder (by default in your user data), an S3 bucket or a server. Most commands
    work on all three. Maintenance commands run where the server runs, on the folder or bucket that
    it serves.
    """
    session.vault, session.catalogue = vault, catalogue
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        if session.json:
            raise click.UsageError("a command is missing", context)
        click.echo(context.get_help())


@verb("version")
def version(session: Session) -> None:
    """Show the versions of weightvault and Python."""
    document = {"version": __version__, "python": platform.python_version()}
    session.emit(document, f"weightvault {__version__} (Python {document['python']})")


_SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Models": (transfer.push, transfer.pull, repos.ls, repos.info, content.verify),
    "History": (history.log, history.diff, history.tag, history.branch),
    "Content": (content.cat, content.tensor, inspect_file.inspect),
    "Other places": (imports.import_all, imports.export, verbs_mirror.mirror),
    "Repos": (repos.mv, repos.cp, repos.rm, maintenance.undelete, retention.forget),
    "Sizes": (
        verbs_report.report,
        verbs_bill.bill,
        verbs_families.families,
        verbs_families.optimise,
    ),
    "Servers": (
        verbs_serve.serve,
        verbs_serve.work,
        tokens.token,
        quotas.quota,
        retention.retention,
        verbs_settings.settings,
    ),
    "Maintenance": (
        verbs_report.check,
        maintenance.gc,
        maintenance.scrub,
        maintenance.repair,
        maintenance.rebuild_catalogue,
        maintenance.migrate,
        verbs_serve.warmup,
        completion,
        version,
    ),
}
for section in _SECTIONS.values():
    for command in section:
        cli.add_command(command)


def main() -> NoReturn:
    """The entry point of the installed command."""
    open_standard_streams()
    heed_signals()
    try:
        cli.main(prog_name="weightvault")
    except SystemExit as done:
        if done.code == exits.INTERRUPTED:
            _leave_at_once()
        raise


def _leave_at_once() -> NoReturn:
    """Ends the process without waiting for its threads: one may be sending a pack for minutes, and
    what it leaves half done is nothing but what a crash leaves."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exits.INTERRUPTED)


def _report_failure(error: BaseException, session: Session) -> int:
    """Says on stderr (and with --json on stdout) what failed; returns the exit status."""
    if config.debug():
        print_text("".join(traceback.format_exception(error)), err=True)
    code, status, message, hint = _classify(error)
    print_failure(message, hint)
    if session.json:
        body = error_body(code, message, hint)
        if isinstance(error, Unfit):
            # The message is cut where there are many.
            body["error"]["files"] = [{"path": p, "reason": why} for p, why in error.problems]
        print_json(body)
    return status


def _classify(error: BaseException) -> tuple[str, int, str, str | None]:
    """Returns code, exit status, message and hint."""
    if isinstance(error, click.ClickException):
        return "usage", exits.USAGE, error.format_message(), _usage_hint(error)
    if isinstance(error, Interrupted):
        return "interrupted", exits.INTERRUPTED, error.message, error.hint
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return "interrupted", exits.INTERRUPTED, "interrupted; nothing was changed", None
    if isinstance(error, OSError) and error.errno is not None:
        error = from_os_error(error, f"cannot use {error.filename or 'a file'}")
    if isinstance(error, VaultError):
        hint = error.hint or exits.default_hint(error)
        return error.code, exits.exit_status(error), error.message, hint
    message = f"unexpected {type(error).__name__}: {error}"
    hint = "this is a fault of weightvault; WEIGHTVAULT_DEBUG=1 shows where it happened"
    return "internal", exits.FAILED, message, hint


def _usage_hint(error: click.ClickException) -> str:
    suggestion = getattr(error, "suggestion", None)
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
    return suggestion or f"`{path or 'weightvault'} --help` shows what there is"


if __name__ == "__main__":
    main()
