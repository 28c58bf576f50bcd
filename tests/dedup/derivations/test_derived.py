"""A derived frame in a vault: over a delta, over a base, three frames deep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from catalogue_rows import read_rows
from models import read_folder, safetensors_bytes
from operation_samples import weights
from sqlalchemy import select

from weightvault.codecs.buffers import view_bytes
from weightvault.codecs.pipeline import encode_tensor
from weightvault.dedup.derivations import derived_frames
from weightvault.dedup.derivations.recipe import Operand, Piece, Recipe
from weightvault.dedup.errors import InvalidFrame
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.derive import derive_chunks
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.model.report import DIMENSIONS, Query
from weightvault.dedup.repository.pack_writing import add_frame
from weightvault.dedup.transfer.new_frames import put_in_use
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.catalogue.edges import inputs_closure
from weightvault.store.catalogue.sketches.sketches import read_family
from weightvault.store.catalogue.tables.schema import chunks
from weightvault.store.errors import NotFound
from weightvault.store.packs import DELTA, DERIVED, STANDALONE, PackWriter

COUNT = 40_000


def narrow(wide: bytes) -> bytes:
    """The cast of 32 to 16 bits that the recipe names, by numpy."""
    words = np.frombuffer(wide, np.uint32)
    rounded = words + np.uint32(0x7FFF) + (words >> np.uint32(16) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16).tobytes()


BASE = weights("F32", COUNT, 1).raw.tobytes()
TUNED = (np.frombuffer(BASE, np.uint32) + (np.arange(COUNT) % 50 == 0)).astype("<u4").tobytes()
CAST = narrow(TUNED)
DIGESTS = [blake3(raw).digest() for raw in (BASE, TUNED, CAST)]


def derived_frame() -> bytes:
    piece = Piece(DIGESTS[1], len(TUNED))
    recipe = Recipe(1, 1, (Operand("F32", (piece,)),), b"\0")
    frame = derived_frames.encode(
        CAST, "BF16", DIGESTS[2], recipe, lambda *_: view_bytes(TUNED), most_bytes=len(CAST)
    )
    assert frame is not None
    assert len(frame) < 1000
    return frame


def add_pack(vault: LocalVault, folder: Path, *frames: bytes) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "pack"
    path.unlink(missing_ok=True)
    with PackWriter(path) as writer:
        for frame in frames:
            add_frame(writer, frame)
        name = writer.finish()
    vault.add_pack(path, name)
    return name


def derive(vault: LocalVault, folder: Path) -> None:
    """Has the cast stored as derived of the tuned tensor, which is a delta on the base."""
    delta = encode_tensor(TUNED, "F32", base=BASE, base_digest=DIGESTS[0])
    for digest, frame in ((DIGESTS[1], delta), (DIGESTS[2], derived_frame())):
        name = add_pack(vault, folder, frame)
        place = vault.catalogue.locate([digest])[digest]
        if place.pack != name:
            assert put_in_use(vault, name, [[place]])


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    """Folders with a model of one tensor each."""
    tensors = {"base": ("F32", BASE), "tuned": ("F32", TUNED), "cast": ("BF16", CAST)}
    folders = {}
    for name, (dtype, raw) in tensors.items():
        folders[name] = tmp_path / name
        folders[name].mkdir()
        content = safetensors_bytes({"w": (dtype, (COUNT,), raw)})
        (folders[name] / "model.safetensors").write_bytes(content)
    return folders


@pytest.fixture
def vault(local: LocalVault, models: dict[str, Path], tmp_path: Path) -> LocalVault:
    """All three pushed, the cast derived from the tuned one, which is a delta on the base."""
    for name, folder in models.items():
        push(local, folder, f"org/{name}")
    derive(local, tmp_path / "packs")
    places = local.catalogue.locate(DIGESTS)
    assert [places[digest].level for digest in DIGESTS] == [STANDALONE, DELTA, DERIVED]
    return local


def check(vault: LocalVault, model: Path, out: Path) -> None:
    """The cast comes back, and nothing is wrong."""
    pull(vault, "org/cast", out)
    assert read_folder(out) == read_folder(model)
    assert vault.check().problems == ()
    found = Scrubber(vault).run()
    assert found.problems == []
    assert found.frames > 0
    report = vault.report(Query(DIMENSIONS))
    assert report.stored == report.frames + report.metadata + report.garbage


def test_deriving_passes_over_what_is_collected_meanwhile(
    local: LocalVault, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    """A repo may be deleted, and its manifest collected, after its commit was listed."""
    for name, folder in models.items():
        push(local, folder, f"org/{name}")
    gone = local.resolve("org/cast").commit.manifest
    load, asked = local.load_manifest, []

    def load_others(name: str):
        if name == gone:
            asked.append(name)
            raise NotFound(name)
        return load(name)

    monkeypatch.setattr(local, "load_manifest", load_others)
    with local.catalogue.reading() as connection:
        ids = list(connection.scalars(select(chunks.c.id)))
    derive_chunks(local, read_family(local.catalogue, ids))
    assert asked == [gone]


def test_a_chunk_three_frames_deep_outlives_what_it_is_made_of(
    vault: LocalVault, models: dict[str, Path], tmp_path: Path
):
    check(vault, models["cast"], tmp_path / "out")
    for name in ("base", "tuned"):
        vault.delete_repo(f"org/{name}")
    for _ in range(2):
        Collector(vault, grace_seconds=0, dead_share=0.01).run()
    check(vault, models["cast"], tmp_path / "again")
    with vault.catalogue.reading() as connection:
        assert inputs_closure(connection, [DIGESTS[2]]) == set(DIGESTS[:2])
    vault.delete_repo("org/cast")
    for _ in range(2):
        Collector(vault, grace_seconds=0).run()
    assert list(vault.backend.list("packs/")) == []


def test_a_catalogue_built_anew_knows_all_inputs(
    vault: LocalVault, models: dict[str, Path], tmp_path: Path
):
    before = read_rows(vault.catalogue)
    rebuild_catalogue(vault.backend, vault.catalogue)
    assert read_rows(vault.catalogue) == before
    assert len(before["chunk_inputs"]) >= 2
    check(vault, models["cast"], tmp_path / "out")


def test_what_deleting_its_inputs_frees_is_predicted(vault: LocalVault):
    sizes = [sum(info.size for info in vault.backend.list() if info.key[:7] != "journal")]
    predicted = vault.predict_removal(["org/base", "org/tuned"])
    for name in ("base", "tuned"):
        vault.delete_repo(f"org/{name}")
    for _ in range(2):
        Collector(vault, grace_seconds=0).run()
    sizes.append(sum(info.size for info in vault.backend.list() if info.key[:7] != "journal"))
    assert predicted.exact
    assert (predicted.before, predicted.after) == tuple(sizes)


def test_a_frame_over_a_derived_one_is_refused(vault: LocalVault, tmp_path: Path):
    # The cast has a standalone frame from when it was pushed: not once a collection took it.
    for _ in range(2):
        Collector(vault, grace_seconds=0, dead_share=0.01).run()
    with pytest.raises(InvalidFrame, match="needs too much"):
        add_pack(vault, tmp_path / "late", derived_over(CAST))


def derived_over(source: bytes) -> bytes:
    """A frame of the cast of a cast, back to 32 bits."""
    wide = (np.frombuffer(source, np.uint16).astype(np.uint32) << 16).tobytes()
    piece = Piece(blake3(source).digest(), len(source))
    recipe = Recipe(1, 1, (Operand("BF16", (piece,)),), b"\0")
    digest = blake3(wide).digest()
    frame = derived_frames.encode(
        wide, "F32", digest, recipe, lambda *_: view_bytes(source), most_bytes=len(wide)
    )
    assert frame is not None
    return frame
