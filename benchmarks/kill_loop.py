"""Kills processes at their writes, over and over, and looks at what is left each time.

    python -m weightvault.benchmarks.kill_loop --kills 500 out.csv
    python -m weightvault.benchmarks.kill_loop --kills 200 --services out.csv

The first keeps SQLite and a folder, the second PostgreSQL and an S3 server, both real processes on
this machine that are not killed themselves.

Each turn a process of its own pushes, deletes, brings back, optimises, collects, or migrates the
catalogue from an older version, and is killed (SIGKILL) at one of its write calls, before or after
it was carried out, or at any moment. Write calls are each step that makes a file durable (folder
made, file synced, renamed, removed) or, on S3, each request that writes, parts of packs among them;
each statement of the catalogue that writes, and the end of each transaction. Which comes next is
counted through for each kind of work. Then the vault is opened anew: every file that was committed
must read back, and `check` and a scrub must find nothing. Every `--look` kills everything is
planned anew and collected once without grace: that must leave no garbage, and as many bytes as a
store has to which the same models were pushed just now, planned and collected; bases of deleted
models aside, which stay while models are coded against them.
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
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, Table, event, exists, func, select

from ..dedup.collect import Collector
from ..dedup.errors import VaultError
from ..dedup.local import LocalVault
from ..dedup.push import push
from ..dedup.scrub import Scrubber
from ..dedup.undelete import undelete
from ..store import migrate
from ..store.backend import Backend
from ..store.catalogue import open_catalogue
from ..store.local import LocalBackend
from ..store.open import open_backend
from ..store.schema import chunks, commit_chunks, metadata
from .services import running_services
from .tiny_models import write_tiny_model

REPOS = [f"org/m{i}" for i in range(4)]
# Pushed before anything is killed, so that nothing compiles in a child.
WARM, WARM_SEED = "org/warm", 1000
# The child waits for the parent's kill in the "any moment" turns no longer than this.
MOST_SECONDS = 1.0
PART_BYTES = 8192
_SCRIPTS = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
VERSIONS = [script.revision for script in _SCRIPTS.walk_revisions()][1:]
WRITING = ("INSERT", "UPDATE", "DELETE", "CREATE", "ALTER ", "DROP T", "DROP I")
# More than this above a fresh store would be something left behind: models are pushed in another
# order there, so other bases may be found for a tensor or two.
MOST_ABOVE_FRESH = 1.05
# A sketch, and an entry in a pack's index.
CHUNK_COSTS = 588 + 33
COLUMNS = ["kill", "work", "write", "after", "ended", "problems", "garbage", "stored"]
COLUMNS += ["dead_bases", "fresh"]


@dataclass
class Counter:
    """Counts write calls and kills this process at the one numbered `at`."""

    at: int | None
    after: bool
    seen: int = 0

    def call(self, carry_out: Callable[[], Any] = lambda: None) -> Any:
        mine = self.seen == self.at
        self.seen += 1
        if mine and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = carry_out()
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def count_writes(backend: Backend, counter: Counter) -> None:
    """Makes the writes of a backend go through a counter."""
    if isinstance(backend, LocalBackend):
        for name in ("fsync", "replace", "link", "mkdir", "unlink"):
            setattr(os, name, _counted(getattr(os, name), counter))
        return
    events = getattr(backend, "_client").meta.events  # noqa: B009
    # Packs of these models are small; in parts like those of large ones they take five requests.
    vars(backend).update(_multipart_from_bytes=PART_BYTES, _part_bytes=PART_BYTES)

    def before(request: Any, **_: object) -> None:
        if request.method in ("PUT", "POST", "DELETE") and not counter.after:
            counter.call()

    def after(operation: Any, **_: object) -> None:
        if operation.http["method"] in ("PUT", "POST", "DELETE") and counter.after:
            counter.call()

    events.register("before-send.s3", before)
    events.register("needs-retry.s3", after)


def _counted(real: Callable[..., Any], counter: Counter) -> Callable[..., Any]:
    return lambda *args, **options: counter.call(lambda: real(*args, **options))


def count_statements(engine: Engine | type[Engine], counter: Counter) -> None:
    """Makes every statement that writes, and every commit, go through a counter."""
    pending: list[bool] = []

    def before(_c: object, _u: object, text: str, *_: object) -> None:
        pending.append(text.lstrip()[:6].upper() in WRITING)
        if pending[-1] and not counter.after:
            counter.call()

    def after(*_: object) -> None:
        if pending.pop() and counter.after:
            counter.call()

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "commit", lambda _: counter.call())


@dataclass
class World:
    """What should be there: for each repo the seed of its model, None where there is none, and
    the seeds it had when it was deleted."""

    vault: str
    catalogue: str
    scratch: Path
    sources: Path
    state: dict[str, int | None] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)

    def open(self, counter: Counter | None = None) -> LocalVault:
        backend = open_backend(self.vault)
        if counter is not None:
            count_writes(backend, counter)
            # Before any engine is there, so that migrations are counted too.
            count_statements(Engine, counter)
        catalogue = open_catalogue(self.catalogue, migrate=True)
        return LocalVault(backend, catalogue, scratch=self.scratch)

    def source(self, seed: int) -> Path:
        return write_tiny_model(self.sources / str(seed), seed)


@dataclass(frozen=True)
class Work:
    """One piece of work, and the state of its repo that it leads to."""

    kind: str
    repo: str
    seed: int | None
    base: str | None = None

    def do(self, world: World, vault: LocalVault) -> None:
        if self.kind == "push" and self.seed is not None:
            push(vault, world.source(self.seed), self.repo, base=self.base)
        elif self.kind == "delete":
            vault.delete_repo(self.repo)
        elif self.kind == "undelete":
            undelete(vault, self.repo)
        elif self.kind == "collect":
            Collector(vault, grace_seconds=0, dead_share=0.01).run()
        elif self.kind == "optimise":
            cursor: int | None = 0
            while cursor is not None:
                cursor = vault.optimise(cursor).cursor


def age_catalogue(world: World, version: str) -> None:
    """Makes the catalogue what an older weightvault would have made of the same store: its tables,
    and of their rows all that they can hold."""
    engine = open_catalogue(world.catalogue).engine
    rows = {}
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            found = connection.execute(table.select()).mappings()
            rows[table.name] = [dict(row) for row in found]
        for table in reversed(inspect_tables(connection)):
            table.drop(connection)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        for table in inspect_tables(connection):
            kept = [{c: r[c] for c in r if c in table.c} for r in rows.get(table.name, [])]
            if kept:
                connection.execute(table.insert(), kept)
                _advance_ids(connection, table)
    engine.dispose()


def inspect_tables(connection: Connection) -> list[Table]:
    """Returns the tables that are really there, those that others refer to first."""
    there = MetaData()
    there.reflect(connection)
    return there.sorted_tables


def _advance_ids(connection: Connection, table: Table) -> None:
    """PostgreSQL counts up from where it was, not from what was inserted."""
    if connection.dialect.name == "postgresql" and "id" in table.c:
        sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
        text = f"SELECT setval({sequence}, (SELECT max(id) FROM {table.name}))"
        connection.exec_driver_sql(text)


def choose_work(world: World, rng: random.Random) -> Work:
    """Returns some work that can be done now."""
    repo = rng.choice(REPOS)
    present = [name for name, seed in world.state.items() if seed is not None]
    kinds = ["push", "push", "collect", "optimise", "migrate"]
    if repo in present:
        kinds += ["delete", "delete"]
    elif repo in world.deleted:
        kinds += ["undelete", "undelete"]
    kind = rng.choice(kinds)
    if kind == "push":
        others = [name for name in present if name != repo]
        base = rng.choice(others) if others and rng.random() < 0.5 else None
        return Work(kind, repo, rng.randrange(40), base)
    if kind == "delete":
        return Work(kind, repo, None)
    if kind == "undelete":
        return Work(kind, repo, world.deleted[repo])
    return Work(kind, repo, world.state.get(repo))


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


def read_repo(vault: LocalVault, repo: str) -> dict[str, bytes] | None:
    """Returns a repo's files, None where there is no such repo."""
    if repo not in [r.name for r in vault.list_repos()]:
        return None
    files = vault.resolve(repo).manifest.files
    return {f.path: b"".join(vault.read_file(repo, "main", f.path)[2]) for f in files}


def files_of(world: World, seed: int | None) -> dict[str, bytes] | None:
    if seed is None:
        return None
    folder = world.source(seed)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def settle_world(world: World, work: Work, ended: str, vault: LocalVault) -> list[str]:
    """Compares the vault with what should be there, and takes over what the killed work did."""
    problems: list[str] = []
    for repo in REPOS:
        found = read_repo(vault, repo)
        before = world.state.get(repo)
        after = work.seed if repo == work.repo else before
        allowed = {"done": [after], "refused": [before]}.get(ended, [before, after])
        match = next((s for s in allowed if files_of(world, s) == found), "none")
        if match == "none":
            problems.append(f"{repo} is none of {allowed} after {ended} {work}")
            continue
        if before is not None and match is None:
            world.deleted[repo] = before
        # A deletion that was pushed over cannot be brought back.
        if match is not None:
            world.deleted.pop(repo, None)
        world.state[repo] = match if isinstance(match, int) else None
    problems += vault.check().problems
    return problems + Scrubber(vault).run().problems


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
    """Bytes of packs and manifests of a new store with the same repos."""
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{folder}/c.sqlite"
        fresh = World(f"{folder}/objects", database, Path(folder), world.sources)
        vault = fresh.open()
        for repo, seed in {WARM: WARM_SEED, **world.state}.items():
            if seed is not None:
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
    killed = failures = 0
    vault = world.open()
    push(vault, world.source(WARM_SEED), WARM)
    vault.close()
    started = time.monotonic()
    with out.open("w", newline="", buffering=1) as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        while killed < kills:
            row, problems = take_turn(world, rng, next_write)
            killed += row["ended"] == "killed"
            row["kill"] = killed
            if row["ended"] == "killed" and killed % look == 0:
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
        "bytes of a fresh store"
    )
    return int(failures > 0 or left > 0)


def take_turn(
    world: World, rng: random.Random, next_write: dict[str, int]
) -> tuple[dict[str, object], list[str]]:
    """Does some work and kills it; returns a row, and what is wrong afterwards."""
    work = choose_work(world, rng)
    number = next_write.get(work.kind, 0)
    if work.kind == "migrate":
        age_catalogue(world, rng.choice(VERSIONS))
    by_time = rng.random() < 0.2
    counter = Counter(None if by_time else number // 2, bool(number % 2))
    seconds = rng.uniform(0.0, MOST_SECONDS) if by_time else None
    ended = run_child(world, work, counter, seconds)
    if not by_time:
        # Past the last write of this kind of work, its count starts again.
        next_write[work.kind] = number + 1 if ended == "killed" else 0
    vault = world.open()
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
