"""Edited text files take what the edit changed; small files take less than any of them alone."""

import json
from pathlib import Path

import pytest
from families_at_work import optimise_all
from hypothesis import given, settings
from hypothesis import strategies as st
from models import make_weights, read_folder, write_model
from sqlalchemy import func, select

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.model.files.entries import FileEntry
from weightvault.dedup.model.files.manifest import Manifest
from weightvault.dedup.model.files.segments import Opaque
from weightvault.dedup.model.inputs import CHAIN_LENGTH
from weightvault.dedup.similarity.edits import match_edits
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.catalogue.tables.schema import chunks

WORDS = {f"word {i * i % 100_003}": i for i in range(40_000)}
STEPS = [{"step": i, "loss": 2.0 / i, "learning_rate": 1e-5 / i} for i in range(1, 900)]


def dump(value: object) -> str:
    return json.dumps(value, indent=2)


def push_texts(vault: LocalVault, folder: Path, repo: str, texts: dict[str, str]) -> int:
    """Pushes and pulls a folder of texts; returns the bytes of packs that it took."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    sent = push(vault, folder, repo).sent
    back = folder.with_name(f"back of {folder.name}")
    pull(vault, repo, back)
    assert read_folder(back) == read_folder(folder)
    return sent


def test_edits_of_every_kind_are_patches(local: LocalVault, tmp_path: Path):
    folder = tmp_path / "model"
    card = "# A model\n\n" + "\n".join(
        f"It learnt fact {i}, and forgot {i * 7}." for i in range(99)
    )
    first = {
        "tokenizer.json": dump(WORDS),
        "README.md": card,
        "trainer_state.json": dump(STEPS[:600]),
        "config.json": dump({"hidden_size": 384, "vocab_size": 40_000}),
    }
    whole = push_texts(local, folder, "org/m", first)
    changed = WORDS | {"word 9": -1, "word 4": -2}
    second = first | {
        "tokenizer.json": dump(changed),
        "README.md": card.replace("fact 50", "the fact 50") + "\n\nMore to come.",
        "trainer_state.json": dump(STEPS),
        "config.json": dump({"hidden_size": 384, "vocab_size": 40_001}),
    }
    # The log grew by half, the others hardly at all.
    grown = push_texts(local, tmp_path / "alone", "org/log", {"log": dump(STEPS[600:])})
    assert push_texts(local, folder, "org/m", second) < min(0.2 * whole, grown + 2500)


def test_a_chain_of_edits_stays_short(local: LocalVault, tmp_path: Path):
    card = "\n".join(f"Line {i} of a card that is edited often." for i in range(300))
    sizes = []
    for i in range(6):
        card = card.replace(f"Line {i * 40} ", f"Line {i * 40}, once more edited, ")
        sizes.append(push_texts(local, tmp_path / "m", "org/m", {"README.md": card}))
    assert max(sizes[1:]) < 600
    with local.catalogue.reading() as connection:
        deepest = connection.scalar(select(func.max(chunks.c.level)))
    assert deepest is not None
    assert deepest <= CHAIN_LENGTH
    assert not local.check().problems


def test_upkeep_leaves_patches_whole(local: LocalVault, tmp_path: Path):
    """Texts of one length and of others, patches and not, some without their first version."""
    lines = [f"A line with the number {i * i} in it.\n" for i in range(150)]
    for version in range(8):
        lines[version * 3] = lines[version * 3].replace("number", "NUMBER")
        if version % 3 == 2:
            lines.insert(50, "One line more.\n")
        push_texts(local, tmp_path / "m", f"org/m{version % 2}", {"log.txt": "".join(lines)})
    local.delete_repo("org/m0")
    optimise_all(local)
    Collector(local, grace_seconds=0).run()
    assert Scrubber(local).run().problems == []
    pull(local, "org/m1", tmp_path / "back")
    assert (tmp_path / "back" / "log.txt").read_text() == "".join(lines)


def test_the_commit_before_counts_beside_a_declared_base(local: LocalVault, tmp_path: Path):
    base = write_model(tmp_path / "base", make_weights(1))
    push(local, base, "org/base")
    card = "---\nbase_model: org/base\n---\n" + "".join(f"{i} is {i * i}.\n" for i in range(2000))
    tune = write_model(tmp_path / "tune", make_weights(2), card)
    first = push(local, tune, "org/tune").sent
    (tune / "README.md").write_text(card + "That is all.\n")
    again = push(local, tune, "org/tune")
    assert again.commit.base == "org/base"
    assert again.sent < 400 < first


def test_a_tune_takes_what_its_config_changed(local: LocalVault, tmp_path: Path):
    config = {f"setting_{i * 37 % 101}": i * i * 31 % 977 for i in range(60)}
    push_texts(local, tmp_path / "base", "org/base", {"config.json": dump(config)})
    folder = tmp_path / "tune"
    folder.mkdir()
    (folder / "config.json").write_text(dump(config | {"setting_1": "changed"}))
    assert push(local, folder, "org/tune", base="org/base").sent < 300


def test_small_files_take_half(local: LocalVault, tmp_path: Path):
    """As zstd makes of them, that is; what packs and frames add to each counts."""
    special = {
        f"{name}_token": f"[{name.upper()}]" for name in ("cls", "mask", "pad", "sep", "unk")
    }
    pooling = {"word_embedding_dimension": 384, "pooling_mode_cls_token": False}
    texts = {"special_tokens_map.json": dump(special), "pooling.json": dump(pooling)}
    sent = push_texts(local, tmp_path / "m", "org/m", texts)
    assert sent < 2 * (64 + 32 + 10 + 40) + 40


def entry(names: str) -> FileEntry:
    segments = tuple(Opaque(100, (name.encode() * 32,)) for name in names)
    return FileEntry("f", 100 * len(names), names.encode() * 2, segments)


CASES = {
    ("abc", "aXc"): "Xb",
    ("abcd", "aXYd"): "Xb Yc",
    ("abc", "aXYc"): "Xb Yb",
    ("abcd", "aXd"): "Xb",
    ("abc", "abcX"): "",
    ("abc", "abX"): "Xc",
    ("abcde", "XbcdY"): "Xa Ye",
    ("ab", "ab"): "",
    ("", "X"): "",
    ("a", "XY"): "Xa Ya",
}


@pytest.mark.parametrize(("old", "new"), CASES)
def test_chunks_are_paired_by_their_place(old: str, new: str):
    found = match_edits(Manifest((entry(new),)), Manifest((entry(old),)))
    pairs = {digest[:1].decode() + use.digest[:1].decode() for digest, use in found.items()}
    assert pairs == set(CASES[old, new].split())


@given(st.text("abcdef", max_size=12), st.text("abcdef", max_size=12))
@settings(deadline=None)
def test_only_new_chunks_are_matched_and_only_with_old_ones(old: str, new: str):
    found = match_edits(Manifest((entry(new),)), Manifest((entry(old),)))
    for digest, use in found.items():
        assert digest[:1].decode() in new
        assert digest[:1].decode() not in old
        assert use.digest[:1].decode() in old
