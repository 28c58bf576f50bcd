"""Fuzzes every endpoint of a server with small requests, and holds it to bounds.

    python -m weightvault.benchmarks.attacks.requests --minutes 5 [--seed N] [--only TEXT]
        [--services]

A request of at most 1 MiB may cost 2 processor seconds, 128 MiB of memory and 32 MiB of answer,
whatever it holds and whoever sends it, and is never answered with an unintended 5xx. What it
leaves to be done after its answer counts, but for a job that an operator asked for
(docs/http-api.md). What goes beyond is sent again, as the first request of a kind also pays for
compiling; what does so twice fails. The dearest requests of each endpoint go into results; what the
server holds in memory and descriptors is told before and after.
`--services` keeps the vault on PostgreSQL and S3, real processes whose own work is not counted.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import httpx

from ...api.config import open_local_vault
from ...api.server.app import create_app
from ..support.machine import RESULTS, save_rows
from ..support.services import running_services
from .bombs import FILE_BOMBS, MIB, make_card
from .grammar import Attack, Grammar, Route, list_routes
from .index_bombs import SET_BOMBS
from .measured import Cost, Meter, open_client
from .target import Target, running_target

MOST_CPU_SECONDS = 2.0
MOST_MEMORY = 128 * MIB
MOST_ANSWER = 32 * MIB
INTENDED = {501, 503, 507}
"""Statuses from 500 on that say what they mean: not for this hub, busy, no room."""


class Record:
    """The dearest requests of each endpoint, and those beyond the bounds."""

    def __init__(self) -> None:
        self.worst: dict[Route, dict[str, tuple[float, Attack]]] = defaultdict(dict)
        self.counts: dict[Route, int] = defaultdict(int)
        self.failures: list[tuple[Attack, Cost]] = []

    def add(self, attack: Attack, cost: Cost) -> None:
        """Notes a request."""
        self.counts[attack.route] += 1
        worst = self.worst[attack.route]
        values = {"cpu": cost.cpu, "memory": cost.memory, "answer": cost.answer}
        for name, value in values.items():
            if name not in worst or worst[name][0] < value:
                worst[name] = (value, attack)

    def rows(self) -> list[dict[str, object]]:
        """One row for each endpoint, dearest first."""
        rows = []
        for route, worst in self.worst.items():
            cpu, memory, answer = (worst[name] for name in ("cpu", "memory", "answer"))
            rows.append(
                {
                    "endpoint": f"{route.method} {route.pattern}",
                    "requests": self.counts[route],
                    "cpu_seconds": round(cpu[0], 3),
                    "cpu_attack": cpu[1].what,
                    "memory_mib": round(memory[0] / MIB, 1),
                    "memory_attack": memory[1].what,
                    "answer_bytes": int(answer[0]),
                }
            )
        return sorted(rows, key=lambda row: -float(str(row["cpu_seconds"])))


def exceeds(attack: Attack, cost: Cost) -> bool:
    """Says whether a request cost more than it may, or failed as none may."""
    # Whoever asks for a file gets all of it; the answer's length is that of the file.
    answer = 0 if attack.route.hands_out else cost.answer
    return (
        cost.cpu > MOST_CPU_SECONDS
        or cost.memory > MOST_MEMORY
        or answer > MOST_ANSWER
        or (cost.status >= 500 and cost.status not in INTENDED)
    )


class Fuzzer:
    """Sends attacks to a target and records what they cost."""

    def __init__(self, target: Target, record: Record) -> None:
        self._target = target
        self._client = open_client(target.url)
        self._meter = Meter(target.process)
        self._record = record

    def run(self, attack: Attack) -> Cost:
        """Sends an attack, twice if it seems to go beyond the bounds."""
        cost = self._send(attack)
        if exceeds(attack, cost):
            cost = min(cost, self._send(attack), key=lambda c: (c.status >= 500, c.cpu, c.memory))
            if exceeds(attack, cost):
                self._fail(attack, cost)
        self._record.add(attack, cost)
        return cost

    def upload(self, seed: int) -> None:
        """Uploads a hostile file as git-lfs does, commits it, and looks at it in every way."""
        rng = random.Random(f"upload {seed}")
        what, (path, make) = rng.choice(list(FILE_BOMBS.items()))
        data = make(rng, rng.choice([1000, 100_000, MIB]))[:MIB]
        repo, headers = "acme/one", self._target.headers("namespaced")
        oid = hashlib.sha256(data).hexdigest()
        objects = [{"oid": oid, "size": len(data)}]
        batch = {"operation": "upload", "objects": objects, "transfers": ["basic"]}
        answer = self._client.post(
            f"/{repo}.git/info/lfs/objects/batch", json=batch, headers=headers
        )
        if answer.status_code != 200:
            print(f"uploads are refused: {answer.status_code} {answer.text[:200]}")
            return
        actions = answer.json()["objects"][0].get("actions", {})
        if "upload" in actions:
            address = actions["upload"]["href"].removeprefix(self._target.url)
            self._one("PUT", "/{git}/info/lfs/objects/{oid}", address, headers, data, what)
        lines = [
            {"key": "header", "value": {"summary": what}},
            {
                "key": "lfsFile",
                "value": {"path": path, "oid": oid, "size": len(data), "algo": "sha256"},
            },
        ]
        body = "\n".join(map(json.dumps, lines)).encode()
        self._one(
            "POST",
            "/api/{kind}/{repo}/commit/{rev}",
            f"/api/models/{repo}/commit/main",
            headers,
            body,
            what,
        )
        for pattern, address in _looks(repo, path):
            self._look(pattern, address, what)

    def show_card(self, seed: int) -> None:
        """Commits a hostile card and looks at it."""
        rng = random.Random(f"card {seed}")
        text = make_card(rng, rng.choice([1000, 60_000, 300_000, 900_000])).decode(errors="replace")
        file = {"path": "README.md", "content": text[:900_000]}
        self._commit("acme/two", f"card {text[:12]!r}", [file])
        for pattern, address in _looks("acme/two", "README.md"):
            self._look(pattern, address, f"card {text[:12]!r}")

    def commit_set(self, seed: int) -> None:
        """Commits files of which one says what lies where in the others, and looks at one."""
        rng = random.Random(f"set {seed}")
        what, make = rng.choice(list(SET_BOMBS.items()))
        # In base64, and with the lines around it, it is a MiB.
        files = make(rng, rng.choice([3000, 100_000, MIB * 7 // 10]))
        folder = f"sets/{seed % 8}"
        lines = [
            {
                "path": f"{folder}/{path}",
                "encoding": "base64",
                "content": base64.b64encode(data).decode(),
            }
            for path, data in files.items()
        ]
        self._commit("acme/two", what, lines)
        for pattern, address in _looks("acme/two", f"{folder}/{next(iter(files))}"):
            self._look(pattern, address, what)

    def _commit(self, repo: str, what: str, files: list[dict[str, str]]) -> None:
        lines = [{"key": "header", "value": {"summary": what}}]
        lines += [{"key": "file", "value": file} for file in files]
        body = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()[:MIB]
        route = "/api/{kind}/{repo}/commit/{rev}"
        headers = self._target.headers("namespaced")
        self._one("POST", route, f"/api/models/{repo}/commit/main", headers, body, what)

    def _look(self, pattern: str, address: str, what: str) -> None:
        self._one("GET", pattern, address, self._target.headers("namespaced"), b"", what)

    def _one(
        self, method: str, pattern: str, address: str, headers: dict, body: bytes, what: str
    ) -> None:
        self.run(Attack(Route(method, pattern), "namespaced", address, headers, body, what))

    def _send(self, attack: Attack) -> Cost:
        def send() -> httpx.Response | None:
            try:
                request = self._client.build_request(
                    attack.route.method, attack.target, headers=attack.headers, content=attack.body
                )
            except (httpx.InvalidURL, UnicodeError):
                return None
            return self._client.send(request, stream=True)

        begins = (attack.route.method, attack.route.pattern) == ("POST", "/v1/jobs")
        return self._meter.measure(send, MOST_ANSWER, begins_job=begins)

    def _fail(self, attack: Attack, cost: Cost) -> None:
        self._record.failures.append((attack, cost))
        print(
            f"FAILED {attack.route.method} {attack.target[:120]} as {attack.role}: {attack.what}, "
            f"{len(attack.body)} bytes: status {cost.status}, {cost.cpu:.2f} s, "
            f"{cost.memory / MIB:.0f} MiB, answer {cost.answer}",
            flush=True,
        )


def _looks(repo: str, path: str) -> list[tuple[str, str]]:
    return [
        ("/{namespace}/{name}", f"/{repo}"),
        ("/{namespace}/{name}/tree", f"/{repo}/tree/main"),
        ("/{namespace}/{name}/blob", f"/{repo}/blob/main/{path}"),
        ("/{namespace}/{name}/tensors", f"/{repo}/tensors/main"),
        ("/{page}/resolve/{rev}/{path*}", f"/{repo}/resolve/main/{path}"),
        ("/api/{kind}", "/api/models?full=true&cardData=true&author=acme&filter=mit"),
        ("/api/{kind}", "/api/models?full=true&cardData=true&author=acme"),
        ("/api/{kind}/{repo}", f"/api/models/{repo}?blobs=true"),
        (
            "/api/{kind}/{repo}/tree/{rev}",
            f"/api/models/{repo}/tree/main?recursive=true&expand=true",
        ),
        ("/v1/repos/{namespace}/{name}/revision", f"/v1/repos/{repo}/revision?tensors=true"),
    ]


def fuzz(minutes: float, seed: int, only: str, out: Path, services: bool = False) -> int:
    """Fuzzes for some minutes; returns how many requests went beyond the bounds."""
    record = Record()
    with ExitStack() as stack:
        root, address = Path(stack.enter_context(tempfile.TemporaryDirectory())), None
        if services:
            found = stack.enter_context(running_services())
            address, os.environ["WEIGHTVAULT_CATALOGUE"] = found.vault, found.catalogue
        target = stack.enter_context(running_target(root, address))
        meter = Meter(target.process)
        _tell(meter, "before")
        routes = [r for r in _routes(root) if only in f"{r.method} {r.pattern}"]
        _fuzz(Fuzzer(target, record), Grammar(target), routes, minutes, seed, alone=bool(only))
        meter.wait_idle()
        _tell(meter, "after")
    rows = record.rows()
    if rows:
        save_rows(out, rows)
    total = sum(record.counts.values())
    print(f"{total} requests to {len(rows)} endpoints, {len(record.failures)} beyond the bounds")
    return len(record.failures)


def _routes(root: Path) -> list[Route]:
    vault = open_local_vault(str(root / "empty"), f"sqlite:///{root / 'empty.sqlite'}")
    try:
        return list_routes(create_app(vault))
    finally:
        vault.close()


def _fuzz(
    fuzzer: Fuzzer,
    grammar: Grammar,
    routes: list[Route],
    minutes: float,
    seed: int,
    *,
    alone: bool,
) -> None:
    deadline = time.monotonic() + 60 * minutes
    while time.monotonic() < deadline:
        for route in routes:
            fuzzer.run(grammar.make(route, seed))
            if time.monotonic() > deadline:
                break
        if not alone:
            fuzzer.upload(seed)
            fuzzer.show_card(seed)
            fuzzer.commit_set(seed)
        seed += 1


def _tell(meter: Meter, when: str) -> None:
    memory, descriptors = meter.holds()
    print(f"{when}: {memory / MIB:.0f} MiB, {descriptors} descriptors", flush=True)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description="Fuzzes every endpoint of a server.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0, help="the first number of an attack")
    parser.add_argument("--only", default="", help="endpoints with this in method and path")
    parser.add_argument("--out", type=Path, default=RESULTS / "attacks_requests.csv")
    parser.add_argument("--services", action="store_true", help="PostgreSQL and S3")
    asked = parser.parse_args()
    beyond = fuzz(asked.minutes, asked.seed, asked.only, asked.out, asked.services)
    sys.exit(1 if beyond else 0)


if __name__ == "__main__":
    main()
