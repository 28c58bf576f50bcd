"""Copies that lack something, found by content and stored as recipes: pruned models, some rows or
columns of tensors, and rows of several in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damage import flip, objects
from models import read_folder, safetensors_bytes

from weightvault.api.requests.tokens import create_token
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.similarity.sources import list_tensors
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.store.packs import DERIVED

ROWS, COLUMNS = 96, 160
CHUNK_BYTES = 65_544
NAMES = ("first", "second", "third")
Words = dict[str, np.ndarray]


def make_source(seed: int = 1) -> Words:
    """Matrices, and a norm, in bf16."""
    rng = np.random.default_rng(seed)
    tensors = {name: to_bf16(rng.normal(0, 0.05, (ROWS, COLUMNS))) for name in NAMES}
    return tensors | {"norm": to_bf16(rng.normal(1, 0.05, COLUMNS))}


def to_bf16(values: np.ndarray) -> np.ndarray:
    words = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((words + 0x7FFF + (words >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(words: np.ndarray) -> np.ndarray:
    return (words.astype(np.uint32) << 16).view(np.float32)


def write(folder: Path, tensors: Words) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    packed = {name: ("BF16", words.shape, words.tobytes()) for name, words in tensors.items()}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(packed))
    return folder


def change(tensors: Words, how: Callable[[np.ndarray], np.ndarray]) -> Words:
    """Changes the matrices."""
    return {n: how(w) if w.ndim == 2 else w for n, w in tensors.items()}


def frames(vault: LocalVault, repo: str, rows: int = 2) -> list[tuple[int, int, int]]:
    """Level, frame bytes and raw bytes of the chunks of a repo's matrices."""
    found = [t for t in list_tensors(vault.resolve(repo).manifest) if len(t.shape) == rows]
    digests = [piece.digest for tensor in found for piece in tensor.pieces]
    places = vault.catalogue.locate(digests).values()
    return [(place.level, place.frame_bytes, place.raw_bytes) for place in places]


def check_pull(vault: LocalVault, repo: str, folder: Path, pushed: Path) -> None:
    pull(vault, repo, folder)
    assert read_folder(folder) == read_folder(pushed)


def optimise(vault: LocalVault) -> int:
    """Returns how many bytes it saves."""
    cursor: int | None = 0
    saved = 0
    while cursor is not None:
        step = vault.optimise(cursor)
        saved, cursor = saved + step.before - step.after, step.cursor
    return saved


def prune_by_magnitude(words: np.ndarray) -> np.ndarray:
    magnitudes = words & np.uint16(0x7FFF)
    return np.where(magnitudes < np.median(magnitudes), np.uint16(0), words)


def prune_by_chance(words: np.ndarray) -> np.ndarray:
    return np.where(np.random.default_rng(3).random(words.shape) < 0.5, np.uint16(0), words)


def tune_and_prune(words: np.ndarray) -> np.ndarray:
    steps = np.random.default_rng(4).integers(-1, 2, words.shape)
    return prune_by_magnitude((words + steps).astype(np.uint16))


@pytest.mark.parametrize(
    ("how", "most"),
    [(prune_by_magnitude, 0.04), (prune_by_chance, 0.1), (tune_and_prune, 0.2)],
    ids=["magnitude", "random", "tuned"],
)
def test_a_pruned_copy_is_a_recipe(
    local: LocalVault, tmp_path: Path, how: Callable[[np.ndarray], np.ndarray], most: float
):
    source = make_source()
    push(local, write(tmp_path / "source", source), "org/source")
    copy = write(tmp_path / "copy", change(source, how))
    push(local, copy, "other/copy")
    for level, frame_bytes, raw_bytes in frames(local, "other/copy"):
        assert level == DERIVED
        assert frame_bytes <= most * raw_bytes
    check_pull(local, "other/copy", tmp_path / "pulled", copy)


def take_rows(words: np.ndarray) -> np.ndarray:
    return words[np.sort(np.random.default_rng(5).permutation(len(words))[: len(words) // 2])]


def take_columns(words: np.ndarray) -> np.ndarray:
    kept = np.sort(np.random.default_rng(6).permutation(COLUMNS // 8)[: COLUMNS // 16])
    return np.ascontiguousarray(words[:, (kept[:, None] * 8 + np.arange(8)).reshape(-1)])


def nest(words: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(words[: len(words) * 2 // 3, : COLUMNS * 2 // 3])


@pytest.mark.parametrize("how", [take_rows, take_columns, nest])
def test_rows_and_columns_of_a_source_are_recipes(
    local: LocalVault, tmp_path: Path, how: Callable[[np.ndarray], np.ndarray]
):
    source = make_source()
    push(local, write(tmp_path / "source", source), "org/source")
    push(local, write(tmp_path / "stranger", make_source(9)), "org/stranger")
    copy = write(tmp_path / "copy", change(source, how))
    push(local, copy, "other/copy")
    for level, frame_bytes, raw_bytes in frames(local, "other/copy"):
        assert level == DERIVED
        assert frame_bytes <= 0.05 * raw_bytes
    check_pull(local, "other/copy", tmp_path / "pulled", copy)


@pytest.mark.parametrize("sources_first", [True, False])
def test_rows_of_several_are_recipes_and_theirs_of_all(
    local: LocalVault, tmp_path: Path, sources_first: bool
):
    source = make_source()
    apart = write(tmp_path / "apart", source)
    rows = np.concatenate([source[name] for name in NAMES])
    fused = write(tmp_path / "fused", {"all": rows, "norm": source["norm"]})
    steps = [(apart, "org/apart"), (fused, "org/fused")][:: 1 if sources_first else -1]
    for folder, repo in steps:
        push(local, folder, repo)
    second = steps[1][1]
    for level, frame_bytes, _ in frames(local, second):
        assert level == DERIVED
        assert frame_bytes <= 500
    for folder, repo in steps:
        check_pull(local, repo, tmp_path / f"pulled-{repo[4:]}", folder)


@pytest.mark.parametrize("sources_first", [True, False])
def test_the_mean_of_two_tunes_is_a_recipe(local: LocalVault, tmp_path: Path, sources_first: bool):
    models = {"source": make_source()}
    for number in range(2):
        rng = np.random.default_rng(20 + number)
        models[f"tune{number}"] = change(
            models["source"], lambda w, r=rng: (w + r.integers(-3, 4, w.shape)).astype(np.uint16)
        )
    models["copy"] = {
        name: to_bf16((from_bf16(models["tune0"][name]) + from_bf16(models["tune1"][name])) / 2)
        for name in models["source"]
    }
    folders = {name: write(tmp_path / name, tensors) for name, tensors in models.items()}
    for name in list(folders)[:: 1 if sources_first else -1]:
        push(local, folders[name], f"other/{name}")
    assert sources_first or optimise(local) > 0
    for level, frame_bytes, raw_bytes in frames(local, "other/copy"):
        assert level == DERIVED
        assert frame_bytes <= 0.02 * raw_bytes
    for name, folder in folders.items():
        check_pull(local, f"other/{name}", tmp_path / f"pulled-{name}", folder)


def test_a_pruned_copy_makes_way_for_its_source(local: LocalVault, tmp_path: Path):
    source = make_source()
    copy = write(tmp_path / "copy", change(source, tune_and_prune))
    whole = write(tmp_path / "source", source)
    push(local, copy, "other/copy")
    push(local, whole, "org/source", base="other/copy")
    assert {level for level, _, _ in frames(local, "org/source")} == {1}
    optimise(local)
    assert {level for level, _, _ in frames(local, "other/copy")} == {DERIVED}
    assert {level for level, _, _ in frames(local, "org/source")} == {0}
    check_pull(local, "other/copy", tmp_path / "pulled", copy)
    check_pull(local, "org/source", tmp_path / "again", whole)


@pytest.mark.parametrize("how", [take_rows, take_columns, nest, prune_by_magnitude])
def test_tensors_of_many_chunks_name_those_they_need(
    local: LocalVault, tmp_path: Path, how: Callable[[np.ndarray], np.ndarray]
):
    # Chunks begin inside of rows.
    words = make_source()["first"]
    turned = [np.roll(words, i, axis=1) ^ np.uint16(i) for i in range(12)]
    source = {"first": np.concatenate(turned), "norm": make_source()["norm"]}
    push(local, write(tmp_path / "source", source), "org/source", chunk_bytes=CHUNK_BYTES)
    copy = write(tmp_path / "copy", change(source, how))
    push(local, copy, "other/copy", chunk_bytes=CHUNK_BYTES)
    found = frames(local, "other/copy")
    assert len(found) >= 2
    assert {level for level, _, _ in found} == {DERIVED}
    check_pull(local, "other/copy", tmp_path / "pulled", copy)


def test_stacked_experts_are_rows_of_each(local: LocalVault, tmp_path: Path):
    rng = np.random.default_rng(8)
    experts = [to_bf16(rng.normal(0, 0.05, (96, 96))) for _ in range(20)]
    norm = to_bf16(rng.normal(1, 0.05, 96))
    apart = {f"experts.{i}.up": words for i, words in enumerate(experts)} | {"norm": norm}
    push(local, write(tmp_path / "apart", apart), "org/apart")
    stacked = write(tmp_path / "stacked", {"up": np.stack(experts[:16]), "norm": norm})
    push(local, stacked, "org/stacked")
    assert {level for level, _, _ in frames(local, "org/stacked", 3)} == {DERIVED}
    check_pull(local, "org/stacked", tmp_path / "pulled", stacked)


@pytest.mark.parametrize("how", [prune_by_magnitude, take_rows, tune_and_prune])
@pytest.mark.parametrize("source_first", [True, False])
def test_what_others_alone_may_read_is_no_source(
    local: LocalVault,
    tmp_path: Path,
    how: Callable[[np.ndarray], np.ndarray],
    source_first: bool,
):
    for name in ("you", "me"):
        create_token(local, name, "write", name)
    source = make_source()
    pushes = {"you/source": source, "me/copy": change(source, how)}
    for repo in list(pushes)[:: 1 if source_first else -1]:
        push(local, write(tmp_path / repo, pushes[repo]), repo)
    optimise(local)
    for repo in pushes:
        assert {level for level, _, _ in frames(local, repo)} == {0}
        check_pull(local, repo, tmp_path / f"pulled-{repo[:2]}", tmp_path / repo)


@pytest.mark.parametrize("how", [take_rows, prune_by_chance])
def test_a_damaged_source_is_none(
    local: LocalVault, tmp_path: Path, how: Callable[[np.ndarray], np.ndarray]
):
    source = make_source()
    push(local, write(tmp_path / "source", source), "org/source")
    (tensor, *_) = (t for t in list_tensors(local.resolve("org/source").manifest) if t.shape[1:])
    place = local.catalogue.locate([tensor.pieces[0].digest])[tensor.pieces[0].digest]
    (pack,) = (path for path in objects(tmp_path, "packs") if place.pack in path.name)
    flip(pack, place.offset + place.frame_bytes - 9)
    copy = write(tmp_path / "copy", change(source, how))
    push(local, copy, "other/copy")
    # The others have theirs still.
    assert sorted(level for level, _, _ in frames(local, "other/copy"))[-2:] == [DERIVED] * 2
    check_pull(local, "other/copy", tmp_path / "pulled", copy)
