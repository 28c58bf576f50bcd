"""Damage to stores: done, found, and what it means in truth."""

from __future__ import annotations

from pathlib import Path

from pack_samples import read_all

from weightvault.dedup.errors import Corrupt
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.repair import Repaired, Repairer
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.packs import PackEntry


def scrub(vault: LocalVault, **options) -> list[str]:
    """Scrubs; returns the problems."""
    return Scrubber(vault, **options).run().problems


def repair(vault: LocalVault, **options) -> Repaired:
    """Repairs what was found."""
    return Repairer(vault, **options).run()


def objects(root: Path, kind: str) -> list[Path]:
    """The files of objects of a kind, of a vault in the folder `vault` below `root`."""
    return sorted(p for p in (root / "vault/objects" / kind).rglob("*") if p.is_file())


def flip(path: Path, at: int, bits: int = 0x10) -> None:
    """Changes bits of one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= bits
    path.write_bytes(data)


def unreadable(vault: LocalVault) -> set[str]:
    """The files that really cannot be read any more."""
    found = set()
    for repo in vault.list_repos():
        try:
            files = vault.resolve(repo.name).manifest.files
        except Corrupt:
            found.add(f"{repo.name}@main")
            continue
        for entry in files:
            try:
                for _ in vault.read_file(repo.name, "main", entry.path)[2]:
                    pass
            except Corrupt:
                found.add(f"{repo.name}@main:{entry.path}")
    return found


def named(problems: list[str]) -> set[str]:
    """The files that the sentences name."""
    words = {word.strip(",;") for problem in problems for word in problem.split()}
    return {word for word in words if word.startswith("org/") and ":" in word}


def entries_of(path: Path) -> list[PackEntry]:
    """The frames of a pack, in the order of their offsets."""
    return read_all(path.read_bytes())


def flip_frame(path: Path, entry: PackEntry) -> None:
    """Changes bits in the middle of a frame of a pack."""
    flip(path, entry.offset + entry.frame_bytes // 2)


def flip_longest(path: Path) -> PackEntry:
    """Changes bits of the longest frame of a pack; returns which it is."""
    longest = max(entries_of(path), key=lambda entry: entry.frame_bytes)
    flip_frame(path, longest)
    return longest


def base_pack(vault: LocalVault, tmp_path: Path) -> Path:
    digests = list(vault.resolve("org/base").manifest.digests())
    weights = [p for p in vault.catalogue.locate(digests).values() if p.raw_bytes > 1000]
    return tmp_path / "vault/objects/packs" / weights[0].pack[:2] / weights[0].pack
