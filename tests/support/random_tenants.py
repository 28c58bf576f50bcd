"""Tenants who do at random what people do."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

from owned_bases import (
    model,
    notes,
    publish,
)

from weightvault.dedup.errors import VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.background_encode import encode_some
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.rename_repo import rename_repo
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import AddFile, History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles


class Tenants:
    """Three namespaces that do at random what people do, with models of two families and notes."""

    def __init__(self, vault: LocalVault, root: Path, seed: int) -> None:
        self.vault = vault
        self.root = root
        self.rng = random.Random(seed)
        self.names = ("you", "me", "them")
        self.incoming = IncomingFiles(vault)
        self.history = History(vault, self.incoming)
        self.files: dict[str, dict[str, bytes]] = {}

    def act(self) -> None:
        """Does one thing; what cannot be done at the moment is refused, and nothing happens."""
        actions = [self.push] * 4 + [self.upload] * 3 + [self.publish] * 2
        actions += [self.delete, self.move, self.upkeep, lambda: encode_some(self.vault)]
        if not self.files:
            actions = [self.push]
        with suppress(VaultError):
            self.rng.choice(actions)()

    def push(self) -> None:
        """Pushes a model that may be known, to oneself or others, and against which is left to the
        vault, or a base."""
        repo, folder = self._folder()
        present = [name for name in self.files if name != repo]
        base = self.rng.choice([None, *present])
        push(self.vault, folder, repo, base=base)
        self.files[repo] = {path.name: path.read_bytes() for path in folder.iterdir()}

    def upload(self) -> None:
        """Commits as a hub does, files staged and uploaded one by one."""
        repo, folder = self._folder()
        if repo not in self.files:
            self.history.create_repo(repo, Message("made"))
            self.files[repo] = {}
        paths = {path.name: path for path in sorted(folder.iterdir())}
        for path in paths.values():
            self.incoming.add_file(path, repo, name=path.name)
        staged = self.incoming.stage(paths, repo)
        changes = [AddFile(name, file) for name, file in zip(paths, staged, strict=True)]
        self.history.commit(repo, "main", changes, Message(str(self.rng.random())))
        self.files[repo] |= {name: path.read_bytes() for name, path in paths.items()}

    def publish(self) -> None:
        """Shows a repo to everybody, or no longer."""
        publish(self.vault, self.rng.choice(sorted(self.files)), self.rng.random() < 0.6)

    def delete(self) -> None:
        """Deletes a repo."""
        repo = self.rng.choice(sorted(self.files))
        self.vault.delete_repo(repo)
        del self.files[repo]

    def move(self) -> None:
        """Gives a repo another name, or to somebody else."""
        old = self.rng.choice(sorted(self.files))
        new = f"{self.rng.choice(self.names)}/{self.rng.choice('xyz')}"
        rename_repo(self.vault, old, new)
        self.files[new] = self.files.pop(old)

    def upkeep(self) -> None:
        """Does what operators do now and then."""
        if self.rng.random() < 0.5:
            Collector(self.vault, grace_seconds=0, dead_share=0.01).run()
        cursor: int | None = 0
        while cursor is not None:
            cursor = self.vault.optimise(cursor).cursor

    def _folder(self) -> tuple[str, Path]:
        repo = f"{self.rng.choice(self.names)}/{self.rng.choice('abc')}"
        folder = self.root / f"{len(list(self.root.iterdir()))}"
        seed, tuned = self.rng.randrange(2), self.rng.choice([None, 1, 2, 3, 4])
        named = self.rng.choice(["", *self.files]) if self.files else ""
        model(folder, seed, tuned=tuned, card=f"---\nbase_model: {named}\n---\n")
        (folder / "notes.md").write_bytes(notes(str(self.rng.randrange(5))))
        return repo, folder
