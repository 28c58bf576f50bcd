"""A vault against a plain dict, with crashes, collections, scrubs and lost catalogues as steps."""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from crashes import Crash, Faults, open_faulty
from hypothesis.stateful import invariant, precondition, rule
from machines import ModelMachine, at_length, brief
from models import make_weights, read_folder, safetensors_bytes, to_bf16
from vaults import open_anew, open_local

from weightvault.dedup.errors import ChunksMissing, Conflict, RepoNotFound
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.maintenance.undelete_repo import undelete
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber

SHAPES = {"w": (24, 32), "b": (64,)}
COPIES = {
    "BF16": to_bf16,
    "F16": lambda values: values.astype(np.float16),
    "F64": lambda values: values.T.astype(np.float64),
}
"""What is computed from one tensor, or that from it. Of BF16 and F16 neither tells all."""
REPO = st.sampled_from(["org/a", "org/b", "org/c"])
SEED = st.integers(0, 7) | st.integers(8, 7 + len(COPIES))


class VaultMachine(ModelMachine):
    """`held` is what the vault should hold: for each repo the seed of its model."""

    shapes = SHAPES

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, int] = {}
        self.deleted: dict[str, int] = {}
        # Pushes, plans and collections remove what was replaced. Once the catalogue was lost, it is
        # to the new one as if another machine removed it, which may be at it still.
        self.left_by_another = False

    def source(self, seed: int, tensors: int | None = None) -> Path:
        """As that of all machines; the last few seeds are a tensor and copies of it."""
        if seed < 8:
            return super().source(seed, tensors)
        dtype, copy = list(COPIES.items())[seed - 8]
        folder = self.root / "sources" / dtype
        words = to_bf16(make_weights(9, {"w": (64, 80)})["w"]).astype(np.uint32) << 16
        made = copy(words.view(np.float32))
        folder.mkdir(parents=True, exist_ok=True)
        packed = safetensors_bytes({"w": (dtype, made.shape, made.tobytes())})
        (folder / "model.safetensors").write_bytes(packed)
        return folder

    def send(self, vault: LocalVault, repo: str, seed: int, base: str | None = None) -> None:
        """Pushes a model, or is told to wait for the end of such a removal."""
        try:
            push(vault, self.source(seed), repo, base=base)
        except Conflict as conflict:
            if self.left_by_another and "is being removed by another" in conflict.message:
                return
            raise
        self.hold(repo, seed)

    def hold(self, repo: str, seed: int) -> None:
        self.held[repo] = seed
        self.deleted.pop(repo, None)

    def reopen(self) -> None:
        self.vault.close()
        self.vault = open_local(self.root / "vault")

    @rule(repo=REPO, seed=SEED)
    def push(self, repo: str, seed: int) -> None:
        self.send(self.vault, repo, seed)

    @rule(repo=REPO, seed=SEED, base=REPO)
    def push_on_base(self, repo: str, seed: int, base: str) -> None:
        if base in self.held:
            self.send(self.vault, repo, seed, base)

    @rule(repo=REPO)
    def delete(self, repo: str) -> None:
        if repo in self.held:
            self.vault.delete_repo(repo)
            self.deleted[repo] = self.held.pop(repo)

    @rule(repo=REPO)
    def undelete(self, repo: str) -> None:
        try:
            undelete(self.vault, repo)
        except (ChunksMissing, Conflict, RepoNotFound):
            # Collected, pushed again since, or never deleted.
            return
        if repo in self.deleted:
            self.hold(repo, self.deleted[repo])

    @rule(repo=REPO, seed=SEED, at=st.integers(0, 40), statements=st.booleans())
    def crash_in_push(self, repo: str, seed: int, at: int, statements: bool) -> None:
        self.vault.close()
        vault = open_faulty(
            self.root / "vault", Faults(at, after=at % 2 == 0), statements=statements
        )
        try:
            self.send(vault, repo, seed)
        except Crash:
            pass
        finally:
            vault.close()
        self.vault = open_local(self.root / "vault")
        # It happened or it did not.
        if self.read(repo) == read_folder(self.source(seed)):
            self.hold(repo, seed)

    @rule(at=st.integers(0, 30), statements=st.booleans())
    def crash_in_collection(self, at: int, statements: bool) -> None:
        self.vault.close()
        vault = open_faulty(
            self.root / "vault", Faults(at, after=at % 2 == 0), statements=statements
        )
        try:
            Collector(vault, grace_seconds=0, dead_share=0.01).run()
        except Crash:
            pass
        finally:
            vault.close()
        self.vault = open_local(self.root / "vault")

    @rule()
    def collect(self) -> None:
        Collector(self.vault, grace_seconds=0, dead_share=0.01).run()
        assert self.vault.report().garbage == 0

    @precondition(lambda self: self.held)
    @rule()
    def lose_the_catalogue(self) -> None:
        before = self.vault.report().by_repo
        self.left_by_another = True
        self.vault.close()
        self.vault = open_anew(self.root / "vault")
        assert [r.name for r in self.vault.report().by_repo] == [r.name for r in before]

    @precondition(lambda self: self.held)
    @rule()
    def rebuild_the_catalogue(self) -> None:
        self.left_by_another = True
        rebuild_catalogue(self.vault.backend, self.vault.catalogue)

    @rule()
    def scrub(self) -> None:
        assert Scrubber(self.vault).run().problems == []

    @invariant()
    def holds_what_it_should(self) -> None:
        assert {r.name for r in self.vault.list_repos()} == set(self.held)
        for repo, seed in self.held.items():
            assert self.read(repo) == read_folder(self.source(seed))
        assert self.vault.check().problems == ()

    def read(self, repo: str) -> dict[str, bytes] | None:
        if repo not in {r.name for r in self.vault.list_repos()}:
            return None
        with tempfile.TemporaryDirectory(dir=self.root) as out:
            pull(self.vault, repo, Path(out))
            return read_folder(Path(out))


class LongMachine(VaultMachine):
    """The same for longer."""


VaultMachine.TestCase.settings = brief(8)
LongMachine.TestCase.settings = at_length(200)
TestVault = VaultMachine.TestCase
TestVaultForLong = pytest.mark.slow(pytest.mark.timeout(3600)(LongMachine.TestCase))
