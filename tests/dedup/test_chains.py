"""Chains of deltas: tunes of tunes, each a repo of its own, so that any of them may go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from catalogue_rows import read_rows
from damage import flip
from families_at_work import optimise_all
from models import make_weights, read_folder, tune, write_model

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.maintenance.repair import Repairer
from weightvault.dedup.maintenance.undelete_repo import undelete
from weightvault.dedup.model.inputs import CHAIN_LENGTH
from weightvault.dedup.repository.pack_writing import add_frame
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.catalogue.edges import inputs_closure
from weightvault.store.catalogue.tables.rows import Location
from weightvault.store.packs import PackWriter

COUNT = 6
SHAPES = {"w": (128, 96)}


def write_run(folder: Path, shapes: dict[str, tuple[int, ...]], count: int) -> list[Path]:
    """Folders of models, each a tune of the one before."""
    weights = make_weights(1, shapes)
    made = []
    for number in range(count):
        made.append(write_model(folder / f"c{number}", weights))
        weights = tune(weights, 2 + number, 3e-4)
    return made


def push_run(vault: LocalVault, folders: list[Path]) -> None:
    for number, folder in enumerate(folders):
        base = f"org/c{number - 1}" if number else None
        push(vault, folder, f"org/c{number}", base=base)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return write_run(tmp_path, SHAPES, COUNT)


@pytest.fixture
def vault(local: LocalVault, folders: list[Path]) -> LocalVault:
    push_run(local, folders)
    return local


def place_of(vault: LocalVault, number: int) -> Location:
    """Where the weights of a model of the run lie."""
    entry = vault.resolve(f"org/c{number}").manifest.file("model.safetensors")
    assert entry is not None
    (digest,) = next(iter(entry.tensors)).chunks
    return vault.catalogue.locate([digest])[digest]


def check_all(vault: LocalVault, folders: list[Path], out: Path, without: tuple[int, ...] = ()):
    for number, folder in enumerate(folders):
        if number not in without:
            pull(vault, f"org/c{number}", out / str(number))
            assert read_folder(out / str(number)) == read_folder(folder)
    assert vault.check().problems == ()
    assert Scrubber(vault).run().problems == []


def stored(vault: LocalVault) -> int:
    return sum(i.size for i in vault.backend.list() if not i.key.startswith("journal/"))


def test_a_run_becomes_chains_of_bounded_length(
    vault: LocalVault, folders: list[Path], tmp_path: Path
):
    places = [place_of(vault, number) for number in range(COUNT)]
    levels = [place.level for place in places]
    assert levels[0] == 0
    assert 1 < max(levels) <= CHAIN_LENGTH
    for place in places:
        with vault.catalogue.reading() as connection:
            assert len(inputs_closure(connection, [place.digest])) == place.level
    check_all(vault, folders, tmp_path / "out")


def test_upkeep_leaves_levels_in_order(vault: LocalVault, folders: list[Path], tmp_path: Path):
    before = vault.report().frames
    optimise_all(vault)
    assert vault.report().frames <= before
    assert max(place_of(vault, number).level for number in range(COUNT)) <= CHAIN_LENGTH
    for _ in range(2):
        Collector(vault, grace_seconds=0, dead_share=0.01).run()
    check_all(vault, folders, tmp_path / "out")


@pytest.mark.parametrize("gone", [0, COUNT - 1])
def test_either_end_of_a_run_may_go(
    vault: LocalVault, folders: list[Path], tmp_path: Path, gone: int
):
    delete_one(vault, folders, tmp_path, gone)


def test_the_middle_of_a_run_may_go_and_come_back(
    on_each_database: LocalVault, folders: list[Path], tmp_path: Path
):
    push_run(on_each_database, folders)
    delete_one(on_each_database, folders, tmp_path, COUNT // 2)
    push(on_each_database, folders[COUNT // 2], f"org/c{COUNT // 2}")
    check_all(on_each_database, folders, tmp_path / "again")


def delete_one(vault: LocalVault, folders: list[Path], tmp_path: Path, gone: int) -> None:
    """Deletes one of the run, as predicted to the byte; all others stay."""
    predicted = vault.predict_removal([f"org/c{gone}"])
    before = stored(vault)
    vault.delete_repo(f"org/c{gone}")
    Collector(vault, grace_seconds=0).run()
    assert predicted.exact
    assert (predicted.before, predicted.after) == (before, stored(vault))
    check_all(vault, folders, tmp_path / "out", without=(gone,))


def test_what_was_deleted_is_given_back(vault: LocalVault, folders: list[Path], tmp_path: Path):
    vault.delete_repo("org/c3")
    undelete(vault, "org/c3")
    check_all(vault, folders, tmp_path / "out")


def test_a_catalogue_built_anew_knows_all_links(
    vault: LocalVault, folders: list[Path], tmp_path: Path
):
    optimise_all(vault)
    before = read_rows(vault.catalogue)
    rebuild_catalogue(vault.backend, vault.catalogue)
    assert read_rows(vault.catalogue) == before
    check_all(vault, folders, tmp_path / "out")


def empty_garbage(vault: LocalVault) -> None:
    Repairer(vault).run()
    Collector(vault, grace_seconds=0).run()


def damage_middle(vault: LocalVault, root: Path) -> Location:
    """Flips a byte of a link that others rest on."""
    places = {place.digest: place for place in (place_of(vault, n) for n in range(COUNT))}
    place = places[max(places.values(), key=lambda place: place.level).inputs[0]]
    assert place.inputs
    path = root / "vault" / "objects" / "packs" / place.pack[:2] / place.pack
    flip(path, place.offset + place.frame_bytes - 1)
    return place


def test_a_damaged_link_is_named_with_all_that_rests_on_it_and_sent_again(
    vault: LocalVault, folders: list[Path], tmp_path: Path
):
    place = damage_middle(vault, tmp_path)
    found = Scrubber(vault).run()
    broken = [n for n in range(COUNT) if place.digest in above(vault, n)]
    assert len(broken) > 1
    text = "\n".join(map(str, found.problems))
    assert all(f"org/c{number}@main" in text for number in broken)
    (number,) = (n for n in broken if place_of(vault, n).digest == place.digest)
    push(vault, folders[number], f"org/c{number}")
    empty_garbage(vault)
    check_all(vault, folders, tmp_path / "out")


def above(vault: LocalVault, number: int) -> set[bytes]:
    digest = place_of(vault, number).digest
    with vault.catalogue.reading() as connection:
        return {digest, *inputs_closure(connection, [digest])}


def test_a_damaged_link_is_repaired_from_its_copy(
    vault: LocalVault, folders: list[Path], tmp_path: Path
):
    places = [place_of(vault, number) for number in range(COUNT)]
    with PackWriter(tmp_path / "copy") as writer:
        for frame in vault.fetch_frames([place.digest for place in places[1:]]):
            add_frame(writer, frame)
        vault.add_pack(tmp_path / "copy", writer.finish())
    damage_middle(vault, tmp_path)
    assert Scrubber(vault).run().problems != []
    assert Repairer(vault).run().lost == []
    empty_garbage(vault)
    check_all(vault, folders, tmp_path / "out")


@pytest.fixture
def long_run(local: LocalVault, tmp_path: Path) -> tuple[LocalVault, list[Path]]:
    """Models of a tensor that is read in parts."""
    folders = write_run(tmp_path / "long", {"w": (1200, 1200)}, 4)
    push_run(local, folders)
    return local, folders


def test_a_range_is_read_through_all_links(long_run: tuple[LocalVault, list[Path]]):
    vault, folders = long_run
    assert place_of(vault, 3).level >= 2
    content = (folders[3] / "model.safetensors").read_bytes()
    rng = np.random.default_rng(1)
    for start in (0, len(content) - 1000, *rng.integers(0, len(content) - 1000, 3).tolist()):
        found = vault.read_range("org/c3", "main", "model.safetensors", start, start + 1000)
        assert b"".join(bytes(piece) for piece in found) == content[start : start + 1000]


def write_sparse(folder: Path) -> Path:
    """The first of the run with one word of twelve changed."""
    weights = make_weights(1, SHAPES)
    changed = np.random.default_rng(5).random(SHAPES["w"]) < 1 / 12
    return write_model(folder, {"w": np.where(changed, tune(weights, 9)["w"], weights["w"])})


def test_a_sparse_tune_stays_on_its_base_among_relatives(
    local: LocalVault, folders: list[Path], tmp_path: Path
):
    sparse = write_sparse(tmp_path / "sparse")
    push(local, folders[0], "org/c0")
    alone = push(local, sparse, "org/alone", base="org/c0").sent
    local.delete_repo("org/alone")
    Collector(local, grace_seconds=0).run()
    for number in range(1, 5):
        weights = tune(make_weights(1, SHAPES), 20 + number, 3e-4)
        push(local, write_model(tmp_path / f"r{number}", weights), f"org/r{number}", base="org/c0")
    assert push(local, sparse, "org/sparse", base="org/c0").sent <= 1.05 * alone + 200
    pull(local, "org/sparse", tmp_path / "back")
    assert read_folder(tmp_path / "back") == read_folder(sparse)
