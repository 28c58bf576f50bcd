"""A vault, what is done to it, and what must then be in it: for kills and power cuts."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from ...dedup.local_vault import LocalVault
from ...dedup.maintenance.gc import Collector
from ...dedup.maintenance.undelete_repo import undelete
from ...dedup.transfer.push import push
from ...dedup.verification.scrub import Scrubber
from ...store.backends.open import open_backend
from ...store.catalogue.catalogue import open_catalogue
from ..support.tiny_models import CopyKind, write_tiny_copy, write_tiny_model
from .kill_points import Counter, count_statements, count_writes

REPOS = [f"org/m{i}" for i in range(4)]
# Pushed before anything is killed, so that nothing compiles in a child.
WARM, WARM_SEED = "org/warm", 1000
# Seeds of models, some of which are tunes of each other; from then on seeds of sources with copies
# that are computed from them, in turn.
MODELS = 40
COPIES: tuple[CopyKind, ...] = ("source", "cast", "quantised")
WARM_COPIES = tuple(range(1200, 1200 + len(COPIES)))


@dataclass
class World:
    """What should be there: for each repo the seed of its model, None where there is none, the
    seeds of all its commits, and the seed it had when it was deleted."""

    vault: str
    catalogue: str
    scratch: Path
    sources: Path
    state: dict[str, int | None] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    commits: dict[str, list[int]] = field(default_factory=dict)

    def open(self, counter: Counter | None = None) -> LocalVault:
        backend = open_backend(self.vault)
        if counter is not None:
            count_writes(backend, counter)
            # Before any engine is there, so that migrations are counted too.
            count_statements(Engine, counter)
        catalogue = open_catalogue(self.catalogue, migrate=True)
        return LocalVault(backend, catalogue, scratch=self.scratch)

    def source(self, seed: int) -> Path:
        folder = self.sources / str(seed)
        if seed < MODELS or seed == WARM_SEED:
            return write_tiny_model(folder, seed)
        number, kind = divmod(seed, len(COPIES))
        return write_tiny_copy(folder, number, COPIES[kind])


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
        return Work(kind, repo, choose_seed(rng), base)
    if kind == "delete":
        return Work(kind, repo, None)
    if kind == "undelete":
        return Work(kind, repo, world.deleted[repo])
    return Work(kind, repo, world.state.get(repo))


def choose_seed(rng: random.Random) -> int:
    """Returns the seed of a model, or as often that of one of a few sources or of a copy."""
    first = MODELS + -MODELS % len(COPIES)
    return rng.choice([rng.randrange(MODELS), first + rng.randrange(3 * len(COPIES))])


def push_warm(world: World, vault: LocalVault) -> None:
    """Pushes models so that all that others need is compiled."""
    push(vault, world.source(WARM_SEED), WARM)
    for seed in WARM_COPIES:
        push(vault, world.source(seed), f"{WARM}-{seed}")


def read_repo(vault: LocalVault, repo: str) -> dict[str, bytes] | None:
    """Returns a repo's files, None where there is no such repo."""
    if repo not in [r.name for r in vault.list_repos()]:
        return None
    files = vault.resolve(repo).manifest.files
    return {f.path: b"".join(vault.read_file(repo, "main", f.path)[2]) for f in files}


def files_of(world: World, seed: int | None) -> dict[str, bytes] | None:
    """Returns the files of the model of a seed, None for none."""
    if seed is None:
        return None
    folder = world.source(seed)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def note_commit(world: World, repo: str, work: Work, seed: int) -> None:
    """Takes over that the newest commit of a repo is the model of that seed."""
    before, seeds = world.state.get(repo), world.commits.setdefault(repo, [])
    if before is None and work.kind != "undelete":
        world.commits[repo] = [seed]
    elif before is None and seed != work.seed:
        # Cut off: it brings commits back one by one.
        del seeds[seeds.index(seed) + 1 :]
    elif before not in (None, seed):
        seeds.append(seed)


def settle_world(world: World, work: Work, ended: str, vault: LocalVault) -> list[str]:
    """Compares the vault with what should be there, and takes over what the killed work did."""
    problems: list[str] = []
    for repo in REPOS:
        found = read_repo(vault, repo)
        before = world.state.get(repo)
        after = work.seed if repo == work.repo else before
        allowed = {"done": [after], "refused": [before]}.get(ended, [before, after])
        if (repo, work.kind, ended) == (work.repo, "undelete", "killed"):
            allowed += world.commits.get(repo, [])
        match = next((s for s in allowed if files_of(world, s) == found), "none")
        if match == "none":
            problems.append(f"{repo} is none of {allowed} after {ended} {work}")
            continue
        if before is not None and match is None:
            world.deleted[repo] = before
        # A deletion that was pushed over cannot be brought back.
        if match is not None:
            world.deleted.pop(repo, None)
            note_commit(world, repo, work, int(match))
        world.state[repo] = match if isinstance(match, int) else None
    problems += vault.check().problems
    return problems + Scrubber(vault).run().problems
