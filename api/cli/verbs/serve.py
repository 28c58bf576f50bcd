"""The verbs of a server: serve, and warmup, which it does first."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ....dedup.errors import InvalidInput
from ... import config, server_config
from ...extras import extra
from ..console import Session
from ..options import BytesType, upstream_options, verb


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

    def announce(url: str) -> None:
        line = json.dumps({"url": url, "pid": os.getpid()}) if session.json else f"serving {url}"
        click.echo(line)

    limits = server_config.connection_limits(
        max_connections, max_connections_per_client, trusted_proxy
    )
    hosts = (host, *allowed_host)
    settings = server_config.server_settings(anonymous_reads, limits, hosts, root_path)
    mirrored = choose_upstream(**upstream)
    settings = replace(settings, upstream=mirrored)
    if reserve is not None:
        settings = replace(settings, reserve_bytes=int(reserve))
    if audit_log is not None:
        config.prepare_log(audit_log)
    listener = serving.listen(host, port)
    vault = config.open_local_vault(session.url, session.catalogue)
    try:
        form = log_format or ("plain" if sys.stderr.isatty() else "json")
        exposed = config.find_exposure(vault)
        warnings = [": ".join(exposed)] if exposed else []
        serving.run(vault, listener, announce, settings, form, warnings, audit_log)
    finally:
        vault.close()


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
