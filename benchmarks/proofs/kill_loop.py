"""Kills processes at their writes, over and over, and looks at what is left each time.

    python -m weightvault.benchmarks.proofs.kill_loop --kills 500 out.csv
    python -m weightvault.benchmarks.proofs.kill_loop --kills 200 --services out.csv

The first keeps SQLite and a folder, the second PostgreSQL and an S3 server, both real processes on
this machine that are not killed themselves.

Half of what is pushed are casts and quantisations of a few models, and these models: so the frames
of either become recipes over the other. Each turn a process of its own pushes, deletes, brings
back, optimises, collects, or migrates the catalogue from an older version, and is killed (SIGKILL)
at one of its write calls, before or after it was carried out, or at any moment. Write calls are
each step that makes a file durable (folder made, file synced, renamed, removed) or, on S3, each
request that writes, parts of packs among them; each statement of the catalogue that writes, and the
end of each transaction. Which comes next is counted through for each kind of work. Then the vault
is reopened: every file that was committed must read back, and `check` and a scrub must find
nothing. Every `--look` kills everything is planned anew and collected once without grace: that must
leave no garbage, and as many bytes as a store has to which the same models were pushed just now,
planned and collected; bases of deleted models aside, which stay while models are coded against
them.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from sqlalchemy import exists, func, select

from ...dedup.errors import VaultError
from ...dedup.local_vault import LocalVault
from ...dedup.maintenance.gc import Collector
from ...dedup.transfer.push import push
from ...dedup.verification.scrub import Scrubber
from ...store.catalogue.tables.schema import chunks, commit_chunks
from ..support.services import running_services
from .aging import VERSIONS, age_catalogue, relearn
from .kill_points import Counter
from .worlds import Work, World, choose_work, push_warm, settle_world

# The child waits for the parent's kill in the "any moment" turns no longer than this.
MOST_SECONDS = 1.0
# How often other work is looked for than what was killed at all its writes before.
CHOICES = 3
# More than this above a fresh store would be something left behind: models are pushed in another
# order there, so other bases may be found for a tensor or two.
MOST_ABOVE_FRESH = 1.05
# A sketch, and an entry in a pack's index.
CHUNK_COSTS = 588 + 33
COLUMNS = ["kill", "work", "write", "after", "ended", "problems", "garbage", "stored"]
COLUMNS += ["dead_bases", "fresh"]


def run_child(world: World, work: Work, counter: Counter, seconds: float | None) -> str:
    """Does the work in a process of its own; returns how that ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            vault = world.open(counter)
            work.do(world, vault)
            os.write(writing, b"done")
            status = 0
        except VaultError as error:
            os.write(writing, f"refused {type(error).__name__}: {error}".encode())
        finally:
            os._exit(status)
    os.close(writing)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    if os.WIFSIGNALED(status) and not said:
        return "killed"
    if work.kind == "undelete" and said.startswith("refused ChunksMissing"):
        # A collection without grace was there first.
        return "refused"
    return "done" if said == "done" else f"failed: {said or status}"


def look_closely(vault: LocalVault) -> tuple[list[str], int]:
    """Plans anew and collects once without grace; returns problems and the garbage left."""
    plan_and_collect(vault)
    problems = Scrubber(vault).run().problems
    return problems + list(vault.check().problems), vault.report().garbage


def plan_and_collect(vault: LocalVault) -> None:
    """Makes what is stored depend on which models there are alone, as far as possible."""
    cursor: int | None = 0
    while cursor is not None:
        cursor = vault.optimise(cursor).cursor
    Collector(vault, grace_seconds=0, dead_share=0.001).run()


def fresh_bytes(world: World) -> int:
    """Bytes of packs and manifests of a new store with the same commits."""
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{folder}/c.sqlite"
        fresh = World(f"{folder}/objects", database, Path(folder), world.sources)
        vault = fresh.open()
        present = [repo for repo, seed in world.state.items() if seed is not None]
        push_warm(world, vault)
        for repo in present:
            for seed in world.commits[repo]:
                push(vault, world.source(seed), repo)
        plan_and_collect(vault)
        size = stored_bytes(vault)
        vault.close()
    return size


def stored_bytes(vault: LocalVault) -> int:
    """Bytes of everything but the journal, which keeps a few hundred for every change."""
    return sum(i.size for i in vault.backend.list() if not i.key.startswith("journal/"))


def main() -> int:
    """Runs the loop; returns 1 if anything was lost, damaged or left behind."""
    parser = argparse.ArgumentParser(description="Kills processes at their writes.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--look", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--services", action="store_true", help="PostgreSQL and S3")
    options = parser.parse_args()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kill-loop-")))
        vault, catalogue = str(root / "objects"), f"sqlite:///{root / 'catalogue.sqlite'}"
        if options.services:
            services = stack.enter_context(running_services())
            vault, catalogue = services.vault, services.catalogue
        world = World(vault, catalogue, root, root / "sources")
        rng = random.Random(options.seed)
        return run_loop(world, options.kills, options.look, rng, options.out)


def run_loop(world: World, kills: int, look: int, rng: random.Random, out: Path) -> int:
    """Kills so many times; writes a row for each kill and each close look as it goes."""
    rows: list[dict[str, object]] = []
    next_write: dict[str, int] = {}
    covered: set[str] = set()
    killed = failures = 0
    vault = world.open()
    push_warm(world, vault)
    vault.close()
    started = time.monotonic()
    with out.open("w", newline="", buffering=1) as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        while killed < kills:
            row, problems = take_turn(world, rng, next_write, covered)
            killed += row["ended"] == "killed"
            row["kill"] = killed
            is_due = killed % look == 0 or killed == kills
            if row["ended"] == "killed" and is_due:
                problems += look_at(world, row)
            row["problems"] = len(problems)
            rows.append(row)
            writer.writerow(row)
            failures += bool(problems)
            for problem in problems:
                print(problem, file=sys.stderr, flush=True)
    looks = [r for r in rows if "fresh" in r]
    left = max((int(str(r["garbage"])) for r in looks), default=0)
    sizes = [_share_of_fresh(row) for row in looks]
    print(
        f"{killed} kills in {time.monotonic() - started:.0f} s, {failures} turns with problems, "
        f"{len(looks)} close looks: at most {left} bytes of garbage after one collection; without "
        f"bases of deleted models {np.median(sizes):.3f} (at most {max(sizes):.3f}) times the "
        f"bytes of a fresh store; killed at each write: {', '.join(sorted(covered))}"
    )
    return int(failures > 0 or left > 0)


def take_turn(
    world: World, rng: random.Random, next_write: dict[str, int], covered: set[str]
) -> tuple[dict[str, object], list[str]]:
    """Does some work and kills it; returns a row, and what is wrong afterwards. Kinds of work that
    were killed at each of their writes are added to `covered`, and come less often."""
    work = choose_work(world, rng)
    for _ in range(CHOICES):
        work = choose_work(world, rng) if work.kind in covered else work
    number = next_write.get(work.kind, 0)
    if work.kind == "migrate":
        age_catalogue(world.catalogue, rng.choice(VERSIONS))
    by_time = rng.random() < 0.2
    counter = Counter(None if by_time else number // 2, bool(number % 2))
    seconds = rng.uniform(0.0, MOST_SECONDS) if by_time else None
    ended = run_child(world, work, counter, seconds)
    if not by_time:
        # Past the last write of this kind of work, its count starts again.
        next_write[work.kind] = number + 1 if ended == "killed" else 0
        if ended == "done":
            covered.add(work.kind)
    vault = world.open()
    if work.kind == "migrate":
        relearn(vault)
    problems = settle_world(world, work, ended, vault)
    vault.close()
    if ended.startswith("failed"):
        problems.append(ended)
    row: dict[str, object] = {"work": work.kind, "write": "any" if by_time else number // 2}
    return {**row, "after": counter.after, "ended": ended}, problems


def look_at(world: World, row: dict[str, object]) -> list[str]:
    """Looks closely, adds what it saw to the row, and returns what is wrong."""
    vault = world.open()
    problems, garbage = look_closely(vault)
    row |= {"garbage": garbage, "stored": stored_bytes(vault), "fresh": fresh_bytes(world)}
    row["dead_bases"] = dead_base_bytes(vault)
    vault.close()
    if _share_of_fresh(row) > MOST_ABOVE_FRESH:
        problems.append(f"more is stored than in a fresh store: {row}")
    return problems


def _share_of_fresh(row: dict[str, object]) -> float:
    stored, bases, fresh = (int(str(row[name])) for name in ("stored", "dead_bases", "fresh"))
    return (stored - bases) / max(1, fresh)


def dead_base_bytes(vault: LocalVault) -> int:
    """Bytes of chunks that no commit has, kept as models that are left are coded against them; a
    fresh store never saw them. Their sketches and entries in indexes are counted."""
    used = exists().where(commit_chunks.c.chunk_id == chunks.c.id)
    query = select(func.sum(chunks.c.frame_bytes), func.count()).where(~used)
    with vault.catalogue.reading() as connection:
        size, count = connection.execute(query).one()
    return int(size or 0) + count * CHUNK_COSTS


if __name__ == "__main__":
    sys.exit(main())
