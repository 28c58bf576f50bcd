"""Whoever takes entries of the journal away is noticed, and lets nobody in."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from command import run
from fastapi.testclient import TestClient
from vaults import FailingWrites, open_anew, open_local

from weightvault.api.requests.tokens import create_token, revoke_token
from weightvault.api.server.app import create_app
from weightvault.api.server.serving import listen
from weightvault.api.server.serving import run as serve
from weightvault.dedup.errors import JournalCut, VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.maintenance.repair import Repairer
from weightvault.dedup.model.journal_entries import Visibility, pack_entry, parse_entry
from weightvault.dedup.model.store_marker import read_marker
from weightvault.dedup.repository.journal.lost_entries import find_lost, require_whole
from weightvault.dedup.repository.journal.replay import catch_up, list_keys
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.catalogue.lost_entries import find_heads
from weightvault.store.errors import Unavailable


@pytest.fixture(params=["sqlite", "postgresql"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalVault]:
    """An empty vault in a folder, with each kind of catalogue."""
    if request.param == "sqlite":
        opened = open_local(tmp_path / "vault")
    else:
        backend = open_backend(str(tmp_path / "vault" / "objects"))
        catalogue = open_catalogue(request.getfixturevalue("postgres_url"))
        opened = LocalVault(backend, catalogue, scratch=tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalVault]:
    opened = open_local(tmp_path / "vault")
    yield opened
    opened.close()


def cut(vault: LocalVault, *which: int) -> list[str]:
    """Takes entries away, by their places in the journal; returns their keys."""
    keys = list_keys(vault.backend)
    gone = [keys[i] for i in which]
    for key in gone:
        vault.backend.delete(key)
    return gone


def fill(vault: LocalVault, model: Path) -> None:
    for number in range(4):
        (model / "config.json").write_text(json.dumps({"number": number}))
        push(vault, model, "org/m")


# The catalogue is there


@pytest.mark.parametrize("which", [[-1], [-2, -1], [0], [1, 2]])
def test_a_catalogue_misses_what_it_took_in(which: list[int], vault: LocalVault, model: Path):
    fill(vault, model)
    assert not vault.check().problems
    assert not Scrubber(vault).run().problems
    gone = cut(vault, *which)
    for problems in (vault.check().problems, Scrubber(vault).run().problems):
        for key in gone:
            (told,) = [problem for problem in problems if key in problem]
            assert "UTC" in told
            assert "of org/m" in told


@pytest.mark.parametrize("which", [[-1], [0, 2], [0, 1, 2, 3]])
def test_a_repair_tells_again_what_the_catalogue_knows(
    which: list[int], vault: LocalVault, model: Path, tmp_path: Path
):
    fill(vault, model)
    secret = create_token(vault, "me", "admin").secret
    gone = cut(vault, *which)
    dry = Repairer(vault, dry_run=True).run()
    assert all(any(key in each for each in dry.restored) for key in gone)
    assert vault.check().problems
    done = Repairer(vault).run()
    assert not done.lost
    assert not vault.check().problems
    assert not Scrubber(vault).run().problems
    before = vault.describe_repo("org/m")
    rebuilt = rebuild_catalogue(vault.backend, vault.catalogue)
    assert rebuilt.lost == ()
    assert vault.describe_repo("org/m").branches == before.branches
    require_whole(vault.backend, vault.catalogue)
    with TestClient(create_app(vault)) as web:
        answer = web.get("/v1/repos", headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == 200


# The catalogue is lost


@pytest.mark.parametrize("which", [[-1], [-2, -1], [1], [0, 2]])
def test_a_catalogue_built_anew_names_what_it_lacks(
    which: list[int], vault: LocalVault, model: Path, tmp_path: Path
):
    fill(vault, model)
    vault.close()
    gone = cut(vault, *which)
    rebuilt = rebuild_catalogue(vault.backend, vault.catalogue)
    assert all(any(key in each for each in rebuilt.lost) for key in gone[-1:])
    # Nor does it forget what it lacks when it writes on.
    (model / "config.json").write_text("{}")
    push(vault, model, "org/n")
    assert any(gone[-1] in each for each in rebuild_catalogue(vault.backend, vault.catalogue).lost)
    problems = vault.check().problems
    assert any(gone[-1] in problem for problem in problems)
    assert any("nobody knows what it said" in problem for problem in problems)
    assert Repairer(vault).run().lost
    assert Repairer(vault, accept_lost=True).run().lost == []
    assert not vault.check().problems
    # For every other catalogue, too.
    assert rebuild_catalogue(vault.backend, vault.catalogue).lost == ()


def revoked_admin(vault: LocalVault) -> str:
    secret = create_token(vault, "root", "admin").secret
    create_token(vault, "other", "read")
    revoke_token(vault, "root")
    return secret


def test_a_revoked_token_stays_revoked(vault: LocalVault, model: Path):
    push(vault, model, "org/m")
    secret = revoked_admin(vault)
    (gone,) = cut(vault, -1)
    rebuild_catalogue(vault.backend, vault.catalogue)
    assert any(gone in problem for problem in vault.check().problems)
    header = {"Authorization": f"Bearer {secret}"}
    app = create_app(vault)
    with TestClient(app) as web:
        for path in ("/v1/repos", "/", "/api/models", "/v1/repos/org/m/manifest"):
            for headers in (header, {}):
                answer = web.get(path, headers=headers)
                assert answer.status_code == 503, path
                assert gone not in answer.text
        answer = web.post("/-/sign-in", data={"token": secret})
        assert answer.status_code >= 400
    with pytest.raises(JournalCut, match=gone) as caught:
        serve(vault, listen("127.0.0.1", 0), print)
    assert "--accept-lost-entries" in (caught.value.hint or "")


def test_a_store_that_had_tokens_never_opens(vault: LocalVault, model: Path):
    push(vault, model, "org/m")
    revoked_admin(vault)
    cut(vault, -3, -2, -1)
    rebuild_catalogue(vault.backend, vault.catalogue)
    with TestClient(create_app(vault)) as web:
        assert web.get("/v1/repos").status_code == 503
        assert web.delete("/v1/repos/org/m").status_code == 503
    assert vault.list_repos()


def test_nor_without_the_objects_that_name_heads(vault: LocalVault, model: Path):
    """The marker alone knows that it is closed."""
    push(vault, model, "org/m")
    revoked_admin(vault)
    cut(vault, -3, -2, -1)
    for info in list(vault.backend.list("heads/")):
        vault.backend.delete(info.key)
    rebuild_catalogue(vault.backend, vault.catalogue)
    with pytest.raises(JournalCut, match="knows none of them") as caught:
        require_whole(vault.backend, vault.catalogue)
    assert "token create" in (caught.value.hint or "")
    with TestClient(create_app(vault)) as web:
        assert web.delete("/v1/repos/org/m").status_code == 503
    # The way out.
    secret = create_token(vault, "new", "admin").secret
    require_whole(vault.backend, vault.catalogue)
    with TestClient(create_app(vault)) as web:
        assert web.get("/v1/repos").status_code in (200, 401)
        answer = web.get("/v1/repos", headers={"Authorization": f"Bearer {secret}"})
        assert [repo["name"] for repo in answer.json()] == ["org/m"]
        assert web.delete("/v1/repos/org/m").status_code == 401


def test_the_way_back_by_the_command_line(model: Path, tmp_path: Path):
    store = tmp_path / "vault"
    assert run("--vault", store, "push", model, "org/m").exit_code == 0
    run("--vault", store, "token", "create", "--name", "root", "--role", "admin")
    assert run("--vault", store, "token", "revoke", "root").exit_code == 0
    assert json.loads((store / "objects/weightvault.json").read_text())["closed"] is True
    newest = max((store / "objects/journal").iterdir())
    newest.unlink()
    done = run("--vault", store, "check")
    assert done.exit_code == 1
    assert newest.name in done.stdout
    assert "revoked" in done.stdout
    for path in store.glob("catalogue.sqlite*"):
        path.unlink()
    done = run("--vault", store, "rebuild-catalogue")
    assert done.exit_code == 1
    assert newest.name in done.stdout
    done = run("--vault", store, "serve", "--port", "0")
    assert done.exit_code == 8
    assert newest.name in done.stderr
    done = run("--vault", store, "repair")
    assert done.exit_code == 1
    assert "--accept-lost-entries" in done.stdout
    assert run("--vault", store, "repair", "--accept-lost-entries").exit_code == 0
    assert run("--vault", store, "check").exit_code == 0
    assert "root" in run("--vault", store, "token", "list").stdout


# No false alarms


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_write_is_no_rollback(after: bool, model: Path, tmp_path: Path):
    """Objects that name heads may lag behind, never be ahead."""
    for at in range(100):
        root = tmp_path / f"vault-{at}"
        failing = [FailingWrites(open_backend(str(root / "objects")), at, Unavailable("no"))]

        def wrap(inner, failing=failing, at=at):
            failing[0] = FailingWrites(inner, at, Unavailable("no"), after=after)
            return failing[0]

        vault = open_local(root, wrap)
        ended = False
        try:
            push(vault, model, "org/m")
            create_token(vault, "me", "admin")
            revoke_token(vault, "me")
            vault.delete_repo("org/m")
            ended = failing[0].writes <= at
        except VaultError:
            pass
        vault.close()
        for opened in (open_local(root), open_anew(root)):
            assert find_lost(opened.backend, opened.catalogue) == []
            require_whole(opened.backend, opened.catalogue)
            assert not Scrubber(opened).run().problems
            opened.close()
        if ended:
            break
    else:
        pytest.fail("it never ends")


def test_machines_with_catalogues_of_their_own(model: Path, tmp_path: Path):
    """Each reads what the others write now and then, and all of them write."""
    vaults = [open_local(tmp_path / "store")]
    for number in range(2):
        catalogue = open_catalogue(f"sqlite:///{tmp_path / f'{number}.sqlite'}")
        backend = open_backend(str(tmp_path / "store/objects"))
        vaults.append(LocalVault(backend, catalogue, scratch=tmp_path))
    rng = random.Random(1)
    for number in range(30):
        vault = rng.choice(vaults)
        if rng.random() < 0.3:
            catch_up(vault.backend, vault.catalogue)
        (model / "config.json").write_text(json.dumps({"number": number}))
        push(vault, model, f"org/m{rng.randrange(3)}")
    for vault in vaults:
        assert find_lost(vault.backend, vault.catalogue) == []
        catch_up(vault.backend, vault.catalogue)
    for vault in vaults:
        vault.close()
    opened = open_anew(tmp_path / "store")
    assert find_lost(opened.backend, opened.catalogue) == []
    # All that was written is named by something: any entry that goes is missed.
    keys = list_keys(opened.backend)
    for key in keys:
        data = opened.backend.get(key)
        opened.backend.delete(key)
        rebuild_catalogue(opened.backend, opened.catalogue)
        assert [entry.key for entry in find_lost(opened.backend, opened.catalogue)] == [key]
        opened.backend.put(key, data)
    opened.close()


def test_every_entry_names_the_newest(vault: LocalVault, model: Path):
    fill(vault, model)
    create_token(vault, "me", "admin")
    vault.delete_repo("org/m")
    keys = list_keys(vault.backend)
    for before, key in zip([None, *keys], keys, strict=False):
        outline = json.loads(vault.backend.get(key))
        assert outline["after"] == ([] if before is None else [before.removeprefix("journal/")])
    assert find_heads(vault.catalogue) == (keys[-1],)


def test_a_journal_of_an_older_version_is_read_and_continued(
    local: LocalVault, model: Path, tmp_path: Path
):
    """Its entries name no others."""
    fill(local, model)
    old = []
    for key in list_keys(local.backend):
        outline = json.loads(local.backend.get(key))
        del outline["after"]
        data = json.dumps(outline, separators=(",", ":"), sort_keys=True).encode()
        local.backend.delete(key)
        old.append(put_old(local, key, data))
    # They did not say either how far it goes.
    for head in list(local.backend.list("heads/")):
        local.backend.delete(head.key)
    opened = open_anew(tmp_path / "vault")
    assert not opened.check().problems
    push(opened, model, "org/n")
    assert not opened.check().problems
    opened.close()
    (gone,) = cut(opened, -2)
    assert gone == old[-1]
    opened = open_anew(tmp_path / "vault")
    assert [e.key for e in find_lost(opened.backend, opened.catalogue)] == [gone]
    opened.close()


def put_old(vault: LocalVault, key: str, data: bytes) -> str:
    name = f"{key.rpartition('-')[0]}-{blake3(data).hexdigest()[:16]}"
    parse_entry(name, data)
    vault.backend.put(name, data)
    return name


def test_what_an_entry_names_is_read_however_old_it_is(local: LocalVault, model: Path):
    """A catalogue looks back an hour; a machine whose clock is further behind writes older keys."""
    fill(local, model)
    old, data = pack_entry(Visibility("org/m", True, time.time() - 4 * 3600))
    local.backend.put(old, data)
    assert catch_up(local.backend, local.catalogue) == 0
    new, data = pack_entry(Visibility("org/n", True, time.time()), [old])
    local.backend.put(new, data)
    assert catch_up(local.backend, local.catalogue) == 2
    assert local.catalogue.unknown_entries([old, new]) == []
    assert find_lost(local.backend, local.catalogue) == []


@pytest.mark.parametrize("kind", ["flip", "cut", "empty"])
def test_a_damaged_object_that_names_heads_is_mended(kind: str, local: LocalVault, model: Path):
    fill(local, model)
    create_token(local, "me", "admin")
    (info,) = local.backend.list("heads/")
    whole = local.backend.get(info.key)
    damage: dict[str, Callable[[bytes], bytes]] = {
        "flip": lambda data: data[:-30] + bytes([data[-30] ^ 1]) + data[-29:],
        "cut": lambda data: data[:-1],
        "empty": lambda data: b"",
    }
    local.backend.put(info.key, damage[kind](whole))
    assert any(info.key in problem for problem in local.check().problems)
    assert any(info.key in problem for problem in Scrubber(local).run().problems)
    with pytest.raises(VaultError, match="damaged"):
        require_whole(local.backend, local.catalogue)
    assert not Repairer(local).run().lost
    assert local.backend.get(info.key) == whole
    assert not local.check().problems


def test_the_marker_is_closed_for_good(local: LocalVault, model: Path):
    push(local, model, "org/m")
    before = local.backend.get("weightvault.json")
    marker = read_marker(local.backend)
    assert marker is not None
    assert not marker.closed
    create_token(local, "me", "admin")
    closed = read_marker(local.backend)
    assert closed is not None
    assert closed.closed
    assert closed.store_id == marker.store_id
    revoke_token(local, "me")
    # One that was rolled back on its own is closed again by a repair.
    local.backend.put("weightvault.json", before)
    local.close()
    opened = LocalVault(local.backend, local.catalogue, scratch=local.scratch, rebuild_marker=True)
    mended = read_marker(opened.backend)
    assert mended is not None
    assert mended.closed
