"""Runs the HTTP application on a socket until a signal ends it."""

from __future__ import annotations

import errno
import ipaddress
import logging
import logging.config
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from ...dedup.errors import AccessRefused, InvalidInput, Unreachable, VaultError
from ...dedup.local_vault import LocalVault
from ...dedup.model.store_marker import close_store
from ...dedup.reading.warmup import USUAL, prepare_kernels
from ...dedup.repository.journal.lost_entries import require_whole
from ...store.catalogue.tokens import was_closed
from ..requests.connections import Connections
from ..requests.settings import ServerSettings
from .app import create_app
from .logs import configure
from .stopping import Stopping

# When requests that did not end with their tokens (stopping.py) lose their connections.
_GRACE_SECONDS = 6
_BACKLOG = 512
# linux/tcp.h; Python does not name it in all versions.
_TCP_NOTSENT_LOWAT = 25
_UNSENT_BYTES = 512 << 10
# Kernels that are in a cache take less to load.
_TELL_SECONDS = 2.0

_log = logging.getLogger("weightvault.api")


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens on `host` and `port`, 0 for a free port.

    Raises InvalidInput when the port is taken or the host is none of this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise _listen_error(error, host, port) from error
    # Connections inherit this. Without it header and body of an answer, two writes, wait for each
    # other: 45 ms a request instead of 4 on a kept connection over loopback.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        # And this: of what a client does not read, the system takes so much and not megabytes.
        listener.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    return listener


def run(
    vault: LocalVault,
    listener: socket.socket,
    announce: Callable[[str], None],
    settings: ServerSettings | None = None,
    log_format: str = "plain",
    warnings: Sequence[str] = (),
    audit_log: Path | None = None,
) -> None:
    """Serves `vault` until SIGINT or SIGTERM; calls `announce` with the URL once it does. Logs
    are in one of logs.FORMATS, and begin with `warnings`; the audit log is among them unless it has
    a file of its own. Raises JournalCut where the store has tokens and it cannot be known which."""
    _check_tokens(vault)
    url = _url_of(listener)
    app = create_app(vault, settings)
    config = make_config(app, log_config=configure(log_format, audit_log))
    stopping = Stopping(app.state.work, app.state.upkeep)
    server = AnnouncingServer(config, lambda: announce(url), stopping)
    # Of several processes, the one that starts them did this.
    if app.state.settings.workers == 1:
        _warn(vault, listener, warnings)
    with _stopping_well(server):
        _prepare_kernels(lambda: server.should_exit)
        server.run(sockets=[listener])


def check_start(
    vault: LocalVault,
    listener: socket.socket,
    log_format: str,
    warnings: Sequence[str],
    audit_log: Path | None,
) -> None:
    """Does what `run` does first, for other processes that will serve `vault`; raises as it."""
    logging.config.dictConfig(configure(log_format, audit_log))
    _check_tokens(vault)
    _warn(vault, listener, warnings)


def _warn(vault: LocalVault, listener: socket.socket, warnings: Sequence[str]) -> None:
    _warn_if_open(vault, listener)
    for warning in warnings:
        _log.warning("%s", warning)


def _prepare_kernels(is_stopping: Callable[[], bool]) -> None:
    """Compiles what requests need, or finds it in the cache, before the first one waits for it; a
    signal ends it after the kernels of a dtype."""
    started = time.monotonic()
    teller = threading.Timer(_TELL_SECONDS, _log.info, ["preparing kernels (once) before serving"])
    teller.daemon = True
    teller.start()
    for dtype in USUAL:
        if is_stopping():
            break
        prepare_kernels((dtype,))
    teller.cancel()
    seconds = time.monotonic() - started
    if seconds > _TELL_SECONDS:
        _log.info("prepared kernels in %.0f s: the next start finds them in a cache", seconds)


def make_config(app: FastAPI, **options: Any) -> uvicorn.Config:
    """Returns how uvicorn is to serve an application, by the limits in the application's settings;
    `options` are further ones of uvicorn's."""
    limits = app.state.settings.connections
    app.state.connections = Connections(limits)
    _raise_file_limit(2 * limits.most)
    return uvicorn.Config(
        app,
        http=app.state.connections.protocol(),
        lifespan="on",
        ws="none",
        server_header=False,
        # Addresses that clients claim to have are believed of proxies that the operator named.
        proxy_headers=bool(limits.trusted_proxies),
        forwarded_allow_ips=list(limits.trusted_proxies),
        # uvicorn's type is whole seconds; its timer takes any.
        timeout_keep_alive=limits.idle_seconds,  # type: ignore[arg-type]
        timeout_graceful_shutdown=_GRACE_SECONDS,
        **options,
    )


def _raise_file_limit(wanted: int) -> None:
    """Lets this process open as many files, if it may: a connection is one, as is what it reads."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning(
            "the system allows %d open files, too few for all connections: raise `ulimit -n`, or "
            "lower --max-connections",
            allowed,
        )


class AnnouncingServer(uvicorn.Server):
    """A uvicorn server that calls `announce` when it takes requests, and tells `stopping` of
    signals."""

    def __init__(
        self, config: uvicorn.Config, announce: Callable[[], None], stopping: Stopping
    ) -> None:
        super().__init__(config)
        self._announce = announce
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to stop, as uvicorn does, and within bounded time."""
        self._stopping.begin()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts as uvicorn does, then announces."""
        await super().startup(sockets)
        if self.started:
            self._announce()


@contextmanager
def _stopping_well(server: uvicorn.Server) -> Iterator[None]:
    """Within, a signal asks the server to stop and is no failure.

    uvicorn raises the signal that ended it a second time when it is done; so these handlers, not
    Python's, have to be there then, and before uvicorn's own are.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, server.handle_exit) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen_error(error: OSError, host: str, port: int) -> VaultError:
    if error.errno == errno.EADDRINUSE:
        return InvalidInput(
            f"port {port} on {host} is taken",
            "choose another with --port, or --port 0 for a free one",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return AccessRefused(f"port {port} on {host} is not allowed", "choose one from 1024 on")
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return InvalidInput(f"{host!r} is no address of this machine", "use 127.0.0.1 or 0.0.0.0")
    return Unreachable(f"cannot listen on {host} port {port}: {error.strerror}")


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _check_tokens(vault: LocalVault) -> None:
    """Raises JournalCut where it cannot be known which tokens are valid."""
    require_whole(vault.backend, vault.catalogue)
    if was_closed(vault.catalogue):
        # Older versions did not note it.
        close_store(vault.backend, vault.catalogue)


def _warn_if_open(vault: LocalVault, listener: socket.socket) -> None:
    host = listener.getsockname()[0]
    if not ipaddress.ip_address(host).is_loopback and not was_closed(vault.catalogue):
        _log.warning(
            "everybody who reaches %s can read, push and delete: `weightvault token create` makes "
            "the first token, and from then on one is needed",
            host,
        )
