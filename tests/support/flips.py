"""Flips bytes of everything a store holds, and compares what is said of it with what it means."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from damage import flip
from models import make_weights, tune, write_model
from vaults import open_local
from xet_samples import pack_xorb

from weightvault.codecs.frame import parse_header
from weightvault.dedup.errors import VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.repair import Repairer
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.dedup.transfer.xet_uploads import XetUploads
from weightvault.dedup.verification.pack_verify import scan_pack
from weightvault.dedup.verification.scrub import Scrubber, judge_object
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.catalogue.damage import frames_in, packs_by_age
from weightvault.store.packs import read_index

SEEDS = {"org/base": 1, "org/alone": 9}
TUNES = ("org/tuned", "org/again")
SHAPES = {"w": (48, 64), "v": (40, 64), "b": (64,)}


def make_store(root: Path, sources: Path) -> None:
    """A base with two tunes on it, kept twice; a model alone; traces of a deleted one."""
    vault = open_local(root)
    for repo, seed in SEEDS.items():
        push(vault, write_model(sources / repo, make_weights(seed, SHAPES)), repo)
    for number, repo in enumerate(TUNES):
        tuned = tune(make_weights(1, SHAPES), number)
        push(vault, write_model(sources / repo, tuned, "# Tuned\n"), repo, base="org/base")
    push(vault, write_model(sources / "gone", make_weights(4, SHAPES)), "org/gone")
    vault.delete_repo("org/gone")
    add_xorb(vault, sources)
    vault.keep_base_copies(2)
    Collector(vault, copies_from=2).run()
    vault.close()


def add_xorb(vault: LocalVault, folder: Path) -> None:
    """Takes in what a client sends through Xet before it says which file it is of."""
    digest, data = pack_xorb([b"one chunk" * 20, b"another" * 30])
    sent = folder / "xorb"
    sent.write_bytes(data)
    uploads = XetUploads(vault, IncomingFiles(vault))
    uploads.add_xorb(uploads.open_generation("org"), digest, sent)


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes [start, stop) of an object."""

    key: str
    name: str
    start: int
    stop: int


def regions_of(key: str, data: bytes) -> Iterator[Region]:
    """Cuts an object into what FORMAT.md says it is made of."""
    kind = key.partition("/")[0]
    if kind == "packs":
        marks = [*_pack_marks(data)]
    elif kind == "manifests":
        outline = 20 + 32 * int.from_bytes(data[8:12], "little")
        marks = [("head", 0), ("digests", 20), ("outline", outline)]
    elif kind == "sketches":
        marks = [("head", 0), ("rows", 20)]
    elif kind == "xorbs":
        marks = [("index" if key.endswith(".index") else "chunks", 0)]
    else:
        marks = [("text", 0)]
    ends = [start for _, start in marks[1:]] + [len(data)]
    for (name, start), stop in zip(marks, ends, strict=True):
        if start < stop:
            yield Region(key, f"{kind.partition('.')[0]}: {name}", start, stop)


def _pack_marks(data: bytes) -> Iterator[tuple[str, int]]:
    entries = read_index(lambda start, stop: data[start:stop], len(data))
    yield "header", 0
    for entry in entries:
        frame = data[entry.offset : entry.offset + entry.frame_bytes]
        body = parse_header(frame).body_offset
        yield "frame head", entry.offset
        yield "frame digest", entry.offset + 16
        if entry.base_digest is not None:
            yield "frame base", entry.offset + 48
        yield "frame table", entry.offset + (80 if entry.base_digest else 48)
        yield "frame seal", entry.offset + body - 8
        yield "frame body", entry.offset + body
    index = entries[-1].offset + entries[-1].frame_bytes
    yield "index", index
    yield "trailer", len(data) - 32


def is_found(vault: LocalVault, key: str) -> bool:
    """Says whether a scrub, reading that object, finds it wrong."""
    if not key.startswith("packs/"):
        return judge_object(vault, key) is not None
    name = key.rpartition("/")[2]
    (pack,) = (p for p in packs_by_age(vault.catalogue) if p.name == name)
    scrubber = Scrubber(vault)
    places = frames_in(vault.catalogue, pack.id)
    return bool(
        scan_pack(vault.backend, name, places, scrubber._inputs.read_input, lambda _: None).wrong
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Files that cannot be read: in truth, as the scrub names them, after the repair, and as the
    repair names them; and whether all is clean at last."""

    unreadable: set[str]
    named: set[str]
    still: set[str]
    lost: set[str]
    clean: bool


def try_flip(template: Path, root: Path, key: str, at: int) -> Outcome:
    """Flips one byte in a copy of a store; scrubs, repairs and looks again."""
    shutil.copytree(template, root)
    flip(root / "objects" / key, at)
    vault = open_rebuilding(root)
    named = named_files(Scrubber(vault).run().problems)
    unreadable = unreadable_files(vault)
    lost = named_files(Repairer(vault).run().lost)
    vault.close()
    vault = open_local(root)
    still = unreadable_files(vault)
    for _ in range(2):
        Collector(vault, grace_seconds=0, copies_from=2).run()
    clean = not [p for p in Scrubber(vault).run().problems if not named_files([p]) & lost]
    vault.close()
    shutil.rmtree(root)
    return Outcome(unreadable, named, still, lost, clean)


def open_rebuilding(root: Path) -> LocalVault:
    """A vault whose marker may be damaged, as `weightvault repair` opens it."""
    catalogue = open_catalogue(f"sqlite:///{root / 'catalogue.sqlite'}")
    backend = open_backend(str(root / "objects"))
    return LocalVault(backend, catalogue, scratch=root, rebuild_marker=True)


def named_files(problems: list[str]) -> set[str]:
    """The files, or whole revisions, that sentences name."""
    words = {word.strip(",;") for problem in problems for word in problem.split()}
    return {word for word in words if word.startswith("org/")}


def unreadable_files(vault: LocalVault) -> set[str]:
    """The files that really cannot be read, or whole revisions whose manifest cannot."""
    found = set()
    for repo in (*SEEDS, *TUNES):
        try:
            files = vault.resolve(repo).manifest.files
        except VaultError:
            found.add(f"{repo}@main")
            continue
        for entry in files:
            try:
                for _ in vault.read_file(repo, "main", entry.path)[2]:
                    pass
            except VaultError:
                found.add(f"{repo}@main:{entry.path}")
    return found
