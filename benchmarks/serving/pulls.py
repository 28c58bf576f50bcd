"""What pulls of a family receive, counted on the socket: with a cache of chunks that they share,
and each without one.

    python -m weightvault.benchmarks.serving.pulls --corpus DIR [--csv FILE]

DIR/minilm holds a base model, its fine-tunes and checkpoints. They are pushed to a server with
their bases declared and pulled one after the other into empty folders, by a token that reads all
repos and by one of a namespace, in several orders. `alone` is what the same pull receives without
a cache: standalone frames. Every file is compared.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..demo import compare
from ..support.machine import RESULTS, save_rows
from ..support.servers import running_server, weightvault_command
from .corpus import MODELS, run

OUT = RESULTS / "pulls.csv"

_NAMES = [name for name, _ in MODELS]
_BF16 = [name for name in _NAMES if name.endswith("bf16")]
ORDERS = {
    "all, base first": _NAMES,
    "BF16, base first": _BF16,
    "BF16, last first": _BF16[::-1],
}
_PIECE = 1 << 16


class CountingProxy:
    """Passes on what clients and a server say; `received` are the bytes to clients."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = parts.hostname or "", parts.port or 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, suppress(OSError):
            while True:
                for side in select.select([client, server], [], [])[0]:
                    data = side.recv(_PIECE)
                    if not data:
                        return
                    (client if side is server else server).sendall(data)
                    self.received += len(data) if side is server else 0


@contextmanager
def served_family(models: Path, vault: Path) -> Iterator[tuple[CountingProxy, str, str]]:
    """Gives a proxy of a server that has the family, and two tokens: one that reads all repos, one
    of the namespace."""
    tokens = [
        run(str(vault), "token", "create", "--name", name, "--role", *role)["token"]
        for name, role in (("ops", ["admin"]), ("team", ["write", "--namespace", "minilm"]))
    ]
    with running_server(vault) as server:
        proxy = CountingProxy(server.url)
        for name, base in MODELS:
            options = ["--base", f"minilm/{base}"] if base else []
            _run_as(tokens[0], None, server.url, "push", models / name, f"minilm/{name}", *options)
        try:
            yield proxy, tokens[0], tokens[1]
        finally:
            proxy.close()


def _run_as(token: str, chunks: Path | None, url: str, *arguments: object) -> None:
    command = [*weightvault_command(), "--json", "--vault", url, *map(str, arguments)]
    kept = {"WEIGHTVAULT_CHUNKS": str(chunks)} if chunks else {"WEIGHTVAULT_CHUNKS_BYTES": "0"}
    env = {**os.environ, **kept, "WEIGHTVAULT_TOKEN": token}
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)


def measure(
    proxy: CountingProxy, token: str, models: Path, order: list[str], chunks: Path | None
) -> dict[str, int]:
    """Returns the bytes that each pull received, in that order."""
    found = {}
    for name in order:
        with tempfile.TemporaryDirectory() as folder:
            before = proxy.received
            _run_as(token, chunks, proxy.url, "pull", f"minilm/{name}", folder)
            found[name] = proxy.received - before
            compare(models / name, Path(folder))
    return found


def main() -> None:
    """Runs the benchmark; raises SystemExit where a file comes back different."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with minilm in it")
    parser.add_argument("--csv", type=Path, default=OUT)
    arguments = parser.parse_args()
    models = arguments.corpus / "minilm"
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="weightvault-pulls-") as temporary:
        root = Path(temporary)
        with served_family(models, root / "vault") as (proxy, *tokens):
            for who, token in zip(("reads all", "one namespace"), tokens, strict=True):
                alone = measure(proxy, token, models, _NAMES, None)
                for number, (title, order) in enumerate(ORDERS.items()):
                    chunks = root / f"{who}-{number}".replace(" ", "-")
                    received = measure(proxy, token, models, order, chunks)
                    rows += _make_rows(models, who, title, received, alone)
    save_rows(arguments.csv, rows)


def _make_rows(
    models: Path, who: str, order: str, received: dict[str, int], alone: dict[str, int]
) -> list[dict[str, Any]]:
    rows = []
    for number, (name, size) in enumerate(received.items(), 1):
        raw = sum(path.stat().st_size for path in (models / name).rglob("*") if path.is_file())
        row = {
            "token": who,
            "order": order,
            "number": number,
            "model": name,
            "raw": raw,
            "received": size,
            "percent": round(100 * size / raw, 1),
            "alone_percent": round(100 * alone[name] / raw, 1),
        }
        print("{token:14}{order:18}{model:32}{percent:7} %{alone_percent:7} %".format(**row))
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
