"""The verbs of a server: serve, work, and warmup, which it does first."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

import click

from ....dedup.errors import InvalidInput
from ... import config, server_config
from ...extras import extra
from ..console import Session
from ..options import BytesType, upstream_options, verb

if TYPE_CHECKING:
    from ...server.workers import Site


@verb("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8377,
    show_default=True,
    help="The port to listen on; 0 for a free one.",
)
@click.option(
    "--anonymous-reads",
    type=click.Choice(("none", "public", "all")),
    help="What those without a token may read, once there are tokens.  [default: none]",
)
@click.option(
    "--reserve",
    type=BytesType(),
    metavar="BYTES",
    help="Free disk that uploads must leave, so that the server can go on.  [default: 256M]",
)
@click.option(
    "--log-format",
    type=click.Choice(("plain", "json")),
    help="JSON lines with request ids, or plain text: by default plain on a terminal only.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    help="The most connections at a time.  [default: 2000]",
)
@click.option(
    "--max-connections-per-client",
    type=click.IntRange(1),
    help="The most connections from one address; idle ones make room for new ones.  [default: 512]",
)
@click.option(
    "--allowed-host",
    multiple=True,
    metavar="NAME",
    help="A name that clients may call this server by, as behind a reverse proxy; may be given "
    "several times.  [default: localhost, addresses, and --host]",
)
@click.option(
    "--trusted-proxy",
    "--forwarded-allow-ips",
    multiple=True,
    metavar="ADDRESS",
    help="A reverse proxy, or a network of them, whose X-Forwarded-For and X-Forwarded-Proto are "
    "believed; several with commas between, or given several times.  [default: none]",
)
@click.option(
    "--root-path",
    metavar="PATH",
    help="What addresses begin with where a reverse proxy has the server below a path, as /models.",
)
@click.option(
    "--audit-log",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file for the audit log, one JSON object a line; reopened when it was renamed. "
    " [default: among the other logs]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Processes that answer; with several, another one works in the background.  [default: 1]",
)
@click.option(
    "--background/--no-background",
    default=True,
    help="Encode uploads, keep totals and forget by rules beside the requests, or leave that to "
    "`weightvault work`.  [default: --background]",
)
@upstream_options
def serve(
    session: Session,
    host: str,
    port: int,
    anonymous_reads: str | None,
    reserve: float | None,
    log_format: str | None,
    max_connections: int | None,
    max_connections_per_client: int | None,
    allowed_host: tuple[str, ...],
    trusted_proxy: tuple[str, ...],
    root_path: str | None,
    audit_log: Path | None,
    workers: int | None,
    background: bool,
    **upstream: Any,
) -> None:
    """Serve the vault, a folder or S3, over HTTP until told to stop: for weightvault, for the
    clients of Hugging Face (HF_ENDPOINT) and git-lfs, and for browsers.

    With --upstream it mirrors another hub: what is not here is fetched from there at first use.
    Prints one line with the server's address once it takes requests; logs go to stderr.
    """
    if config.is_server(session.url):
        raise InvalidInput(
            f"{session.url} is a server already", "serve a folder or s3://bucket/prefix"
        )
    from ...mirror.chosen import choose_upstream

    with extra("server", "a server"):
        from ...server import serving
        from ...server.workers import Site

    def announce(url: str) -> None:
        line = json.dumps({"url": url, "pid": os.getpid()}) if session.json else f"serving {url}"
        click.echo(line)

    limits = server_config.connection_limits(
        max_connections, max_connections_per_client, trusted_proxy
    )
    hosts = (host, *allowed_host)
    settings = server_config.server_settings(anonymous_reads, limits, hosts, root_path)
    mirrored = choose_upstream(**upstream)
    reserved = settings.reserve_bytes if reserve is None else int(reserve)
    settings = replace(settings, upstream=mirrored, background=background, reserve_bytes=reserved)
    if audit_log is not None:
        config.prepare_log(audit_log)
    listener = serving.listen(host, port)
    site = Site(session.url, session.catalogue, settings, _log_form(log_format), audit_log)
    _answer(site, listener, announce, workers or server_config.worker_count())


def _answer(site: Site, listener: socket, announce: Callable[[str], None], count: int) -> None:
    """Serves with `count` processes, of which the only one is this."""
    from ...server import serving, workers

    form, log = site.log_format, site.audit_log
    vault = config.open_local_vault(site.url, site.catalogue)
    try:
        exposed = config.find_exposure(vault)
        warnings = [": ".join(exposed)] if exposed else []
        if count == 1:
            serving.run(vault, listener, announce, site.settings, form, warnings, log)
            return
        serving.check_start(vault, listener, form, warnings, log)
    finally:
        vault.close()
    workers.run(site, listener, announce, count)


@verb("work")
@click.option(
    "--log-format",
    type=click.Choice(("plain", "json")),
    help="JSON lines, or plain text: by default plain on a terminal only.",
)
def work(session: Session, log_format: str | None) -> None:
    """Do what servers do in the background, in a process of its own, until told to stop: encode
    uploads, put totals on record, forget commits by the rules of namespaces.

    For vaults whose servers run with --no-background. Any number of processes may be at it, on
    any machine that reaches the vault. Prints one line once it is at work.
    """
    if config.is_server(session.url):
        raise InvalidInput(f"{session.url} is a server", "name the folder or bucket that it serves")
    with extra("server", "a server"):
        from ...server import work as working

    def announce() -> None:
        line = json.dumps({"vault": session.url, "pid": os.getpid()})
        click.echo(line if session.json else f"working for {session.url}")

    vault = config.open_local_vault(session.url, session.catalogue)
    try:
        working.run(vault, announce, _log_form(log_format))
    finally:
        vault.close()


def _log_form(given: str | None) -> str:
    return given or ("plain" if sys.stderr.isatty() else "json")


@verb("warmup")
def warmup(session: Session) -> None:
    """Compile the kernels that code tensors, so that no push or server has to wait for that.

    It is done once for each processor, version of weightvault and user. In the build of an image,
    what is compiled stays in it.
    """
    from ....dedup.reading.warmup import EVERY, prepare_kernels
    from ...progress import make_progress

    started = time.monotonic()
    prepare_kernels(EVERY, make_progress())
    seconds = time.monotonic() - started
    document = {"kinds": len(EVERY), "seconds": seconds}
    session.emit(document, f"prepared kernels for {len(EVERY)} kinds of tensors in {seconds:.1f} s")
