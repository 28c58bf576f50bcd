"""How a server behaves, beyond the vault it serves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...store.private import PRIVATE_UMASK

INGEST = ("background", "inline")
"""When uploads of foreign clients are coded: in the background, or before they are answered."""

# Each takes up to 0.2 GiB while it decodes what was uploaded, on all cores; others wait their turn.
CHECKS_AT_ONCE = 4
# The catalogue's database and its log go on growing when uploads are refused.
RESERVE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What clients may hold of a server: connections, and time in which nothing happens.

    `most` connections are open in all, `most_per_client` from one address; addresses in
    `trusted_proxies` stand for others, whom they name in X-Forwarded-For, and count in all only.
    A request's head has `head_seconds`. A client that sends a body or receives an answer moves
    `progress_bytes` in each `progress_seconds`. Between two requests there are `idle_seconds`.
    All answers that wait for their clients take `buffered_bytes` of memory.
    """

    most: int = 2000
    most_per_client: int = 512
    trusted_proxies: tuple[str, ...] = ()
    head_seconds: float = 20.0
    progress_seconds: float = 60.0
    progress_bytes: int = 64 << 10
    # Longer than clients keep an idle connection, so that they, who know, are the ones to close it.
    idle_seconds: float = 75.0
    buffered_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """A hub to mirror: its address `url`, and a `token` for it of the server's own.

    Repos are mirrored whose names match one of the patterns `allow` and none of `deny`, as `org/*`
    or `datasets/org/name`. All that was fetched takes `size_bytes` at most (None: whatever it
    takes). The upstream may lead to files at public addresses, and at `hosts`. What it said is
    believed for `refresh_seconds`. `at_once` files are fetched at a time.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    size_bytes: int | None = None
    hosts: tuple[str, ...] = ()
    refresh_seconds: float = 60.0
    at_once: int = 8


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """`anonymous_reads`: one of access.ANONYMOUS_READS. `ingest`: one of INGEST. Files of git-lfs
    longer than `multipart_bytes` are uploaded in parts of `part_bytes`. `checks_at_once`
    uploads are checked at a time. Downloads hold `download_bytes` of memory together. `umask`: the
    permissions that new files of the vault lack. Nothing is taken in that would leave less than
    `reserve_bytes` of free disk. `allowed_hosts`:
    names of the server, besides those that hosts.Hosts knows. `root_path`: what its addresses begin
    with for clients, as "/models", where a reverse proxy has it below a path. `upstream`: the hub
    to mirror. `background`: whether what nobody asked for is done here, too. `workers`: how many
    processes share the port, and so these bounds."""

    anonymous_reads: str = "none"
    ingest: str = "background"
    multipart_bytes: int = 2 << 30
    part_bytes: int = 128 << 20
    checks_at_once: int = CHECKS_AT_ONCE
    download_bytes: int = 1 << 30
    umask: int = PRIVATE_UMASK
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    reserve_bytes: int = RESERVE_BYTES
    allowed_hosts: tuple[str, ...] = ()
    root_path: str = ""
    upstream: UpstreamSettings | None = None
    background: bool = True
    workers: int = 1

    def shared_by(self, workers: int) -> ServerSettings:
        """Returns the settings of each of several processes that answer together: what they hold
        of memory is no more than one would, and work in the background is not theirs."""
        each = replace(
            self.connections, buffered_bytes=max(1, self.connections.buffered_bytes // workers)
        )
        return replace(
            self,
            background=False,
            workers=workers,
            checks_at_once=max(1, self.checks_at_once // workers),
            download_bytes=max(1, self.download_bytes // workers),
            connections=each,
        )
