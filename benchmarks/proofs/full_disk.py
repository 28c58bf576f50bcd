"""Fills small disks and breaks disks under a vault, for real, and looks at what is left.

    python -m weightvault.benchmarks.proofs.full_disk out.csv

Needs root: it mounts file systems in memory. Vault, catalogue and temporary files lie on one that
is full after a few more KiB in each round, so that every write is once the one that has no room:
pushes, deletions, collections. Each must fail with a clear error and lose nothing; with room again
it must succeed. Then the disk is mounted read-only (EROFS), and files may not grow (EFBIG).
"""

from __future__ import annotations

import argparse
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...dedup.errors import VaultError
from ...dedup.local_vault import LocalVault
from ...dedup.maintenance.gc import Collector
from ...dedup.transfer.pull import pull
from ...dedup.transfer.push import push
from ...dedup.verification.scrub import Scrubber
from ...store.backends.open import open_backend
from ...store.catalogue.catalogue import open_catalogue
from ..support.machine import save_rows
from ..support.tiny_models import write_tiny_model

# A file system in memory gives out pages of 4 KiB.
STEP_KIB = 4
ROOM_KIB = 4096


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own in memory."""
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={ROOM_KIB}k", "weightvault-test", str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))


def run(*command: str) -> None:
    """Runs a command that must succeed."""
    subprocess.run(command, check=True)


def leave_room(disk: Path, kib: int) -> None:
    """Makes the disk so large that so much is free."""
    used = int(subprocess.check_output(["df", "--output=used", "-k", disk]).split()[-1])
    run("mount", "-o", f"remount,size={used + kib}k", str(disk))


def open_vault(disk: Path) -> LocalVault:
    """The vault on that disk."""
    backend = open_backend(str(disk / "objects"))
    catalogue = open_catalogue(f"sqlite:///{disk / 'catalogue.sqlite'}")
    return LocalVault(backend, catalogue, scratch=disk)


def holds(disk: Path, folder: Path, expected: dict[str, list[Path]]) -> list[str]:
    """Compares the vault with what it may hold: for each repo the models it may be."""
    vault = open_vault(disk)
    problems = [*vault.check().problems, *Scrubber(vault).run().problems]
    present = {r.name for r in vault.list_repos()}
    for repo, models in expected.items():
        if repo not in present:
            problems += [f"{repo} is gone"] if models else []
            continue
        with tempfile.TemporaryDirectory(dir=folder) as out:
            pull(vault, repo, Path(out))
            if not any(read(Path(out)) == read(model) for model in models):
                problems.append(f"{repo} holds something else")
    vault.close()
    return problems


def read(folder: Path) -> dict[str, bytes]:
    """Returns the files of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def attempt(disk: Path, work: Callable[[LocalVault], object]) -> str:
    """Does some work; returns what came of it."""
    try:
        vault = open_vault(disk)
    except VaultError as error:
        return type(error).__name__
    try:
        work(vault)
    except VaultError as error:
        return type(error).__name__
    except OSError as error:
        return f"unclear: {error}"
    finally:
        vault.close()
    return "done"


def fill_up(root: Path) -> Iterator[dict[str, object]]:
    """Does each kind of work with ever more room until it succeeds; yields a row for each try."""
    kept, other = (write_tiny_model(root / "models" / str(i), i, 12) for i in (1, 2))
    works: dict[str, Callable[[LocalVault], object]] = {
        "push": lambda vault: push(vault, other, "org/new", base="org/kept"),
        "delete": lambda vault: vault.delete_repo("org/new"),
        "collect": lambda vault: Collector(vault, grace_seconds=0, dead_share=0.01).run(),
    }
    with small_disk(root / "disk") as disk:
        attempt(disk, lambda vault: push(vault, kept, "org/kept"))
        for name, work in works.items():
            room, ended = 0, ""
            # A deletion may be told of as failed and be in the journal all the same.
            while ended not in ("done", "RepoNotFound"):
                leave_room(disk, room)
                ended = attempt(disk, work)
                run("mount", "-o", f"remount,size={ROOM_KIB}k", str(disk))
                problems = holds(disk, root, {"org/kept": [kept]})
                yield {"what": name, "room_kib": room, "ended": ended, "problems": problems}
                room += STEP_KIB


def break_disk(root: Path) -> Iterator[dict[str, object]]:
    """Takes the right to write away, in two ways."""
    kept, other = (write_tiny_model(root / "models" / str(i), i, 12) for i in (1, 2))
    with small_disk(root / "broken") as disk:
        attempt(disk, lambda vault: push(vault, kept, "org/kept"))

        run("mount", "-o", "remount,ro", str(disk))
        ended = attempt(disk, lambda vault: push(vault, other, "org/new"))
        run("mount", "-o", "remount,rw", str(disk))
        problems = holds(disk, root, {"org/kept": [kept]})
        yield {"what": "read-only", "room_kib": "", "ended": ended, "problems": problems}
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        for limit in range(4096, 262_144, 16_384):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            ended = attempt(disk, lambda vault: push(vault, other, "org/new"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            problems = holds(disk, root, {"org/kept": [kept]})
            yield {"what": f"files up to {limit}", "ended": ended, "problems": problems}


def main() -> int:
    """Runs all of it; returns 1 if anything was lost or failed without a clear error."""
    parser = argparse.ArgumentParser(description="Fills and breaks disks under a vault.")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="full-disk-") as folder:
        rows = [*fill_up(Path(folder)), *break_disk(Path(folder))]
    bad = [r for r in rows if r["problems"] or str(r["ended"]).startswith("unclear")]
    save_rows(options.out, rows)
    for row in bad:
        print(row, file=sys.stderr)
    refused = sum(row["ended"] != "done" for row in rows)
    print(f"{len(rows)} tries, {refused} refused for want of room, {len(bad)} with problems")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
