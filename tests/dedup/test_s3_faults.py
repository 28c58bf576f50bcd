"""A vault on an S3 that fails, at every request and in every way: an error or the truth, no lie."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from models import make_weights, read_folder, tune, write_model
from s3_faults import FaultProxy, cut, flip, forward, refuse, reset, reset_after, shorten
from s3_server import S3Server
from vaults import Wrapper, open_anew, open_local

from weightvault.dedup.errors import VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.undelete_repo import undelete
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.backend import ObjectInfo
from weightvault.store.backends.s3 import S3Backend
from weightvault.store.catalogue.catalogue import open_catalogue

SHAPES = {"w": (48, 64), "b": (64,)}
# One such fault is repeated away.
PASSING = {
    "503": refuse(503, "SlowDown"),
    "500": refuse(500, "InternalError"),
    "reset": reset,
    "answer lost": reset_after,
}
# What may come of these is an error; nothing may come of them that is wrong.
LYING = {"cut": cut(1), "shortened": shorten(1), "wrong bytes": flip}
LASTING = {"outage": refuse(500, "InternalError"), "denied": refuse(403, "AccessDenied")}


@pytest.fixture
def vault(
    proxy: FaultProxy, no_pauses: None, s3_server: S3Server, tmp_path: Path
) -> Iterator[LocalVault]:
    """One with a model in it that must outlive everything."""
    backend = S3Backend(s3_server.new_bucket(), endpoint_url=proxy.endpoint)
    catalogue = open_catalogue(f"sqlite:///{tmp_path / 'c.sqlite'}")
    opened = LocalVault(backend, catalogue, scratch=tmp_path)
    push(opened, write_model(tmp_path / "kept", make_weights(1, SHAPES)), "org/kept")
    yield opened
    opened.close()


Work = Callable[[LocalVault, Path, int], None]


def push_one(vault: LocalVault, folder: Path, number: int) -> None:
    model = write_model(folder / f"m{number}", tune(make_weights(1, SHAPES), number))
    push(vault, model, f"org/m{number}")


def come_and_go(vault: LocalVault, folder: Path, number: int) -> None:
    push_one(vault, folder, number)
    vault.delete_repo(f"org/m{number}")
    Collector(vault, grace_seconds=0, dead_share=0.01).run()
    push_one(vault, folder, number)


def read(vault: LocalVault, folder: Path, number: int) -> None:
    pull(vault, "org/kept", folder / f"out{number}")
    assert read_folder(folder / f"out{number}") == read_folder(folder / "kept")


WORKS: dict[str, Work] = {"push": push_one, "come and go": come_and_go, "pull": read}


def pick_requests(
    vault: LocalVault, proxy: FaultProxy, folder: Path, work: str, fault: str
) -> Iterator[int]:
    """Does the work, counts its requests, and picks three of them to fail."""
    proxy.calls.clear()
    WORKS[work](vault, folder, 0)
    requests = len(proxy.calls)
    for number in sorted(random.Random(work + fault).sample(range(requests), min(3, requests))):
        vault._load_manifest.cache_clear()
        yield number


def assert_sound(vault: LocalVault, folder: Path, number: int) -> None:
    """Without faults: what was there is there, what is listed can be read, work goes on."""
    vault._load_manifest.cache_clear()
    read(vault, folder, 10_000 + number)
    assert vault.check().problems == ()
    assert Scrubber(vault).run().problems == []


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_not_noticed(
    vault: LocalVault, proxy: FaultProxy, tmp_path: Path, work: str, fault: str
):
    for number in pick_requests(vault, proxy, tmp_path, work, fault):
        proxy.faults[:] = [forward] * number + [PASSING[fault]]
        WORKS[work](vault, tmp_path, 1 + number)
        proxy.faults.clear()
    assert_sound(vault, tmp_path, 0)


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("fault", LYING | LASTING)
def test_what_does_not_pass_is_said_and_harms_nothing(
    vault: LocalVault, proxy: FaultProxy, tmp_path: Path, work: str, fault: str
):
    for number in pick_requests(vault, proxy, tmp_path, work, fault):
        lasting = LASTING.get(fault)
        proxy.faults[:] = [forward] * number + [lasting or LYING[fault]] * (500 if lasting else 1)
        try:
            WORKS[work](vault, tmp_path, 1 + number)
            ended = "done"
        except VaultError as error:
            ended = error.message
        proxy.faults.clear()
        if ended == "done" and lasting:
            # Only what follows the commit failed, on which nothing depends: it is all there.
            assert work == "push"
            name = f"m{1 + number}"
            pull(vault, f"org/{name}", tmp_path / "there" / name)
            assert read_folder(tmp_path / "there" / name) == read_folder(tmp_path / name)
        assert_sound(vault, tmp_path, number)
        # The same again, now that nothing fails.
        WORKS[work](vault, tmp_path, 1 + number)
        name = f"m{1 + number}"
        if work != "pull":
            pull(vault, f"org/{name}", tmp_path / "back" / name)
            assert read_folder(tmp_path / "back" / name) == read_folder(tmp_path / name)


# Listings that are late


class Stale(Wrapper):
    """Lists what there was when `freeze` was called, whatever was put or deleted since."""

    frozen: list[ObjectInfo] | None = None

    def freeze(self) -> None:
        self.frozen = list(self.inner.list())

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        if self.frozen is None:
            return self.inner.list(prefix, after=after)
        return (i for i in self.frozen if i.key.startswith(prefix) and i.key > after)


@pytest.mark.parametrize("seed", range(4))
def test_late_listings_lose_nothing(tmp_path: Path, seed: int):  # noqa: C901 (a random walk)
    """One catalogue knows what it did itself, whatever listings say."""
    made: list[Stale] = []

    def wrap(backend) -> Stale:
        made.append(Stale(backend))
        return made[0]

    vault = open_local(tmp_path / "vault", wrap)
    stale, rng, held = made[0], random.Random(seed), {}
    for turn in range(14):
        number = rng.randrange(4)
        repo = f"org/m{number}"
        kind = rng.choice(["push", "push", "delete", "undelete", "collect", "freeze", "thaw"])
        if kind == "push":
            source = write_model(tmp_path / f"s{turn}", tune(make_weights(number, SHAPES), turn))
            push(vault, source, repo)
            held[repo] = source
        elif kind == "delete" and repo in held:
            vault.delete_repo(repo)
            del held[repo]
        elif kind == "undelete" and repo not in held:
            try:
                undelete(vault, repo)
            except VaultError:
                continue
            held[repo] = tmp_path / "unknown"
        elif kind == "collect":
            Collector(vault, grace_seconds=0, dead_share=0.01).run()
        elif kind == "freeze":
            stale.freeze()
        elif kind == "thaw":
            stale.frozen = None
        assert {r.name for r in vault.list_repos()} == set(held)
        assert vault.check().problems == ()
    stale.frozen = None
    vault.close()
    for vault in (open_local(tmp_path / "vault"), open_anew(tmp_path / "vault")):
        assert {r.name for r in vault.list_repos()} == set(held)
        for repo, source in held.items():
            pull(vault, repo, tmp_path / "out" / repo)
            if source.exists():
                assert read_folder(tmp_path / "out" / repo) == read_folder(source)
        assert Scrubber(vault).run().problems == []
        vault.close()
