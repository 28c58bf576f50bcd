"""Small files of a folder are stored together, and each comes back, alone or with the others."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from models import read_folder
from report_checks import ALL, check_report
from vaults import open_anew, open_local

from weightvault.codecs.frame import parse_header
from weightvault.dedup.errors import InvalidFile, InvalidManifest
from weightvault.dedup.formats.cutting import held
from weightvault.dedup.formats.cutting.held import SHORT_BYTES, HeldFile
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files.entries import ChunkUse, FileEntry
from weightvault.dedup.model.files.manifest import Manifest
from weightvault.dedup.model.files.segments import Opaque, Share, share_of
from weightvault.dedup.model.files.shares import find_remainders
from weightvault.dedup.reading.chunk_reader import ChunkReader
from weightvault.dedup.reading.timed_codecs import DECODING
from weightvault.dedup.reports.revision_details import list_folder
from weightvault.dedup.repository.file_hashes import hashes_in
from weightvault.dedup.transfer import recutting
from weightvault.dedup.transfer.folders import small_files
from weightvault.dedup.transfer.folders.memory import ScanMemory
from weightvault.dedup.transfer.folders.small_files import LEAST_FILES, SMALL_BYTES
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import AddFile, DeleteFile, History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.catalogue.files.hashes import hashes_of

COUNT = 300


@pytest.fixture(autouse=True)
def small_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several bundles of a folder that is soon written."""
    monkeypatch.setattr(small_files, "_AIM_BYTES", 4 << 10)
    monkeypatch.setattr(small_files, "_MOST_BYTES", 8 << 10)


def text(number: int, word: str = "") -> bytes:
    return json.dumps({"id": number, "of": word, "hash": f"{number * 7919 % 9973:x}"}).encode()


def write(folder: Path, count: int = COUNT) -> Path:
    for number in range(count):
        path = folder / f"d{number % 7}" / f"f{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text(number))
    return folder


def entries(vault: LocalVault, repo: str = "o/r") -> dict[str, FileEntry]:
    return {entry.path: entry for entry in vault.resolve(repo).manifest.files}


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def shares(vault: LocalVault, repo: str = "o/r") -> dict[str, Share]:
    found = {path: share_of(entry.segments) for path, entry in entries(vault, repo).items()}
    return {path: share for path, share in found.items() if share is not None}


def bundles(vault: LocalVault, repo: str = "o/r") -> set[bytes]:
    return {share.chunks[0] for share in shares(vault, repo).values()}


def check_pull(vault: LocalVault, folder: Path, out: Path, repo: str = "o/r") -> None:
    pull(vault, repo, out)
    assert read_folder(out) == read_folder(folder)


def read(vault: LocalVault, path: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(vault.read_file("o/r", "main", path, start, stop)[2])


def test_they_come_back_together_and_alone(local: LocalVault, tmp_path: Path):
    folder = write(tmp_path / "m")
    (folder / "run.json").write_bytes(b"#!/bin/sh")
    (folder / "run.json").chmod(0o755)
    (folder / "empty.json").write_bytes(b"")
    (folder / "long.json").write_bytes(b"a" * SMALL_BYTES)
    push(local, folder, "o/r")
    assert len(shares(local)) == COUNT + 1
    assert 3 < len(bundles(local)) < COUNT / 10
    before = DECODING.raw_bytes
    check_pull(local, folder, tmp_path / "out")
    # Each bundle is decoded once.
    assert DECODING.raw_bytes - before < 2 * sum(map(len, read_folder(folder).values()))
    assert os.access(tmp_path / "out" / "run.json", os.X_OK)
    whole = text(8)
    assert read(local, "d1/f8.json") == whole
    assert read(local, "d1/f8.json", 3, 9) == whole[3:9]
    assert not local.check().problems


def test_few_are_chunks_of_their_own(local: LocalVault, tmp_path: Path):
    push(local, write(tmp_path / "few", LEAST_FILES - 1), "o/r")
    assert not shares(local)
    push(local, write(tmp_path / "many", LEAST_FILES), "o/many")
    assert len(shares(local, "o/many")) == LEAST_FILES


def test_they_take_less_than_zstd_of_each(
    local: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.undo()
    folder = tmp_path / "m"
    folder.mkdir()
    for number in range(1000):
        said = json.dumps({"id": number, "hash": hashlib.sha256(b"%d" % number).hexdigest()})
        (folder / f"{number}.json").write_text(said)
    push(local, folder, "o/r")
    coder = zstandard.ZstdCompressor(level=19)
    alone = sum(len(coder.compress(data)) for data in read_folder(folder).values())
    # All of it: packs, sketches, manifest, journal.
    assert sum(info.size for info in local.backend.list()) < 1.02 * alone


def test_equal_ones_are_stored_once(local: LocalVault, tmp_path: Path):
    folder = write(tmp_path / "m")
    for number in range(COUNT):
        (folder / f"copy{number}.json").write_bytes(text(number % 10))
    push(local, folder, "o/r")
    distinct = {entry.digest for entry in entries(local).values()}
    assert len(set(shares(local).values())) == len(distinct) == COUNT
    check_pull(local, folder, tmp_path / "out")


def test_an_edit_makes_a_patch_of_one_bundle(local: LocalVault, tmp_path: Path):
    folder = write(tmp_path / "m")
    push(local, folder, "o/r")
    before = bundles(local)
    (folder / "d3" / "f10.json").write_bytes(text(10, "edited"))
    result = push(local, folder, "o/r")
    (new,) = bundles(local) - before
    (frame,) = local.fetch_frames([new])
    assert parse_header(frame).codec == "zstd-patch"
    assert result.new_chunks == 1
    # One more: the others stay as they are, but for where bundles may be longest.
    (folder / "d3" / "new.json").write_bytes(b"new")
    push(local, folder, "o/r")
    assert len(bundles(local) - before) <= 3
    check_pull(local, folder, tmp_path / "out")


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read to be put in bundles."""
    seen: list[Path] = []
    plain = small_files._read

    def read_and_note(path: Path, entry: FileEntry) -> bytes:
        seen.append(path)
        return plain(path, entry)

    monkeypatch.setattr(small_files, "_read", read_and_note)
    return seen


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that have just changed count as unchanged since."""
    monkeypatch.setattr("weightvault.dedup.transfer.folders.survey._SETTLED_NS", -(10**12))


@pytest.mark.usefixtures("settled")
def test_what_is_remembered_is_not_read(
    local: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, memory = write(tmp_path / "m"), ScanMemory(tmp_path / "memory")
    first = push(local, folder, "o/r", memory=memory)
    seen = count_reads(monkeypatch)
    again = push(local, folder, "o/r", memory=memory)
    assert again.commit.id == first.commit.id
    assert not seen
    (folder / "d3" / "f10.json").write_bytes(text(10, "edited"))
    push(local, folder, "o/r", memory=memory)
    assert 0 < len(seen) < COUNT / 2
    # What is remembered gives the same manifest as reading all of it.
    remembered = local.resolve("o/r").commit.manifest
    assert push(local, folder, "o/other").commit.manifest == remembered
    # And where the vault has lost it, it is sent again.
    other = open_local(tmp_path / "other")
    push(other, folder, "o/r", memory=memory)
    check_pull(other, folder, tmp_path / "out")
    other.close()


@pytest.mark.usefixtures("settled")
def test_fewer_than_bundles_are_made_of(local: LocalVault, tmp_path: Path):
    folder, memory = write(tmp_path / "m", LEAST_FILES), ScanMemory(tmp_path / "memory")
    push(local, folder, "o/r", memory=memory)
    (folder / "d0" / "f0.json").unlink()
    push(local, folder, "o/r", memory=memory)
    assert not shares(local)
    check_pull(local, folder, tmp_path / "out")


@pytest.mark.parametrize("most", [0, 1 << 20])
def test_one_that_changes_meanwhile_is_noticed(
    local: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
):
    """Or it is stored as it was when it was read, as far as files are held in memory."""
    monkeypatch.setattr(held, "_MOST_READ_BYTES", most)
    folder = write(tmp_path / "m")
    plain = small_files.bundle_files

    def bundle_then_change(*args: object) -> Iterator[FileEntry]:
        bundled = list(plain(*args))  # pyright: ignore[reportArgumentType]
        (folder / "d1" / "f1.json").write_bytes(text(2))
        return iter(bundled)

    monkeypatch.setattr(
        "weightvault.dedup.transfer.folders.scan_folder.bundle_files", bundle_then_change
    )
    if most:
        push(local, folder, "o/r")
        assert read(local, "d1/f1.json") == text(1)
        return
    with pytest.raises(InvalidFile, match="changed while it was pushed"):
        push(local, folder, "o/r")
    assert local.list_repos() == []


def test_a_rebuilt_catalogue_has_them(tmp_path: Path):
    folder = write(tmp_path / "m")
    vault = open_local(tmp_path / "vault")
    push(vault, folder, "o/r")
    vault.close()
    vault = open_anew(tmp_path / "vault")
    check_pull(vault, folder, tmp_path / "out")
    # Their other hashes are told by nobody, and taken when somebody asks.
    manifest = vault.resolve("o/r").manifest
    hashes = hashes_in(vault, manifest)
    sha256 = hashes[entries(vault)["d1/f1.json"].digest].sha256
    assert sha256 == hashlib.sha256(text(1)).digest()
    assert hashes_in(vault, manifest) == hashes
    vault.close()


def test_reports_add_up(local: LocalVault, tmp_path: Path):
    folder = write(tmp_path / "m")
    push(local, folder, "o/r")
    history = History(local, IncomingFiles(local))
    # A commit that has but some of the files of a bundle.
    gone = [DeleteFile(path) for path in list(shares(local))[::2]]
    history.commit("o/r", "main", gone, Message("less"))
    push(local, write(tmp_path / "other", COUNT // 2), "o/other")
    check_report(local, local.report(ALL))
    snapshot = local.resolve("o/other")
    top = list_folder(local.catalogue, snapshot)
    frames = local.catalogue.locate(list(bundles(local, "o/other"))).values()
    stored = sum(frame.frame_bytes for frame in frames)
    assert sum(line.stored or 0 for line in top) == pytest.approx(stored, abs=8 * len(top))


def test_commits_of_changes_keep_the_others(local: LocalVault, tmp_path: Path):
    folder = write(tmp_path / "m")
    push(local, folder, "o/r")
    incoming = IncomingFiles(local)
    made = incoming.add([b"changed"], "o/r")
    changes = [DeleteFile("d1/f1.json"), AddFile("d2/f2.json", made)]
    History(local, incoming).commit("o/r", "main", changes, Message("edit"))
    (folder / "d1" / "f1.json").unlink()
    (folder / "d2" / "f2.json").write_bytes(b"changed")
    check_pull(local, folder, tmp_path / "out")
    # What was deleted lives on nowhere beside what is left.
    chunks = [ChunkUse(s.chunks[0], 0, s.whole, "U8") for s in shares(local).values()]
    held = b"".join(map(bytes, ChunkReader(local.fetch_frames).read(chunks)))
    assert text(3) in held
    assert text(1) not in held
    assert text(2) not in held
    # One more deletion, of the same bundle, asked for twice.
    again = History(local, incoming)
    for _ in range(2):
        again.commit("o/r", "main", [AddFile("d3/f3.json", made)], Message("once more"))
    (folder / "d3" / "f3.json").write_bytes(b"changed")
    check_pull(local, folder, tmp_path / "out")
    push(local, folder, "o/r")
    assert len(shares(local)) == COUNT - 1


def test_bundles_of_any_bytes_are_made_again_together(
    local: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Long ones of random bytes look like something that is cut by content."""
    monkeypatch.setattr(small_files, "_AIM_BYTES", 256 << 10)
    monkeypatch.setattr(small_files, "_MOST_BYTES", 512 << 10)
    folder = tmp_path / "m"
    folder.mkdir()
    for number in range(200):
        data = hashlib.shake_256(b"%d" % number).digest(4000)
        (folder / f"{number:03}.bin").write_bytes(data)
    push(local, folder, "o/r")
    before, packs = bundles(local), local.catalogue.pack_names()
    gone = {share.chunks: folder / path for path, share in shares(local).items()}.values()
    history = History(local, IncomingFiles(local))
    history.commit("o/r", "main", [DeleteFile(path.name) for path in gone], Message("less"))
    assert before.isdisjoint(bundles(local))
    assert not find_remainders(local.resolve("o/r").manifest.files)
    # All of one commit in one go.
    assert len(local.catalogue.pack_names() - packs) == 1
    for path in gone:
        path.unlink()
    check_pull(local, folder, tmp_path / "out")


def test_the_next_commit_goes_on(
    local: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A few deletions do not have a server store all of a repo again."""
    monkeypatch.setattr(recutting, "_MAX_BUNDLED_BYTES", 9 << 10)
    push(local, write(tmp_path / "m"), "o/r")
    history = History(local, IncomingFiles(local))
    paths = {share.chunks: path for path, share in shares(local).items()}.values()
    history.commit("o/r", "main", [DeleteFile(path) for path in paths], Message("less"))
    left = [len(find_remainders(local.resolve("o/r").manifest.files))]
    while left[-1]:
        change = [DeleteFile(next(iter(shares(local))))]
        history.commit("o/r", "main", change, Message("on"))
        left.append(len(find_remainders(local.resolve("o/r").manifest.files)))
        assert left[-1] < left[-2]
    assert len(left) > 1


@pytest.mark.parametrize("inline", [False, True])
def test_a_commit_of_changes_makes_those_of_a_push(local: LocalVault, tmp_path: Path, inline):
    folder = write(tmp_path / "m")
    (folder / "long.json").write_bytes(b"a" * (SHORT_BYTES + 1))
    incoming = IncomingFiles(local, inline=inline)
    paths = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*.json"))}
    # Some lie in memory, as those of a request do.
    files = {n: HeldFile(p.read_bytes()) if "d1/" in n else p for n, p in paths.items()}
    staged = incoming.stage(files, "o/r", bundled_from=LEAST_FILES)
    History(local, incoming).create_repo("o/r", Message("new"))
    changes = [AddFile(name, file) for name, file in zip(files, staged, strict=True)]
    History(local, incoming).commit("o/r", "main", changes, Message("all"))
    assert len(shares(local)) == COUNT
    assert 3 < len(bundles(local)) < COUNT / 10
    check_pull(local, folder, tmp_path / "out")
    assert push(local, folder, "o/r").new_chunks == 0
    # Their hashes are known without reading them again.
    entry = entries(local)["d1/f8.json"]
    assert hashes_of(local.catalogue, [entry.digest])[entry.digest].sha256 == sha256(text(8))
    assert not local.check().problems


def test_uploads_do_not_take_a_share_from_another_repo(local: LocalVault, tmp_path: Path):
    push(local, write(tmp_path / "m"), "o/r")
    entry = entries(local)["d1/f1.json"]
    named = hashes_in(local, Manifest((entry,)))[entry.digest].sha256
    incoming = IncomingFiles(local)
    assert incoming.find(named, lambda repo: True) is None
    push(local, write(tmp_path / "few", 9), "o/few")
    found = incoming.find(named, lambda repo: True)
    assert found is not None
    assert isinstance(found.entry.segments[0], Opaque)


LIES = {
    "another share": lambda share: replace(share, start=share.start + 1),
    "less": lambda share: replace(share, size=share.size - 1),
    "another length of the bundle": lambda share: replace(share, whole=share.whole + 1),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_no_share_is_believed(local: LocalVault, tmp_path: Path, lie):
    push(local, write(tmp_path / "m"), "o/r")
    path, share = next((p, s) for p, s in shares(local).items() if s.start)
    entry, told = entries(local)[path], lie(share)
    entry = replace(entry, size=told.size, segments=(told,))
    with pytest.raises(InvalidManifest):
        local.commit("o/lie", "main", Manifest((entry,)))
