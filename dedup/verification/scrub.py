"""Reads everything the store holds, decodes and hashes it, and records what is damaged.

Packs that hold bases come first: what they carry is worth most. Each pack is recorded when it has
been read, so a scrub that was stopped goes on with the next one. What it finds stays on record
until it is repaired (repair.py) or pushed again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial

from ...store.catalogue.damage import (
    PackRow,
    frames_in,
    get_setting,
    packs_by_age,
    record_scrub,
    set_setting,
)
from ...store.catalogue.tombstones import list_tombstones, packs_holding
from ...store.errors import CorruptObject, NotFound, StoreError
from ...store.object_keys import (
    HEADS,
    JOURNAL,
    MANIFESTS,
    MARKER,
    PACKS,
    QUARANTINE,
    SKETCHES,
    XORBS,
    folder_of,
    name_of,
    pack_key,
)
from ..errors import VaultError
from ..model.files.manifest import manifest_name, parse_manifest
from ..model.journal_entries import parse_entry
from ..model.sketch_file import check_sketches
from ..model.store_marker import check_marker
from ..progress import Progress
from ..reading.chunk_reader import ChunkReader
from ..repository.frame_reader import read_frames
from ..repository.journal.heads import parse_heads
from ..repository.journal.lost_entries import describe_lost
from ..repository.journal.replay import catch_up
from ..repository.repository import Repository
from ..xet.stored import check_xorb
from .damage import describe_findings, name_files
from .pack_verify import scan_pack

_STARTED = "scrub_started"


@dataclass
class Scrubbed:
    """What a scrub read, and every problem on record after it: sentences naming what is affected.

    `resumed`: it went on with one that was stopped. `skipped` packs were read by that one.
    """

    packs: int = 0
    frames: int = 0
    bytes: int = 0
    objects: int = 0
    skipped: int = 0
    resumed: bool = False
    problems: list[str] = field(default_factory=list)


class Scrubber:
    """One scrub of a vault. `sample` is the share of it to read, `rate` bytes a second at most."""

    def __init__(
        self,
        vault: Repository,
        *,
        sample: float = 1.0,
        rate: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._vault = vault
        self._backend, self._catalogue = vault.backend.uncached(), vault.catalogue
        self._sample = sample
        self._pace = _Pace(rate)
        self._progress = progress or Progress()
        self._found = Scrubbed()
        self._inputs = ChunkReader(partial(read_frames, self._backend, vault.catalogue))

    def run(self) -> Scrubbed:
        """Scrubs. Raises VaultError kinds for what says nothing about the stored bytes."""
        catch_up(self._backend, self._catalogue)
        packs = self._choose()
        self._progress.begin("scrubbing", sum(pack.bytes for pack in packs))
        try:
            for pack in packs:
                self.scrub_pack(pack)
        finally:
            self._progress.end()
        found = describe_findings(self._backend, self._catalogue)
        self._found.problems += [sentence for sentence, _ in found]
        self._found.problems += self._scrub_small()
        self._found.problems += describe_lost(self._backend, self._catalogue)
        if self._sample >= 1:
            set_setting(self._catalogue, _STARTED, None)
        return self._found

    def _choose(self) -> list[PackRow]:
        """Returns the packs to read: all that this scrub has not read yet, or for a sample those
        not read for longest."""
        going = {key for key, tomb in list_tombstones(self._catalogue).items() if tomb.removed}
        packs = [p for p in packs_by_age(self._catalogue) if pack_key(p.name) not in going]
        if self._sample < 1:
            wanted = self._sample * sum(pack.bytes for pack in packs)
            return list(_take(packs, wanted))
        started = get_setting(self._catalogue, _STARTED)
        self._found.resumed = started is not None
        if started is None:
            started = repr(time.time())
            set_setting(self._catalogue, _STARTED, started)
        left = [p for p in packs if p.verified is None or p.verified < float(started)]
        self._found.skipped = len(packs) - len(left)
        return left

    def scrub_pack(self, pack: PackRow) -> None:
        """Reads a pack and records what of it is damaged."""
        places = frames_in(self._catalogue, pack.id)
        scan = scan_pack(self._backend, pack.name, places, self._inputs.read_input, self._advance)
        at = None if scan.unjudged else time.time()
        record_scrub(self._catalogue, pack.id, scan.wrong, at)
        self._found.packs += 1
        self._found.frames += scan.frames

    def _advance(self, count: int) -> None:
        self._found.bytes += count
        self._progress.advance(count)
        self._pace.wait(count)

    def _scrub_small(self) -> Iterator[str]:
        """Reads what is not a pack. Nothing of it is on record: it is found again each time."""
        for info in self._backend.list():
            if folder_of(info.key) in (PACKS, QUARANTINE) or random.random() >= self._sample:
                continue
            problem = judge_object(self._vault, info.key)
            self._found.objects += 1
            if problem:
                yield problem


def scrub_chunks(vault: Repository, digests: Collection[bytes]) -> None:
    """Scrubs the packs in which some chunks, and what their frames need, lie."""
    if digests:
        names = packs_holding(vault.catalogue, digests)
        scrubber = Scrubber(vault)
        for pack in packs_by_age(vault.catalogue):
            if pack.name in names:
                scrubber.scrub_pack(pack)


def judge_object(vault: Repository, key: str) -> str | None:
    """Says what is wrong with an object that is no pack, and what that means."""
    folder, name = folder_of(key), name_of(key)
    try:
        data = vault.backend.uncached().get(key)
        if folder == MANIFESTS and manifest_name(data) != name:
            return f"manifest {key} is damaged; {_files_of_manifest(vault, name)}"
        if folder in _CHECKS:
            _CHECKS[folder](vault, key, data)
    except NotFound:
        # Deleted since it was listed.
        return None
    except CorruptObject as error:
        return f"{key} is damaged: {error}"
    except StoreError:
        # The store says nothing about the object.
        raise
    except VaultError as error:
        return f"{key}: {error.message}; {_MEANING.get(folder, 'affects no file')}"
    return None


# By the folder of a key: what raises if its bytes are not what they should be.
_CHECKS: dict[str, Callable[[Repository, str, bytes], object]] = {
    MANIFESTS: lambda _vault, _key, data: parse_manifest(data, stored=True),
    JOURNAL: lambda _vault, key, data: parse_entry(key, data),
    HEADS: lambda _vault, key, data: parse_heads(key, data),
    SKETCHES: lambda _vault, _key, data: check_sketches(data),
    XORBS: lambda vault, key, data: check_xorb(vault.backend.uncached(), key, data),
    MARKER: lambda vault, _key, data: check_marker(data, vault.catalogue.store_id()),
}
_MEANING = {
    XORBS: "affects no file; clients that count on it send it again",
    HEADS: "no file is affected",
    JOURNAL: "no file is affected while this catalogue lives",
    MARKER: "no file is affected, but nobody can open the store any more",
}


def _files_of_manifest(vault: Repository, name: str) -> str:
    rows = [row for row in vault.catalogue.all_commits() if row.manifest == name]
    return name_files([f"{row.repo}@{row.branch} ({row.oid[:12]}), all files" for row in rows])


def _take(packs: list[PackRow], wanted: float) -> Iterator[PackRow]:
    taken = 0
    for pack in packs:
        if taken >= wanted:
            return
        taken += pack.bytes
        yield pack


class _Pace:
    """Holds reading to a rate on average, from the first byte on."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._started = time.monotonic()
        self._bytes = 0

    def wait(self, count: int) -> None:
        self._bytes += count
        if self._rate:
            ahead = self._bytes / self._rate - (time.monotonic() - self._started)
            time.sleep(max(0.0, ahead))
