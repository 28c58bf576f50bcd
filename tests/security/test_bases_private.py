"""A chunk is a delta on nothing but what all its owners may read, whatever way it came."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from live_server import serving
from models import make_weights, to_bf16, tune, write_model
from owned_bases import (
    SHAPES,
    content_of,
    edges_of,
    find_violations,
    frame_sizes,
    hub_commit,
    model,
    notes,
    public_tune,
    publish,
    settle,
)
from random_tenants import Tenants
from sqlalchemy import select
from vaults import open_local

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.requests.settings import ServerSettings
from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.dedup.errors import VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.background_encode import BackgroundEncoder
from weightvault.dedup.maintenance.rename_repo import rename_repo
from weightvault.dedup.model.inputs import CHAIN_LENGTH
from weightvault.dedup.model.sketch import make_sketch
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import AddFile, History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.catalogue.tables.schema import (
    chunks,
    packs,
    spares,
)

SECRET = "Q7x9"


@pytest.fixture(autouse=True)
def coder_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """What servers do in the background the tests do themselves."""
    monkeypatch.setattr(BackgroundEncoder, "_run", lambda _: None)


@pytest.fixture(params=["sqlite", "postgresql"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalVault]:
    """A vault with two tenants, on each kind of database."""
    if request.param == "sqlite":
        opened = open_local(tmp_path / "vault")
    else:
        backend = open_backend(str(tmp_path / "objects"))
        catalogue = open_catalogue(request.getfixturevalue("postgres_url"))
        opened = LocalVault(backend, catalogue, scratch=tmp_path)
    with closing(opened):
        for name in ("you", "me"):
            create_token(opened, name, "write", name)
        yield opened


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalVault]:
    """A vault where no token was ever made."""
    with closing(open_local(tmp_path / "vault")) as opened:
        yield opened


CARD = b"---\nbase_model: you/private\n---\n"


@pytest.mark.parametrize("inline", [False, True])
def test_a_secret_text_is_not_guessed_from_stored_sizes(tmp_path: Path, inline: bool):
    guesses = [SECRET, *(SECRET[:n] + "#" * (4 - n) for n in range(4)), "????"]
    told: dict[bool, list[list[int]]] = {}
    for there in (True, False):
        with closing(open_local(tmp_path / f"vault-{there}")) as vault:
            tokens = {
                name: create_token(vault, name, "write", name).secret for name in ("you", "me")
            }
            settings = ServerSettings(ingest="inline") if inline else ServerSettings()
            with TestClient(create_app(vault, settings)) as web:
                if there:
                    files = {"notes.md": notes(SECRET), "README.md": b"# private\n"}
                    hub_commit(web, tokens["you"], "you/private", files)
                    settle(vault)
                for number, guess in enumerate(guesses):
                    files = {"notes.md": notes(guess) + b".", "README.md": CARD}
                    hub_commit(web, tokens["me"], f"me/guess-{number}", files)
                    settle(vault)
                told[there] = [frame_sizes(vault, f"me/guess-{n}") for n in range(len(guesses))]
            assert not find_violations(vault)
    assert told[True] == told[False]


def test_a_card_does_not_choose_weights_of_others(vault: LocalVault, tmp_path: Path):
    push(vault, model(tmp_path / "theirs", 1), "you/private")
    folder = model(tmp_path / "mine", 1, tuned=2, card=CARD.decode())
    incoming = IncomingFiles(vault)
    history = History(vault, incoming)
    history.create_repo("me/tune", Message("made"))
    files = {path.name: path for path in folder.iterdir()}
    staged = incoming.stage(files, "me/tune")
    changes = [AddFile(name, file) for name, file in zip(files, staged, strict=True)]
    history.commit("me/tune", "main", changes, Message("weights"))
    settle(vault)
    assert edges_of(vault, "me/tune") == set()
    publish(vault, "you/private")
    for name in ("me/next", "me/last"):
        push(vault, model(tmp_path / name, 1, tuned=len(name)), name)
    settle(vault)
    assert not find_violations(vault)
    assert edges_of(vault, "me/next")


def test_a_push_with_a_token_for_everything_leaves_nothing_behind(
    vault: LocalVault, tmp_path: Path
):
    secret = create_token(vault, "root", "admin").secret
    push(vault, model(tmp_path / "theirs", 1), "you/private")
    with serving(create_app(vault)) as url, closing(HttpVault(url, token=secret)) as everything:
        folder = model(tmp_path / "mine", 1, tuned=2)
        push(everything, folder, "me/tune", base="you/private")
    settle(vault)
    assert not find_violations(vault)
    assert edges_of(vault, "me/tune") == set()
    assert content_of(vault, "me/tune") == (folder / "model.safetensors").read_bytes()


def test_checkpoints_of_a_tenant_are_chains(local: LocalVault, tmp_path: Path):
    """It is sent raw frames and cannot know how deep its own are: the server says so in them."""
    secret = create_token(local, "me", "write", "me").secret
    weights, stored = make_weights(1, {"a": (256, 256)}), []
    with serving(create_app(local)) as url, closing(HttpVault(url, token=secret)) as mine:
        for number in range(4):
            push(mine, write_model(tmp_path / "run", weights), "me/run")
            settle(local)
            stored.append(local.report().frames)
            weights = tune(weights, number)
    with local.catalogue.reading() as connection:
        levels = list(connection.scalars(select(chunks.c.level).where(chunks.c.raw_bytes > 1000)))
        assert not list(connection.scalars(select(spares.c.chunk_id)))
    assert sorted(levels)[0] == 0
    assert 1 < max(levels) <= CHAIN_LENGTH
    assert stored[-1] - stored[0] < 2.5 * stored[0]
    assert not find_violations(local)
    assert content_of(local, "me/run") == (tmp_path / "run" / "model.safetensors").read_bytes()


def test_a_push_to_the_folder_itself_keeps_to_what_the_owner_reads(
    vault: LocalVault, tmp_path: Path
):
    push(vault, model(tmp_path / "theirs", 1), "you/private")
    push(vault, model(tmp_path / "mine", 1, tuned=2), "me/tune")
    assert not find_violations(vault)
    assert edges_of(vault, "me/tune") == set()
    with pytest.raises(VaultError, match="that the owner of this one may read"):
        push(vault, model(tmp_path / "next", 1, tuned=3), "me/next", base="you/private")
    # Its own are there to build on.
    push(vault, model(tmp_path / "next", 1, tuned=3), "me/next", base="me/tune")
    assert edges_of(vault, "me/next") >= {"me/tune"} or edges_of(vault, "me/tune") >= {"me/next"}


def test_chunks_of_others_crowd_out_nothing(vault: LocalVault, tmp_path: Path):
    weights = make_weights(1, SHAPES)
    push(vault, write_model(tmp_path / "mine", weights), "me/base")
    sketch = make_sketch(to_bf16(tune(weights, 99)["a"]).tobytes(), "BF16")
    view = vault.for_owner("me/next")
    alone = view.find_bases([sketch])
    assert alone[0]
    crowd = {f"t{n}": tune(weights, n + 100, 1e-6)["a"] for n in range(80)}
    push(vault, write_model(tmp_path / "crowd", crowd), "you/crowd", level="fast")
    assert [[c.digest for c in each] for each in view.find_bases([sketch])] == [
        [c.digest for c in each] for each in alone
    ]


@pytest.mark.parametrize("work", ["optimise", "recentre"])
def test_families_are_planned_within_what_owners_read(vault: LocalVault, tmp_path: Path, work: str):
    for seed, repo in enumerate(("you/a", "me/a", "you/b", "me/b", "me/c", "you/c")):
        push(vault, model(tmp_path / repo, 1, tuned=seed), repo)
        if work == "recentre":
            head = vault.resolve(repo).commit.id
            while (step := vault.recentre(repo, head)).cursor:
                pass
            assert step
    cursor: int | None = 0
    while work == "optimise" and cursor is not None:
        cursor = vault.optimise(cursor).cursor
    assert not find_violations(vault)
    bases = {repo: edges_of(vault, repo) for repo in ("me/a", "me/b", "me/c")}
    assert any(bases.values())
    assert all(base.startswith("me/") for them in bases.values() for base in them)


@pytest.mark.parametrize("change", ["unpublish", "delete", "move", "move within"])
def test_deltas_on_what_is_no_longer_readable_are_encoded_again(
    vault: LocalVault, tmp_path: Path, change: str
):
    push(vault, model(tmp_path / "open", 1), "you/open")
    publish(vault, "you/open")
    folder = model(tmp_path / "mine", 1, tuned=2)
    push(vault, folder, "me/tune", base="you/open")
    assert edges_of(vault, "me/tune") == {"you/open"}
    if change == "unpublish":
        publish(vault, "you/open", False)
    elif change == "delete":
        vault.delete_repo("you/open")
    elif change == "move":
        publish(vault, "you/open", False)
        rename_repo(vault, "me/tune", "other/tune")
    else:
        rename_repo(vault, "you/open", "you/still-open")
    settle(vault)
    assert not find_violations(vault)
    repo = "other/tune" if change == "move" else "me/tune"
    assert edges_of(vault, repo) == ({"you/still-open"} if change == "move within" else set())
    assert content_of(vault, repo) == (folder / "model.safetensors").read_bytes()
    assert not vault.check().problems


@pytest.mark.parametrize("way", ["publish", "commit"])
def test_bases_of_what_is_public_are_public(vault: LocalVault, tmp_path: Path, way: str):
    """Who else has the content of a public repo changes nothing of how it is stored."""
    tuned = public_tune(vault, tmp_path, way)
    settle(vault)
    assert not find_violations(vault)
    assert "you/base" not in edges_of(vault, "you/tune")
    assert content_of(vault, "you/tune") == (tuned / "model.safetensors").read_bytes()
    before = frame_sizes(vault, "you/tune")
    sketch = make_sketch(to_bf16(tune(make_weights(1, SHAPES), 3)["a"]).tobytes(), "BF16")
    told = vault.for_owner("new/model").find_bases([sketch])
    assert told[0]
    push(vault, tuned, "me/same")
    assert not find_violations(vault)
    settle(vault)
    assert frame_sizes(vault, "you/tune") == before
    assert vault.for_owner("new/model").find_bases([sketch]) == told
    # With bases that are public, it takes as little as before.
    publish(vault, "you/base")
    push(vault, write_model(tmp_path / "next", tune(make_weights(1, SHAPES), 4)), "you/next")
    publish(vault, "you/next")
    settle(vault)
    assert not find_violations(vault)
    assert edges_of(vault, "you/next")


def test_a_public_repo_is_pushed_within_what_is_public(vault: LocalVault, tmp_path: Path):
    push(vault, model(tmp_path / "base", 1), "you/base")
    push(vault, model(tmp_path / "other", 5), "you/tune")
    publish(vault, "you/tune")
    tuned = model(tmp_path / "tune", 1, tuned=2, card="---\nbase_model: you/base\n---\n")
    push(vault, tuned, "you/tune")
    assert edges_of(vault, "you/tune") == set()
    with pytest.raises(VaultError, match="every reader of this one"):
        push(vault, tuned, "you/tune", "next", base="you/base")


def test_a_new_owner_of_what_is_there(vault: LocalVault, tmp_path: Path):
    push(vault, model(tmp_path / "base", 1), "you/base")
    tuned = model(tmp_path / "tune", 1, tuned=2)
    push(vault, tuned, "you/tune", base="you/base")
    assert edges_of(vault, "you/tune") == {"you/base"}
    push(vault, tuned, "me/same")
    assert find_violations(vault)
    settle(vault)
    assert not find_violations(vault)
    assert content_of(vault, "me/same") == (tuned / "model.safetensors").read_bytes()


def test_the_first_tenant_makes_the_rule_hold_for_what_is_there(local: LocalVault, tmp_path: Path):
    push(local, model(tmp_path / "base", 1), "you/base")
    push(local, model(tmp_path / "tune", 1, tuned=2), "me/tune")
    settle(local)
    shared = find_violations(local)
    assert shared
    create_token(local, "root", "admin")
    settle(local)
    assert find_violations(local) == shared
    create_token(local, "mine", "write", "me")
    settle(local)
    assert not find_violations(local)


def test_an_operator_lets_weights_be_shared_but_no_text(vault: LocalVault, tmp_path: Path):
    vault.share_bases("all")
    push(vault, model(tmp_path / "base", 1, card=notes("a").decode()), "you/base")
    tuned = model(tmp_path / "tune", 1, tuned=2, card=notes("b").decode())
    push(vault, tuned, "me/tune", base="you/base")
    settle(vault)
    assert edges_of(vault, "me/tune") == {"you/base"}
    # The weights, which somebody has let be shared; the card is not patched.
    assert len(find_violations(vault)) == 1
    vault.share_bases(None)
    settle(vault)
    assert not find_violations(vault)


def test_a_text_that_pretends_to_be_weights_is_not_patched_either(
    vault: LocalVault, tmp_path: Path
):
    vault.share_bases("all")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.bin").write_bytes(notes(SECRET) * 8)
    push(vault, tmp_path / "theirs", "you/private")
    (tmp_path / "mine").mkdir()
    values = np.frombuffer(notes("Q7x#") * 8, np.uint8)
    with (tmp_path / "mine" / "guess.npy").open("wb") as file:
        np.save(file, values)
    push(vault, tmp_path / "mine", "me/guess")
    settle(vault)
    assert edges_of(vault, "me/guess") == set()


def test_a_frame_put_in_use_for_a_damaged_one_is_encoded_again(vault: LocalVault, tmp_path: Path):
    push(vault, model(tmp_path / "open", 1), "you/open")
    publish(vault, "you/open")
    tuned = model(tmp_path / "mine", 1, tuned=2)
    push(vault, tuned, "me/tune", base="you/open")
    publish(vault, "you/open", False)
    # For its sake frames that were replaced stay.
    vault.backend.put("heads/" + "0" * 32, b"of another catalogue")
    settle(vault)
    assert edges_of(vault, "me/tune") == set()
    from weightvault.store.catalogue.damage import record_scrub

    # The frame that is in use is lost; the old one, on what is private now, is what there is.
    mine = vault.resolve("me/tune").manifest.digests()
    largest = max(mine, key=lambda digest: mine[digest])
    with vault.catalogue.reading() as connection:
        used = connection.execute(select(chunks).where(chunks.c.digest == largest)).one()
        kept = connection.execute(select(spares).where(spares.c.chunk_id == used.id)).all()
        whole = connection.execute(select(packs).where(packs.c.id == used.pack_id)).one()
    assert [spare for spare in kept if spare.inputs]
    record_scrub(vault.catalogue, used.pack_id, [(used.offset, largest, "flipped")], None)
    with vault.catalogue.writing() as connection:
        from weightvault.store.catalogue.dependencies import replace_unusable
        from weightvault.store.catalogue.owners import queue_by_digest

        queue_by_digest(connection, replace_unusable(connection, [largest]))
    assert whole
    assert find_violations(vault)
    settle(vault)
    assert not find_violations(vault)


def test_short_texts_of_one_length_stop_no_optimisation(local: LocalVault, tmp_path: Path):
    (tmp_path / "cards").mkdir()
    noise = random.Random(1).randbytes(900)
    for number in range(4):
        (tmp_path / "cards" / "notes.bin").write_bytes(noise + bytes([number]))
        push(local, tmp_path / "cards", "me/notes")
    cursor: int | None = 0
    while cursor is not None:
        cursor = local.optimise(cursor).cursor
    assert content_of(local, "me/notes", "notes.bin") == noise + b"\3"


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))]
)
def test_whatever_tenants_do_no_delta_is_on_what_an_owner_may_not_read(
    vault: LocalVault, tmp_path: Path, seed: int
):
    root = tmp_path / "models"
    root.mkdir()
    tenants = Tenants(vault, root, seed)
    for step in range(1, 37):
        tenants.act()
        if step % 12 == 0:
            settle(vault)
            assert find_violations(vault) == []
    for repo, files in tenants.files.items():
        for path, data in files.items():
            assert content_of(vault, repo, path) == data
    assert not vault.check().problems
