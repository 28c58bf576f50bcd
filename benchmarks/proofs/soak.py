"""Many clients at once against two servers that share PostgreSQL and an S3 bucket.

    python -m weightvault.benchmarks.proofs.soak --minutes 10 out.csv

Sixteen clients, processes of their own, push, pull, check, delete and push again, over HTTP, models
that share tensors and bases; beside them one process collects garbage with a grace of a few seconds
and one optimises. A client that pulls compares every byte. What clients are told must be one of the
documented answers below. At the end every repo is pulled and the store is scrubbed.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ...api.client.http_vault import HttpVault
from ...dedup.errors import ChunksMissing, Conflict, Missing, VaultError
from ...dedup.local_vault import LocalVault
from ...dedup.maintenance.gc import Collector
from ...dedup.transfer.pull import pull
from ...dedup.transfer.push import push
from ...dedup.verification.scrub import Scrubber
from ...store.backends.open import open_backend
from ...store.catalogue.catalogue import open_catalogue
from ..support.servers import running_server
from ..support.services import Services, running_services
from ..support.tiny_models import write_tiny_model

CLIENTS = 16
# Shorter than anybody should use, longer than a client takes between question and commit here.
GRACE_SECONDS = 20.0
SEEDS = 60
# A push beside a deletion of its base, or a pull beside one of its repo, may be told so.
ALLOWED = (ChunksMissing, Conflict, Missing)


def open_here(services: Services, scratch: Path) -> LocalVault:
    """The vault that the servers serve, without a server."""
    backend, catalogue = open_backend(services.vault), open_catalogue(services.catalogue)
    return LocalVault(backend, catalogue, scratch=scratch)


class Client:
    """One client. It alone writes its own repos, so it knows what they must hold; it reads those of
    all others too, which may come and go."""

    def __init__(self, number: int, url: str, root: Path) -> None:
        self.number = number
        self.vault = HttpVault(url)
        self.root = root
        self.rng = random.Random(number)
        self.held: dict[str, int] = {}
        self.counts: Counter[str] = Counter()

    def step(self) -> None:
        repo = f"org/c{self.number}-{self.rng.randrange(3)}"
        kind = self.rng.choice(["push", "push", "pull", "pull", "stranger", "delete", "look"])
        try:
            getattr(self, kind)(repo)
            self.counts[kind] += 1
        except ALLOWED as error:
            self.counts[f"{kind}: {type(error).__name__}"] += 1
            # Nothing takes away what only this client may.
            if kind == "pull":
                raise

    def push(self, repo: str) -> None:
        seed = self.rng.randrange(SEEDS)
        base = self.rng.choice([None, None, *self.held])
        push(self.vault, self.source(seed), repo, base=base)
        self.held[repo] = seed

    def pull(self, repo: str) -> None:
        if repo in self.held:
            assert self.read(repo) == read_model(self.source(self.held[repo])), repo

    def stranger(self, _: str) -> None:
        repo = f"org/c{self.rng.randrange(CLIENTS)}-{self.rng.randrange(3)}"
        found = self.read(repo)
        assert "config.json" in found

    def delete(self, repo: str) -> None:
        if repo in self.held:
            self.vault.delete_repo(repo)
            del self.held[repo]

    def look(self, repo: str) -> None:
        self.vault.list_repos()
        if repo in self.held:
            assert self.vault.describe_repo(repo).files

    def source(self, seed: int) -> Path:
        return write_tiny_model(self.root / f"sources-{self.number}" / str(seed), seed)

    def read(self, repo: str) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory(dir=self.root) as out:
            pull(self.vault, repo, Path(out))
            return read_model(Path(out))


def read_model(folder: Path) -> dict[str, bytes]:
    """Returns the files of a model by name."""
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def run_client(number: int, url: str, root: Path, until: float) -> dict[str, Any]:
    """Does steps until the time has come; returns counts, held seeds and what went wrong."""
    client = Client(number, url, root)
    failures = []
    while time.time() < until:
        try:
            client.step()
        except Exception:
            failures.append(traceback.format_exc())
    client.vault.close()
    return {"counts": client.counts, "held": client.held, "failures": failures}


def run_upkeep(services: Services, root: Path, until: float, kind: str) -> dict[str, Any]:
    """Collects, or optimises, over and over."""
    counts: Counter[str] = Counter()
    failures = []
    while time.time() < until:
        vault = open_here(services, root)
        try:
            if kind == "collect":
                Collector(vault, grace_seconds=GRACE_SECONDS).run()
            else:
                optimise(vault)
            counts[kind] += 1
        except ALLOWED as error:
            counts[f"{kind}: {type(error).__name__}"] += 1
        except Exception:
            failures.append(traceback.format_exc())
        finally:
            vault.close()
        time.sleep(1)
    return {"counts": counts, "held": {}, "failures": failures}


def optimise(vault: LocalVault) -> None:
    """Plans all families anew."""
    cursor: int | None = 0
    while cursor is not None:
        cursor = vault.optimise(cursor).cursor


def verify(services: Services, root: Path, results: list[dict[str, Any]]) -> list[str]:
    """After the soak: every file, a scrub, a collection, a scrub."""
    vault = open_here(services, root)
    problems: list[str] = []
    held = {repo: seed for result in results for repo, seed in result["held"].items()}
    if {r.name for r in vault.list_repos()} != set(held):
        problems.append("the repos are not those that were pushed last")
    for repo, seed in held.items():
        source = write_tiny_model(root / "sources-end" / str(seed), seed)
        with tempfile.TemporaryDirectory(dir=root) as out:
            try:
                pull(vault, repo, Path(out))
            except VaultError as error:
                problems.append(f"{repo}: {error}")
                continue
            if read_model(Path(out)) != read_model(source):
                problems.append(f"{repo} came back with other bytes")
    problems += vault.check().problems
    problems += Scrubber(vault).run().problems
    # Packs have grown to megabytes by now: a thousandth of one may be a frame.
    Collector(vault, grace_seconds=0, dead_share=1e-9).run()
    problems += Scrubber(vault).run().problems
    report = vault.report()
    if report.garbage:
        problems.append(f"garbage after a collection: {report.garbage_parts}")
    vault.close()
    return problems


def main() -> int:
    """Runs the soak; returns 1 if anything was lost or told that is not documented."""
    parser = argparse.ArgumentParser(description="Many clients against two servers.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        os.environ["XDG_DATA_HOME"] = str(root / "home")
        services = stack.enter_context(running_services())
        os.environ["WEIGHTVAULT_CATALOGUE"] = services.catalogue
        servers = [stack.enter_context(running_server(services.vault)) for _ in range(2)]
        until = time.time() + options.minutes * 60
        with get_context("spawn").Pool(CLIENTS + 2) as pool:
            pending = [
                pool.apply_async(run_client, (n, servers[n % 2].url, root, until))
                for n in range(CLIENTS)
            ]
            for kind in ("collect", "optimise"):
                pending.append(pool.apply_async(run_upkeep, (services, root, until, kind)))
            results = [found.get() for found in pending]
        problems = verify(services, root, results)
    return summarise(results, problems, options.out)


def summarise(results: list[dict[str, Any]], problems: list[str], out: Path) -> int:
    """Writes and prints what was done and what went wrong."""
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result["counts"])
    failures = [failure for result in results for failure in result["failures"]]
    rows: list[tuple[str, int]] = [*sorted(counts.items())]
    rows += [("undocumented failures", len(failures)), ("problems at the end", len(problems))]
    with out.open("w", newline="") as file:
        csv.writer(file).writerows([("what", "times"), *rows])
    for text in (*failures[:5], *problems):
        print(text, file=sys.stderr)
    print(", ".join(f"{what}: {times}" for what, times in rows))
    return int(bool(failures or problems))


if __name__ == "__main__":
    sys.exit(main())
