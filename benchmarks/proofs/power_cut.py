"""Cuts the power of a disk under a vault at work, over and over, and looks at what the disk kept.

    python -m weightvault.benchmarks.proofs.power_cut --cuts 200 out.csv

Needs root: it mounts an ext4 of its own from a file. A process pushes, deletes, brings back,
optimises and collects on it, catalogue and temporary files included. At random moments that process
is stopped and the file copied: the copy has what had been written to the disk by then, and lacks
what was only in memory, as after a power cut. The copy is mounted, which replays its journal, and
the vault in it opened. Everything that the process had been told was done must be there, `check`
and a scrub must find nothing, and the work that was cut off can be done again.

With `--control` the same happens to a vault that syncs nothing: that it is found to have lost what
it promised shows that the method would notice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from ...dedup.errors import VaultError
from ...dedup.transfer.push import push
from ...store.errors import StoreError
from ..support.machine import save_rows
from .worlds import REPOS, Work, World, choose_work, note_commit, push_warm, settle_world

DISK_MIB = 96
# So that nothing reaches the disk in time but what is synced.
COMMIT_SECONDS = 600
MOST_SECONDS = 0.4


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """Mounts an image at a folder and takes it off again."""
    folder.mkdir(exist_ok=True)
    run("mount", "-o", f"loop,commit={COMMIT_SECONDS}", str(image), str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))


def run(*command: str) -> None:
    """Runs a command; raises CalledProcessError when it fails."""
    subprocess.run(command, check=True, capture_output=True)


def world_on(disk: Path, sources: Path) -> World:
    """The world of a vault that lies on one disk with all it needs."""
    (disk / "scratch").mkdir(exist_ok=True)
    database = f"sqlite:///{disk / 'catalogue.sqlite'}"
    return World(str(disk / "objects"), database, disk / "scratch", sources)


def run_worker(disk: Path, sources: Path, seed: int, out: int) -> None:
    """Works until it is killed; tells what it begins, and what it was told is done."""
    world, rng = world_on(disk, sources), random.Random(seed)
    vault = world.open()
    while True:
        work = choose_work(world, rng)
        if work.kind == "migrate":
            continue
        os.write(out, json.dumps({"begin": asdict(work)}).encode() + b"\n")
        try:
            work.do(world, vault)
            note_done(world, work)
            os.write(out, b'{"done": true}\n')
        except VaultError:
            # A collection without grace ends what could be brought back.
            world.deleted.pop(work.repo, None)
            os.write(out, b'{"done": false}\n')


def note_done(world: World, work: Work) -> None:
    """Changes what should be there as the work does."""
    before = world.state.get(work.repo)
    if work.kind == "delete" and before is not None:
        world.deleted[work.repo] = before
    elif work.kind in ("push", "undelete") and work.seed is not None:
        world.deleted.pop(work.repo, None)
        note_commit(world, work.repo, work, work.seed)
    world.state[work.repo] = work.seed


class Watcher:
    """Follows what a worker tells: the state that was promised, and what it is at."""

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self._pipe, self._rest = pipe, b""
        self.world, self.work = World("", "", Path(), Path()), Work("none", "", None)

    def read(self) -> None:
        """Takes in what was told since."""
        with suppress(BlockingIOError):
            while data := os.read(self._pipe, 1 << 16):
                self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, told: dict) -> None:
        if "begin" in told:
            self.work = Work(**told["begin"])
        else:
            if told["done"]:
                note_done(self.world, self.work)
            self.work = Work("none", "", None)


def look(copy: Path, sources: Path, watcher: Watcher) -> list[str]:
    """Opens the vault on a copy of the disk; returns what is wrong with it."""
    world = world_on(copy, sources)
    world.state = dict(watcher.world.state)
    world.commits = {repo: list(seeds) for repo, seeds in watcher.world.commits.items()}
    work = watcher.work
    try:
        vault = world.open()
    except (VaultError, StoreError) as error:
        return [f"cannot be opened: {error}"]
    try:
        ended = "done" if work.kind == "none" else "killed"
        problems = settle_world(world, work, ended, vault)
        push(vault, world.source(7), REPOS[0])
        return problems + list(vault.check().problems)
    except (VaultError, StoreError) as error:
        return [f"{type(error).__name__}: {error}"]
    finally:
        vault.close()


def without_syncing() -> None:
    """Makes this process promise what it does not keep."""
    os.fsync = lambda _: None
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "connect")
    def _(connection, _record) -> None:
        connection.execute("PRAGMA synchronous=OFF")


def cut_often(cuts: int, seed: int, root: Path, *, control: bool) -> Iterator[dict[str, object]]:
    """Yields a row for each cut."""
    image, sources, rng = root / "disk.img", root / "sources", random.Random(seed)
    image.touch()
    os.truncate(image, DISK_MIB << 20)
    run("mkfs.ext4", "-q", str(image))
    with mounted(image, root / "disk") as disk:
        # Compiles what a child then has.
        warm = world_on(disk, sources)
        vault = warm.open()
        push_warm(warm, vault)
        vault.close()
        os.sync()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            if control:
                without_syncing()
            run_worker(disk, sources, seed, writing)
            os._exit(1)
        watcher = Watcher(reading)
        try:
            for number in range(cuts):
                time.sleep(rng.uniform(0, MOST_SECONDS))
                yield {"cut": number, **cut(child, image, root, sources, watcher)}
        finally:
            os.kill(child, signal.SIGKILL)
            os.kill(child, signal.SIGCONT)
            os.waitpid(child, 0)


def cut(child: int, image: Path, root: Path, sources: Path, watcher: Watcher) -> dict[str, object]:
    """Copies the disk at one moment and looks at the copy."""
    os.kill(child, signal.SIGSTOP)
    while _state_of(child) != "T":
        time.sleep(0.001)
    watcher.read()
    copy = root / "copy.img"
    run("cp", "--sparse=always", str(image), str(copy))
    os.kill(child, signal.SIGCONT)
    with mounted(copy, root / "copy") as folder:
        problems = look(folder, sources, watcher)
    repos = sum(seed is not None for seed in watcher.world.state.values())
    return {"during": watcher.work.kind, "repos": repos, "problems": len(problems), "of": problems}


def _state_of(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def main() -> int:
    """Runs all cuts; returns 1 if anything was lost, or with --control if nothing was."""
    parser = argparse.ArgumentParser(description="Cuts the power of a disk under a vault.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control", action="store_true", help="sync nothing, and see it noticed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="power-cut-") as folder:
        rows = list(cut_often(options.cuts, options.seed, Path(folder), control=options.control))
    for row in rows:
        for problem in row.pop("of"):  # type: ignore[attr-defined]
            if not options.control:
                print(problem, file=sys.stderr)
    save_rows(options.out, rows)
    bad = sum(bool(row["problems"]) for row in rows)
    print(f"{len(rows)} power cuts, {bad} with problems")
    return int(bad == 0 if options.control else bad > 0)


if __name__ == "__main__":
    sys.exit(main())
