"""What 64 anonymous clients that are slow, or do nothing, cost those who are neither.

    python -m weightvault.benchmarks.attacks.slow_clients [--rounds 5] [--out FILE.csv]

A server shows public repos to everybody. A client with a token downloads a file of 32 MiB and
commits a small one, again and again, with and without the attackers in turns: seconds are medians,
and the ratio is of the two. `most` is the longest that anything took. Attackers ask for a file of
100 MB, so that no buffer on the way holds it. While they are "opening", the server answers 64
requests at once, as it would those of anybody; once they have "settled", they only hold what they
got.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np

from ...api.config import open_local_vault
from ...api.requests.tokens import create_token
from ...dedup.transfer.push import push
from ...dedup.transfer.refs import History
from ...dedup.transfer.uploads import IncomingFiles
from ..support.machine import RESULTS, save_rows
from ..support.servers import Server, running_server

_SOCKETS = 64
_LONG_BYTES = 100_000_000
_SHORT_BYTES = 32 << 20
_REPO = "open/model"
_LONG = f"/{_REPO}/resolve/main/long.safetensors"
_SHORT = f"/{_REPO}/resolve/main/short.safetensors"
_SMALL_BUFFER_BYTES = 4096
_SETTLE_SECONDS = 8.0
# A download takes 60 to 90 ms by itself: one of each a phase says little.
_ACTIONS_A_PHASE = 5

# What each kind of attacker sends first, and does each second from then on.
_HEAD = f"GET {_LONG} HTTP/1.1\r\nHost: x\r\n".encode()
_KINDS: dict[str, tuple[bytes, Callable[[socket.socket], object]]] = {
    "silent": (b"", lambda _: None),
    "byte by byte": (_HEAD + b"X-Long: ", lambda made: made.send(b"x")),
    "body by byte": (
        b"POST /api/validate-yaml HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
        lambda made: made.send(b"x"),
    ),
    "unread": (_HEAD + b"\r\n", lambda _: None),
    "read by byte": (_HEAD + b"\r\n", lambda made: made.recv(1)),
}


def main() -> None:
    """Runs the benchmark and prints, or writes, its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "slow_clients.csv")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        token = make_vault(Path(folder))
        os.environ["WEIGHTVAULT_ANONYMOUS_READS"] = "public"
        with running_server(Path(folder) / "vault") as server:
            rows = measure_all(server, token, chosen.rounds)
    save_rows(chosen.out, rows)


def make_vault(folder: Path) -> str:
    """Makes a vault with a public repo; returns a token for it."""
    model = folder / "model"
    model.mkdir()
    rng = np.random.default_rng(1)
    for name, size in (("long", _LONG_BYTES), ("short", _SHORT_BYTES)):
        (model / f"{name}.safetensors").write_bytes(_safetensors(rng.bytes(size)))
    vault = open_local_vault(str(folder / "vault"))
    try:
        push(vault, model, _REPO)
        History(vault, IncomingFiles(vault)).set_public(_REPO, True)
        return create_token(vault, "honest", "write").secret
    finally:
        vault.close()


def measure_all(server: Server, token: str, rounds: int) -> list[dict[str, object]]:
    """Measures each kind of attacker by itself, and a mixture of all."""
    attacks = {kind: [kind] for kind in _KINDS} | {"mixture": list(_KINDS)}
    headers = {"Authorization": f"Bearer {token}"}
    rows: list[dict[str, object]] = []
    with httpx.Client(base_url=server.url, headers=headers, timeout=120, trust_env=False) as web:
        # The first of each compiles and fills caches.
        _download(web)
        _commit(web)
        for name, kinds in attacks.items():
            rows += _measure(web, server, name, kinds, rounds)
    return rows


def _measure(
    web: httpx.Client, server: Server, name: str, kinds: list[str], rounds: int
) -> list[dict[str, object]]:
    without: dict[str, list[float]] = {action: [] for action in _ACTIONS}
    beside = {phase: {action: [] for action in _ACTIONS} for phase in ("opening", "settled")}
    for _ in range(rounds):
        _time_actions(web, without)
        with _attackers(server.url, kinds):
            _time_actions(web, beside["opening"])
            time.sleep(_SETTLE_SECONDS)
            _time_actions(web, beside["settled"])
    return [
        _row(name, phase, action, without[action], seconds)
        for phase, found in beside.items()
        for action, seconds in found.items()
    ]


def _time_actions(web: httpx.Client, found: dict[str, list[float]]) -> None:
    for action, act in list(_ACTIONS.items()) * _ACTIONS_A_PHASE:
        started = time.perf_counter()
        act(web)
        found[action].append(time.perf_counter() - started)


def _row(
    attack: str, phase: str, action: str, without: list[float], beside: list[float]
) -> dict[str, object]:
    usual, attacked = statistics.median(without), statistics.median(beside)
    row: dict[str, object] = {
        "attack": attack,
        "phase": phase,
        "sockets": _SOCKETS,
        "action": action,
        "times": len(beside),
        "seconds": round(usual, 4),
        "seconds_attacked": round(attacked, 4),
        "ratio": round(attacked / usual, 2),
        "most": round(max(beside), 4),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(row), flush=True)
    return row


@contextmanager
def _attackers(url: str, kinds: list[str]) -> Iterator[None]:
    address = urlsplit(url)
    made: list[tuple[socket.socket, Callable[[socket.socket], object]]] = []
    for number in range(_SOCKETS):
        first, each_second = _KINDS[kinds[number % len(kinds)]]
        attacker = socket.socket()
        attacker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
        attacker.connect((address.hostname, address.port))
        attacker.sendall(first)
        attacker.setblocking(False)
        made.append((attacker, each_second))
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(1.0):
            for attacker, act in made:
                with suppress(OSError):
                    act(attacker)

    going = threading.Thread(target=go_on)
    going.start()
    try:
        yield
    finally:
        over.set()
        going.join()
        for attacker, _ in made:
            attacker.close()


def _download(web: httpx.Client) -> None:
    received = 0
    with web.stream("GET", _SHORT) as answer:
        answer.raise_for_status()
        for piece in answer.iter_raw():
            received += len(piece)
    assert received > _SHORT_BYTES


def _commit(web: httpx.Client) -> None:
    content = base64.b64encode(os.urandom(2000)).decode()
    lines = [
        {"key": "header", "value": {"summary": "a small one"}},
        {"key": "file", "value": {"path": "notes.txt", "content": content, "encoding": "base64"}},
    ]
    body = "\n".join(json.dumps(line) for line in lines)
    kind = {"Content-Type": "application/x-ndjson"}
    web.post(f"/api/models/{_REPO}/commit/main", content=body, headers=kind).raise_for_status()


def _ask_health(web: httpx.Client) -> None:
    web.get("/health").raise_for_status()


_ACTIONS = {"download": _download, "commit": _commit, "health": _ask_health}


def _safetensors(raw: bytes) -> bytes:
    header = {"w": {"dtype": "U8", "shape": [len(raw)], "data_offsets": [0, len(raw)]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + raw


if __name__ == "__main__":
    main()
