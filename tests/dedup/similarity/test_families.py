"""Bases found by content whatever tensors are called, and the families that come of it."""

import math
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from models import bf16_file, make_weights, read_folder, safetensors_bytes, tune, write_model
from vaults import open_local

from weightvault.api.cli.verbs.family_chart import draw_families
from weightvault.dedup.errors import RepoNotFound
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.families import Family, FamilyMember
from weightvault.dedup.model.sketch import make_sketch
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push

SHAPES = {f"model.layers.{i}.weight": (64, 64) for i in range(4)}


def tensor_bases(vault: LocalVault, repo: str) -> dict[str, bytes | None]:
    tensors = [t for f in vault.resolve(repo).manifest.files for t in f.tensors]
    places = vault.catalogue.locate([t.chunks[0] for t in tensors])
    return {t.name: places[t.chunks[0]].base for t in tensors}


def tensor_digests(vault: LocalVault, repo: str) -> dict[str, bytes]:
    return {t.name: t.chunks[0] for f in vault.resolve(repo).manifest.files for t in f.tensors}


def test_renamed_resharded_tensors_find_their_bases(local: LocalVault, tmp_path: Path):
    weights = make_weights(1, SHAPES)
    push(local, write_model(tmp_path / "base", weights), "org/base")
    renamed = {f"bert.h.{3 - i}.w": v for i, v in enumerate(tune(weights, 2).values())}
    shards = tmp_path / "shards"
    shards.mkdir()
    for i, (name, values) in enumerate(renamed.items()):
        (shards / f"part-{i % 2}-{i}.safetensors").write_bytes(bf16_file({name: values}))
    push(local, shards, "org/tuned")
    bases = tensor_digests(local, "org/base")
    assert tensor_bases(local, "org/tuned") == {
        f"bert.h.{3 - i}.w": bases[name] for i, name in enumerate(SHAPES)
    }
    pull(local, "org/tuned", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(shards)


@pytest.mark.parametrize("rows", [800, 600], ids=["rows appended", "rows left out"])
def test_vocabularies_of_other_lengths_share_their_rows(
    local: LocalVault, tmp_path: Path, rows: int
):
    embedding = make_weights(1, {"embed.weight": (700, 32)})
    tuned = tune(embedding, 2)["embed.weight"]
    more = make_weights(3, {"x": (100, 32)})["x"]
    changed = np.concatenate([tuned, more])[:rows]
    first = push(local, write_model(tmp_path / "base", embedding), "org/base")
    model = write_model(tmp_path / "tuned", {"wte": changed})
    result = push(local, model, "org/tuned")
    assert list(tensor_bases(local, "org/tuned").values()) == list(
        tensor_digests(local, "org/base").values()
    )
    assert result.sent < 0.65 * first.sent
    pull(local, "org/tuned", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(model)
    _, place, pieces = local.read_tensor("org/tuned", "main", "wte")
    assert b"".join(pieces) in (model / "model.safetensors").read_bytes()
    assert place.tensor.shape == (rows, 32)
    # A base that another size needs is not given up, whatever else its family gains by it.
    push(local, write_model(tmp_path / "t2", tune(embedding, 4, 3e-4)), "org/t2")
    local.optimise()
    assert local.check().problems == ()
    pull(local, "org/tuned", tmp_path / "again")
    assert read_folder(tmp_path / "again") == read_folder(model)


@pytest.mark.parametrize("longer_first", [False, True], ids=["more rows", "fewer rows"])
@pytest.mark.parametrize(
    ("rows", "columns", "chunk_bytes"),
    [(2040, 16, 1 << 25), (2047, 16, 1 << 25), (2040, 16, 1 << 16), (4090, 16, 1 << 16)],
    ids=["over a power of two", "by one row", "over a chunk", "over two chunks"],
)
def test_sixteen_rows_do_not_hide_the_base(
    local: LocalVault, tmp_path: Path, rows: int, columns: int, chunk_bytes: int, longer_first: bool
):
    embedding = make_weights(1, {"embed.weight": (rows + 16, columns)})["embed.weight"]
    tuned = tune({"wte": embedding}, 2)["wte"]
    base, changed = (embedding, tuned[:rows]) if longer_first else (embedding[:rows], tuned)
    folder = write_model(tmp_path / "base", {"embed": base})
    first = push(local, folder, "org/base", chunk_bytes=chunk_bytes)
    model = write_model(tmp_path / "tuned", {"wte": changed})
    result = push(local, model, "org/tuned", chunk_bytes=chunk_bytes)
    assert result.sent < 0.7 * first.sent
    uses = [u for f in local.resolve("org/tuned").manifest.files for u in f.chunks(chunk_bytes)]
    weights = [use.digest for use in uses if use.dtype == "BF16" and use.size > 32 * columns]
    assert None not in {place.base for place in local.catalogue.locate(weights).values()}
    pull(local, "org/tuned", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(model)


def test_the_nearer_of_two_bases_is_taken_whatever_was_declared(local: LocalVault, tmp_path: Path):
    weights = make_weights(1, SHAPES)
    far, near = tune(weights, 2, 2e-3), tune(weights, 3, 1e-5)
    push(local, write_model(tmp_path / "far", far), "org/far")
    # Kept apart, as if pushed at the same time.
    other = open_local(tmp_path / "other")
    push(other, write_model(tmp_path / "near", weights), "org/near")
    for path in (tmp_path / "other" / "objects").rglob("*"):
        target = tmp_path / "vault" / "objects" / path.relative_to(tmp_path / "other" / "objects")
        if path.is_file() and path.name != "weightvault.json":
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    other.close()
    local.close()
    both = open_local(tmp_path / "vault")
    push(both, write_model(tmp_path / "tuned", near), "org/tuned", base="org/far")
    assert set(tensor_bases(both, "org/tuned").values()) == set(
        tensor_digests(both, "org/near").values()
    )
    both.close()


def test_unrelated_models_attach_to_nothing(local: LocalVault, tmp_path: Path):
    for seed in range(6):
        push(local, write_model(tmp_path / f"m{seed}", make_weights(seed, SHAPES)), f"org/m{seed}")
        assert set(tensor_bases(local, f"org/m{seed}").values()) == {None}
    assert len(local.list_families()) == 6


def test_candidates_can_be_read_by_whoever_is_told_of_them(local: LocalVault, tmp_path: Path):
    weights = make_weights(1, SHAPES)
    push(local, write_model(tmp_path / "base", weights), "org/base")
    values = tune(weights, 2)["model.layers.0.weight"]
    raw = np.frombuffer(bf16_file({"w": values}), np.uint8)[-64 * 64 * 2 :].tobytes()
    ((candidate,),) = local.find_bases([make_sketch(raw, "BF16")])
    frames = local.read_frames(candidate.repo, candidate.revision, [candidate.digest])
    assert len(list(frames)) == 1
    assert 0 < candidate.predicted < candidate.size == len(raw)
    local.delete_repo("org/base")
    # What nobody needs any more is nobody's to read, and is not named.
    assert local.find_bases([make_sketch(raw, "BF16")]) == [()]


def test_a_base_that_vanishes_while_it_is_read_is_done_without(
    local: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    weights = make_weights(1, SHAPES)
    push(local, write_model(tmp_path / "base", weights), "org/base")
    read = local.read_frames

    def delete_first(repo: str, revision: str, digests):
        monkeypatch.setattr(local, "read_frames", read)
        local.delete_repo("org/base")
        raise RepoNotFound("gone")

    monkeypatch.setattr(local, "read_frames", delete_first)
    tuned = write_model(tmp_path / "tuned", tune(weights, 2))
    push(local, tuned, "org/tuned")
    assert set(tensor_bases(local, "org/tuned").values()) == {None}
    pull(local, "org/tuned", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(tuned)


def test_lineage_helps_where_content_says_nothing(local: LocalVault, tmp_path: Path):
    """Mostly equal elements: no sketch tells such tensors apart, but the declared base does."""
    mask = np.zeros(20_000, np.uint8)
    mask[np.random.default_rng(0).choice(20_000, 600, replace=False)] = 200
    changed = mask.copy()
    changed[5] = 1
    for name, values in (("base", mask), ("tuned", changed)):
        (tmp_path / name).mkdir()
        data = safetensors_bytes({"w": ("U8", values.shape, values.tobytes())})
        (tmp_path / name / "m.safetensors").write_bytes(data)
    push(local, tmp_path / "base", "org/base")
    push(local, tmp_path / "tuned", "org/tuned", base="org/base")
    (base,) = tensor_bases(local, "org/tuned").values()
    assert base == tensor_digests(local, "org/base")["w"]


# Families


def test_families_and_their_centres(local: LocalVault, tmp_path: Path):
    weights = make_weights(1, SHAPES)
    push(local, write_model(tmp_path / "base", weights), "org/base")
    for i in range(3):
        push(local, write_model(tmp_path / f"t{i}", tune(weights, i + 2, 3e-4)), f"org/t{i}")
    push(local, write_model(tmp_path / "o", make_weights(9, SHAPES)), "org/other")
    family, alone = local.list_families()
    assert (family.centre, alone.centre) == ("org/base", "org/other")
    assert family.members[0].repo == "org/base"
    assert {m.repo for m in family.members} == {"org/base", "org/t0", "org/t1", "org/t2"}
    base, *tuned = family.members
    assert (base.distance, base.centres, base.chunks) == (0.0, 4, 4)
    assert all(0 < m.distance < 0.05 and m.centres == 0 for m in tuned)
    assert all(m.stored < 0.8 * base.stored for m in tuned)
    assert family.raw == sum(m.raw for m in family.members)
    assert family.stored == sum(m.stored for m in family.members)


def make_family(name: str, count: int) -> Family:
    members = tuple(
        FamilyMember(f"{name}-{i}", 1000, 900 - 50 * i, 0.01 * i, 3, 3) for i in range(count)
    )
    return Family(f"{name}-0", 5000, 3000, members)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_the_picture_is_svg_with_every_model_in_it(count: int):
    families = [make_family(f"org/<f{i}> & more", 1 + i) for i in range(count)]
    root = ET.fromstring(draw_families(families))
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == sum(len(family.members) for family in families)
    titles = {t.text.partition(":")[0] for c in circles for t in c if t.text}
    assert titles == {member.repo for family in families for member in family.members}
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        x, y = map(float, group.attrib["transform"][10:-1].split())
        for circle in group.iter("{http://www.w3.org/2000/svg}circle"):
            place = [float(circle.attrib[key]) for key in ("cx", "cy", "r")]
            assert 0 <= x + place[0] - place[2] <= x + place[0] + place[2] <= width
            assert 0 <= y + place[1] - place[2] <= y + place[1] + place[2] <= height
            assert not math.isnan(place[2])
