"""A real reverse proxy for tests: Debian's Caddy, with TLS and a certificate of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOW_TO_INSTALL = "no Caddy: apt-get install caddy"
_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running Caddy: its address, and the file of the certificate that it shows."""

    url: str
    certificate: Path


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def proxied(server_url: str, folder: Path, routes: str, scheme: str = "https") -> Iterator[Proxy]:
    """Caddy in front of a server, with TLS unless told otherwise; `routes` are the lines of its
    site, in which SERVER stands for the server's address."""
    certificate, key, port = folder / "cert.pem", folder / "key.pem", free_port()
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    site = routes.replace("SERVER", server_url.removeprefix("http://"))
    secrets = f" tls {certificate} {key}\n" if scheme == "https" else ""
    (folder / "Caddyfile").write_text(
        "{\n admin off\n auto_https disable_redirects\n"
        f" storage file_system {folder / 'caddy'}\n}}\n"
        f"{scheme}://localhost:{port} {{\n{secrets}{site}\n}}\n"
    )
    caddy = shutil.which("caddy")
    assert caddy is not None, HOW_TO_INSTALL
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(
            [caddy, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"],
            env={**os.environ, "HOME": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(port):
            said = (folder / "caddy.log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        yield Proxy(f"{scheme}://localhost:{port}", certificate)
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
