"""What a vault takes beside what is live: replaced frames go as soon as others are in use."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import hypothesis.strategies as st
from families_at_work import check_family, optimise_all
from hypothesis import Phase, example, given, settings
from machines import brief
from models import make_weights, read_folder, tune, write_model
from upkeep import Clock, gc
from vaults import open_anew, open_local

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.collection.plan import DEFAULT_GRACE_SECONDS
from weightvault.dedup.repository.journal.heads import (
    AT_WORK_SECONDS,
    SHOW_SECONDS,
    forget_others,
    heads_key,
    note_shown,
)
from weightvault.dedup.repository.journal.lost_entries import find_lost
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.catalogue.tombstones import count_pack_bytes, pack_uses

SHAPES = {"w": (96, 64), "v": (64, 48), "b": (64,)}
MOST_GARBAGE = 0.03

STEP = st.tuples(
    st.sampled_from(["push", "push", "push", "push on base", "delete", "optimise", "gc"]),
    st.integers(0, 5),
    st.integers(0, 7),
)


def write(root: Path, seed: int) -> Path:
    """Writes the model of a seed: tunes of two bases, a few steps away from them."""
    weights = make_weights(seed // 4, SHAPES)
    for step in range(seed % 4):
        weights = tune(weights, 10 * seed + step)
    return write_model(root / "sources" / str(seed), weights)


def garbage_in(vault: LocalVault, *, undeletable: bool) -> int:
    """Returns the frame bytes that nothing needs; without those of deleted repos if these may still
    be wanted back."""
    uses = pack_uses(vault.catalogue)
    kept = [max(use.live_bytes, use.used_bytes if undeletable else 0) for use in uses]
    return sum(use.frame_bytes for use in uses) - sum(kept)


# The last frames in use of a pack are those of a deleted repo, the rest of it has been replaced.
LAST_IN_USE_DELETED = [
    ("push", 5, 0),
    ("push", 1, 6),
    ("gc", 0, 0),
    ("push", 5, 4),
    ("gc", 0, 0),
    ("push", 2, 5),
    ("push", 1, 1),
    ("delete", 4, 0),
    ("push on base", 4, 4),
    ("optimise", 0, 0),
    ("push on base", 4, 6),
    ("delete", 2, 0),
    ("push", 2, 7),
    ("gc", 0, 0),
]


@given(st.lists(STEP, min_size=3, max_size=14))
@example(LAST_IN_USE_DELETED)
# Shrinking takes minutes, and what is drawn is short.
@settings(brief(8), phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_little_is_stored_that_is_not_live_whatever_was_done(steps: list[tuple[str, int, int]]):
    root = Path(tempfile.mkdtemp(prefix="growth-"))
    vault, held = open_local(root / "vault"), dict[str, int]()
    for step, number, seed in steps:
        repo = f"org/m{number}"
        if step.startswith("push"):
            base = next(iter(held), None) if step.endswith("base") else None
            push(vault, write(root, seed), repo, base=base)
            held[repo] = seed
        elif step == "delete" and repo in held:
            vault.delete_repo(repo)
            del held[repo]
        elif step == "optimise":
            optimise_all(vault)
        elif step == "gc":
            gc(vault, DEFAULT_GRACE_SECONDS)
    optimise_all(vault)
    gc(vault, DEFAULT_GRACE_SECONDS)
    live = sum(use.live_bytes for use in pack_uses(vault.catalogue))
    kept = sum(max(use.live_bytes, use.used_bytes) for use in pack_uses(vault.catalogue))
    assert garbage_in(vault, undeletable=True) <= MOST_GARBAGE * kept
    gc(vault)
    assert garbage_in(vault, undeletable=False) <= MOST_GARBAGE * live
    for repo, seed in held.items():
        pull(vault, repo, root / "out" / repo)
        assert read_folder(root / "out" / repo) == read_folder(write(root, seed))
    assert vault.check().problems == ()
    assert not Scrubber(vault).run().problems
    vault.close()
    shutil.rmtree(root)


def make_family(vault: LocalVault, root: Path) -> list[Path]:
    """Pushes a family in the worst order: outliers first, the model they come from last."""
    centre = make_weights(1, SHAPES)
    models = [write_model(root / f"m{i}", tune(centre, i, 1e-3)) for i in range(5)]
    models.append(write_model(root / "m5", centre))
    for i, model in enumerate(models):
        push(vault, model, f"org/m{i}")
    return models


def test_optimise_frees_what_it_replaces_at_once(local: LocalVault, tmp_path: Path):
    models = make_family(local, tmp_path)
    before = count_pack_bytes(local.catalogue)
    done = local.optimise_all()
    assert count_pack_bytes(local.catalogue) == before - done.freed <= before
    assert garbage_in(local, undeletable=False) <= MOST_GARBAGE * before
    for i, model in enumerate(models):
        pull(local, f"org/m{i}", tmp_path / "out" / str(i))
        assert read_folder(tmp_path / "out" / str(i)) == read_folder(model)
    assert local.check().problems == ()


OTHER = "heads/" + "0" * 32


def packs_of(vault: LocalVault) -> set[str]:
    return {info.key for info in vault.backend.list("packs/")}


def set_age(root: Path, key: str, seconds: float) -> None:
    """Lets an object of the vault in `root` be that old."""
    then = time.time() - seconds
    os.utime(root / "objects" / key, (then, then))


def test_beside_another_catalogue_replaced_frames_wait_for_the_grace(tmp_path: Path):
    vault = open_local(tmp_path / "vault")
    make_family(vault, tmp_path)
    vault.backend.put(OTHER, b"of another machine")
    packs = packs_of(vault)
    set_age(tmp_path / "vault", OTHER, AT_WORK_SECONDS - 2 * SHOW_SECONDS)
    vault.optimise_all()
    assert gc(vault, DEFAULT_GRACE_SECONDS).others == 1
    assert packs <= packs_of(vault)
    vault.close()


def test_a_catalogue_that_has_not_been_seen_for_a_week_keeps_nothing(tmp_path: Path):
    vault = open_local(tmp_path / "vault")
    make_family(vault, tmp_path)
    vault.backend.put(OTHER, b"of another machine")
    set_age(tmp_path / "vault", OTHER, AT_WORK_SECONDS + SHOW_SECONDS)
    packs = packs_of(vault)
    vault.optimise_all()
    assert gc(vault, DEFAULT_GRACE_SECONDS).others == 0
    assert not packs & packs_of(vault)
    vault.close()


def test_a_catalogue_that_rested_is_seen_before_it_counts_on_what_is_there(tmp_path: Path):
    """Of a commit, and of a step that may remove frames."""
    vault = open_local(tmp_path / "vault")
    key, long_ago = heads_key(vault.catalogue), AT_WORK_SECONDS + 2 * SHOW_SECONDS
    for i, act in enumerate((vault.optimise_all, lambda: gc(vault, DEFAULT_GRACE_SECONDS), None)):
        make_family(vault, tmp_path / str(i))
        set_age(tmp_path / "vault", key, long_ago)
        note_shown(vault.catalogue, time.time() - long_ago)
        if act is None:
            push(vault, tmp_path / str(i) / "m1", "org/again")
        else:
            act()
        (seen,) = (info for info in vault.backend.list("heads/"))
        assert (seen.key, seen.modified > time.time() - SHOW_SECONDS) == (key, True)
    vault.close()


def test_a_catalogue_that_was_built_anew_may_say_that_it_is_alone(tmp_path: Path):
    vault = open_local(tmp_path / "vault")
    models = make_family(vault, tmp_path)
    vault.close()
    anew = open_anew(tmp_path / "vault")
    packs = packs_of(anew)
    assert gc(anew, DEFAULT_GRACE_SECONDS).others == 1
    assert forget_others(anew.backend, anew.catalogue) == 1
    assert [info.key for info in anew.backend.list("heads/")] == [heads_key(anew.catalogue)]
    anew.optimise_all()
    assert gc(anew, DEFAULT_GRACE_SECONDS).others == 0
    assert not packs & packs_of(anew)
    check_family(anew, models, tmp_path / "out")
    anew.close()


def test_what_forgotten_catalogues_said_of_the_journal_is_remembered(tmp_path: Path):
    vault = open_local(tmp_path / "vault")
    make_family(vault, tmp_path)
    vault.note_heads()
    newest = max(info.key for info in vault.backend.list("journal/"))
    vault.backend.delete(newest)
    vault.close()
    for _ in range(2):
        anew = open_anew(tmp_path / "vault")
        forget_others(anew.backend, anew.catalogue)
        assert [entry.key for entry in find_lost(anew.backend, anew.catalogue)] == [newest]
        anew.close()


def test_what_was_deleted_can_be_brought_back_after_packs_were_rewritten(tmp_path: Path):
    from weightvault.dedup.maintenance.undelete_repo import undelete

    vault, clock = open_local(tmp_path / "vault"), Clock()
    models = make_family(vault, tmp_path)
    vault.delete_repo("org/m2")
    optimise_all(vault)
    clock.ahead = 2 * 24 * 3600
    gc(vault, DEFAULT_GRACE_SECONDS, now=clock)
    undelete(vault, "org/m2")
    pull(vault, "org/m2", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(models[2])
    vault.close()


def test_a_catalogue_that_is_rebuilt_knows_which_frames_are_in_use(tmp_path: Path):
    vault = open_local(tmp_path / "vault")
    models = make_family(vault, tmp_path)
    optimise_all(vault)
    vault.close()
    anew = open_anew(tmp_path / "vault")
    assert anew.check().problems == ()
    for i, model in enumerate(models):
        pull(anew, f"org/m{i}", tmp_path / "out" / str(i))
        assert read_folder(tmp_path / "out" / str(i)) == read_folder(model)
    anew.close()


def test_a_delta_that_comes_after_its_base_became_one_is_told_its_depth(
    local: LocalVault, tmp_path: Path
):
    """A push had the base as a standalone frame, which is gone when its pack arrives."""
    centre = make_weights(1, SHAPES)
    outlier = tune(centre, 1, 1e-3)
    push(local, write_model(tmp_path / "a", outlier), "org/a")
    late = write_model(tmp_path / "late", tune(outlier, 7))
    send = local.add_pack

    def overtaken(path: Path, name: str, **options: bool) -> int:
        local.add_pack = send  # type: ignore[method-assign]
        for i in range(4):
            push(local, write_model(tmp_path / f"m{i}", tune(centre, 2 + i, 1e-3)), f"org/m{i}")
        push(local, write_model(tmp_path / "centre", centre), "org/centre")
        optimise_all(local)
        gc(local)
        return send(path, name, **options)

    local.add_pack = overtaken  # type: ignore[method-assign]
    push(local, late, "org/late", base="org/a")
    pull(local, "org/late", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(late)
    assert local.check().problems == ()
