"""Runs every block of commands of docs/runbooks.md as an operator would, and checks what comes.

    python -m weightvault.benchmarks.proofs.runbooks [--save results/runbooks.csv]

The first install is that of first_install.py, which says what it needs. Each block runs in bash on
a vault with a server in use: a client pushes all the while. Blocks marked `stopped` run while it
is stopped. Needs sqlite3 and curl; for the full disk it needs to be root, to mount a file system
in memory. Takes 6 minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

from ..support.machine import save_rows
from ..support.tiny_models import write_tiny_model
from .first_install import find_lack, install

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "runbooks.md"
GOLDEN = ROOT / "tests" / "dedup" / "golden_stores" / "v0.1"
_START_SECONDS = 120.0
_SMALL_MIB = 8


def read_blocks(page: str) -> dict[str, tuple[str, bool]]:
    """Returns the commands of each named block, and whether the server is stopped meanwhile."""
    found = re.findall(r"^```sh ([\w-]+)( stopped)?\n(.*?)^```", page, re.S | re.M)
    return {name: (text, bool(stopped)) for name, stopped, text in found}


class World:
    """A vault with models, its tokens, and a server that a client pushes to all the while."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vault = folder / "vault"
        self.models = [write_model(folder / f"model-{seed}", seed) for seed in range(3)]
        self.env = {**os.environ, "VAULT": str(self.vault), "MODEL": str(self.models[2])}
        bin_folder = str(Path(sys.executable).parent)
        self.env["PATH"] = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        for name in [n for n in self.env if n.startswith("WEIGHTVAULT_")]:
            del self.env[name]
        self.env |= {"BACKUP": str(folder / "backup"), "ELSEWHERE": str(folder / "elsewhere")}
        self.env |= {"OLD": str(folder / "old"), "SMALL": str(folder / "small")}
        self._pushed = 0
        self._stop = threading.Event()

    def run(self, commands: str) -> str:
        """Runs commands in bash; raises where one fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{commands}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def prepare(self) -> None:
        """Makes the vault with two models and three tokens, and one of version 0.1."""
        for name, model in zip(("base", "tune"), self.models, strict=False):
            self.run(f"weightvault --vault $VAULT push {model} org/{name}")
        for variable, name in (("HUB_TOKEN", "admin"), ("LEAKED", "leaked"), ("CI", "ci")):
            create = f"weightvault --vault $VAULT token create --name {name} --role admin"
            self.env[variable] = self.run(create).strip()
        self.env["WEIGHTVAULT_TOKEN"] = self.env["HUB_TOKEN"]
        shutil.copytree(GOLDEN / "objects", self.folder / "old" / "objects")

    @contextmanager
    def served(self) -> Iterator[None]:
        """Within, a server answers, and a client pushes to it."""
        with (self.folder / "server.log").open("ab") as log:
            command = ["weightvault", "--vault", str(self.vault), "serve", "--port", "0"]
            server = subprocess.Popen(
                command, env=self.env, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line.startswith("serving "):
            raise RuntimeError((self.folder / "server.log").read_text())
        self.env["URL"] = line.split()[1]
        self._stop.clear()
        client = threading.Thread(target=self._push_all_the_while)
        client.start()
        try:
            yield
        finally:
            self._stop.set()
            client.join()
            server.terminate()
            server.wait()

    @property
    def pushed(self) -> int:
        """How many pushes the client has made."""
        return self._pushed

    def _push_all_the_while(self) -> None:
        note = self.models[0] / "note.txt"
        while not self._stop.wait(0.2):
            note.write_text(f"push {self._pushed}\n")
            command = ["weightvault", "--vault", self.env["URL"], "push", str(self.models[0])]
            done = subprocess.run([*command, "org/busy"], env=self.env, capture_output=True)
            if done.returncode == 0:
                self._pushed += 1


def write_model(folder: Path, seed: int) -> Path:
    """Writes a small model."""
    write_tiny_model(folder, seed)
    return folder


@contextmanager
def small_disk(world: World) -> Iterator[None]:
    """Mounts a small file system that a model fills, with a vault on it."""
    small = Path(world.env["SMALL"])
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_MIB}m", "runbooks", str(small)]
    subprocess.run(mount, check=True)
    try:
        big = world.folder / "big"
        big.mkdir()
        (big / "data.bin").write_bytes(os.urandom((_SMALL_MIB - 4) << 20))
        world.run(f"weightvault --vault $SMALL push {big} org/big")
        other = world.folder / "other"
        other.mkdir()
        (other / "data.bin").write_bytes(os.urandom((_SMALL_MIB - 4) << 20))
        push = ["weightvault", "--vault", str(small), "push", str(other), "org/other"]
        refused = subprocess.run(push, env=world.env, capture_output=True, text=True)
        assert refused.returncode == 6, refused.stderr
        yield
    finally:
        subprocess.run(["umount", str(small)], check=True)


def same(one: Path, other: Path) -> bool:
    """Says whether two folders have the same files."""
    names = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    theirs = sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    return names == theirs and all(
        (one / n).read_bytes() == (other / n).read_bytes() for n in names
    )


def check_after(world: World, name: str) -> str:
    """Says what a runbook led to; raises AssertionError where that is not what it is for."""
    folder, base = world.folder, world.models[0]
    if name == "backup":
        assert world.pushed > 0, "nothing was pushed meanwhile"
        return f"{world.pushed} pushes meanwhile"
    if name == "restore":
        # A note beside it changes all the while.
        pulled, sent = (f / "model.safetensors" for f in (folder / "elsewhere-pulled", base))
        assert pulled.read_bytes() == sent.read_bytes()
        return "every weight is there"
    if name == "upgrade":
        assert same(world.models[2], folder / "old-pulled")
        return "a vault of 0.1 reads and takes models"
    if name == "lost-catalogue":
        listed = world.run("weightvault --vault $VAULT ls")
        assert all(repo in listed for repo in ("org/base", "org/tune", "org/busy")), listed
        return "all repos and tokens are there"
    return "as the page says"


def run_all(world: World) -> Iterator[dict[str, object]]:
    """Yields a row for each block of the page."""
    for name, (commands, stopped) in read_blocks(PAGE.read_text()).items():
        with ExitStack() as stack:
            if name == "full-disk":
                if os.geteuid() != 0:
                    yield {"runbook": name, "result": "skipped: needs root", "seconds": 0}
                    continue
                stack.enter_context(small_disk(world))
            if not stopped:
                stack.enter_context(world.served())
                time.sleep(1.5)
            started = time.monotonic()
            world.run(commands)
            seconds = round(time.monotonic() - started, 1)
            result = check_after(world, name)
        yield {"runbook": name, "result": result, "seconds": seconds}
    with world.served():
        found = world.run("weightvault --vault $URL check")
    yield {"runbook": "afterwards", "result": found.strip(), "seconds": 0}


def run_install(base: Path | None) -> Iterator[dict[str, object]]:
    """Yields a row for the first install, the result of which is what was seen last."""
    lack = find_lack()
    if lack:
        yield {"runbook": "first-install", "result": f"skipped: needs {lack}", "seconds": 0}
        return
    started, done = time.monotonic(), [text for text, _ in install(base)]
    result = "; ".join(text for text in done if not text.endswith("started"))
    seconds = round(time.monotonic() - started, 1)
    yield {"runbook": "first-install", "result": result, "seconds": seconds}


def main() -> None:
    """Runs the runbooks and prints what came of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--save", type=Path, metavar="CSV", help="keep the results")
    parser.add_argument("--base", type=Path, metavar="FOLDER", help="a Debian that is kept")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.prepare()
        for row in chain(run_install(arguments.base), run_all(world)):
            print(f"{row['runbook']:16} {row['seconds']:>6} s  {row['result']}", flush=True)
            rows.append(row)
    if arguments.save:
        save_rows(arguments.save, rows)


if __name__ == "__main__":
    main()
