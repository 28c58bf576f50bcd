"""Mends what a scrub found, as far as there is a second copy of it, and says what there is not.

A damaged frame is replaced by another frame of the same chunk, a derived one by what its inputs
give again; what is whole in a damaged pack
moves to a new one, and a collection takes the rest. A frame without a copy stays on record: its
chunk counts as missing, so pushing the file again brings it back. Small objects are rebuilt from
the catalogue. Nothing is deleted that cannot be made again: damaged objects are kept aside, under
`quarantine/`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from ...store.catalogue.damage import (
    WHOLE_PACK,
    Finding,
    clear_finding,
    copies_of,
    forget_finding,
    forget_spares,
    frames_in,
    list_findings,
    packs_by_age,
    record_scrub,
)
from ...store.catalogue.tables.rows import Location
from ...store.object_keys import PACKS, QUARANTINE, folder_of, pack_key
from ...store.packs import DERIVED, STANDALONE
from ..errors import VaultError
from ..progress import Progress
from ..reading.chunk_reader import ChunkReader
from ..repository.frame_reader import read_frames
from ..repository.journal.lost_entries import ACCEPT, find_lost
from ..repository.journal.replay import catch_up
from ..repository.repository import Repository
from ..transfer.new_frames import TemporaryPack, put_in_use
from ..verification.damage import affected_files, name_files
from ..verification.pack_verify import is_right, scan_pack
from ..verification.scrub import judge_object
from .collection.base_copies import copy_bases
from .collection.repack import move_places
from .repairs.compute_again import compute_again
from .repairs.object_repair import repair_object, settle_entries

# Damage is rare and a few places at a time. Where more than this share of all packs looks damaged
# it is likelier that the disk, the address or this program is at fault than the packs.
_PLAUSIBLE_SHARE = 0.5
# Of a small store even one damaged pack is a large share.
_PLAUSIBLE_PACKS = 8


@dataclass
class Repaired:
    """What a repair did, or with a dry run would do, as sentences; `lost` name the files that no
    copy is left for."""

    restored: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    dry_run: bool = False


class Repairer:
    """One repair of a vault, of what the last scrub recorded and of small objects. `accept_lost`:
    journal entries that are gone and that nobody knows are given up for good."""

    def __init__(
        self,
        vault: Repository,
        *,
        dry_run: bool = False,
        accept_lost: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._vault = vault
        self._accept_lost = accept_lost
        self._backend, self._catalogue = vault.backend.uncached(), vault.catalogue
        self._done = Repaired(dry_run=dry_run)
        self._dry_run = dry_run
        self._restored: set[bytes] = set()
        self._progress = progress or Progress()
        self._inputs = ChunkReader(partial(read_frames, self._backend, vault.catalogue))

    def run(self) -> Repaired:
        """Repairs. Raises VaultError when too much looks damaged to believe it."""
        if not self._dry_run:
            catch_up(self._backend, self._catalogue)
        findings = list_findings(self._catalogue)
        self._refuse_unlikely(findings)
        places = self._catalogue.locate([f.digest for f in findings if f.in_use])
        # Those that are standalone first: others may need them.
        for finding in sorted(findings, key=lambda f: _level(places.get(f.digest))):
            if finding.offset != WHOLE_PACK:
                self._repair_frame(finding, places.get(finding.digest))
        self._compute(findings, places)
        self._empty_packs({f.pack for f in findings})
        self._repair_small()
        self._settle_lost()
        self._name_lost()
        return self._done

    def _refuse_unlikely(self, findings: Collection[Finding]) -> None:
        damaged = len({f.pack for f in findings})
        if damaged > max(_PLAUSIBLE_PACKS, _PLAUSIBLE_SHARE * len(packs_by_age(self._catalogue))):
            raise VaultError(
                f"{damaged} packs are on record as damaged, too many to be true: nothing was done",
                "check the disk and the address, then run `weightvault scrub` again",
            )

    def _repair_frame(self, finding: Finding, place: Location | None) -> None:
        chunk = finding.digest.hex()
        if finding.in_use and place and is_right(self._backend, place, self._inputs.read_input):
            self._say(f"chunk {chunk} reads well again; the damage was passing")
            self._restored.add(finding.digest)
            if not self._dry_run:
                clear_finding(self._catalogue, finding)
        elif not finding.in_use:
            self._say(f"a damaged copy of chunk {chunk} was given up; another one is in use")
            if not self._dry_run:
                forget_finding(self._catalogue, finding)
        else:
            self._use_copy(finding, place)

    def _use_copy(self, finding: Finding, place: Location | None) -> None:
        """Puts the first copy in use that is whole; without one the finding stays on record."""
        for copy in copies_of(self._catalogue, finding.digest):
            if place is None or not is_right(self._backend, copy, self._inputs.read_input):
                continue
            if self._dry_run or put_in_use(self._vault, copy.pack, [[place]]):
                self._say(f"chunk {finding.digest.hex()} is read from its copy in {copy.pack}")
                self._restored.add(finding.digest)
                if not self._dry_run:
                    forget_finding(self._catalogue, finding)
                return

    def _compute(self, findings: Collection[Finding], places: Mapping[bytes, Location]) -> None:
        """Stores derived frames again that no copy was found of, as far as their inputs give
        them."""
        with TemporaryPack(self._vault, "repair") as pack:
            found: list[Finding] = []
            for finding in findings:
                place = places.get(finding.digest)
                if place is None or place.level != DERIVED or finding.digest in self._restored:
                    continue
                frame = compute_again(self._vault, self._backend, self._inputs, place)
                if frame is not None:
                    pack.add(frame)
                    found.append(finding)
                    self._say(f"chunk {finding.digest.hex()} is computed from its inputs again")
            self._restored.update(finding.digest for finding in found)
            # Storing puts them in use, as what is stored is on record as damaged.
            if found and not self._dry_run and pack.store() not in {f.pack for f in found}:
                for finding in found:
                    forget_finding(self._catalogue, finding)

    def _empty_packs(self, names: Collection[str]) -> None:
        """Moves what is whole out of damaged packs, so that a collection can take them."""
        for name in sorted(names):
            if self._dry_run:
                self._say(f"what is whole in pack {pack_key(name)} moves to a new one")
                continue
            moved = move_places(self._vault, name, self._progress)
            if moved:
                self._say(f"{moved} frames of pack {pack_key(name)} moved to a new one")
            # Copies in it would keep a damaged pack; where copies are wanted they are rebuilt.
            forget_spares(self._catalogue, name)
        if names and not self._dry_run and self._vault.base_copies():
            copied = copy_bases(self._vault, self._vault.base_copies(), self._progress)
            if copied:
                self._say(f"{copied} bytes of bases were stored a second time again")
        for name in sorted(() if self._dry_run else names):
            self._judge_again(name)

    def _judge_again(self, name: str) -> None:
        """Reads a pack once more: where all its frames are live and whole, moving them has written
        the very same pack again."""
        pack = next((p for p in packs_by_age(self._catalogue) if p.name == name), None)
        if pack is None:
            return
        places = frames_in(self._catalogue, pack.id)
        scan = scan_pack(self._backend, name, places, self._inputs.read_input, lambda _: None)
        record_scrub(self._catalogue, pack.id, scan.wrong, None if scan.unjudged else time.time())
        if not scan.wrong:
            self._say(f"pack {pack_key(name)} is whole again")

    def _repair_small(self) -> None:
        for info in list(self._backend.list()):
            if folder_of(info.key) in (PACKS, QUARANTINE):
                continue
            problem = judge_object(self._vault, info.key)
            if problem:
                self._repair_object(info.key, problem)

    def _repair_object(self, key: str, problem: str) -> None:
        outcome = repair_object(self._vault, key, dry_run=self._dry_run)
        if outcome.repaired:
            self._say(f"{key} was damaged and is {outcome.hint}")
        else:
            self._done.lost.append(f"{problem}; {outcome.hint}")

    def _settle_lost(self) -> None:
        """Tells journal entries again that are gone, as far as this catalogue knows them."""
        lost = find_lost(self._backend, self._catalogue)
        settled = [entry for entry in lost if entry.known or self._accept_lost]
        for entry in lost:
            if entry not in settled:
                self._done.lost.append(f"{entry.describe()}; put it back, or see `{ACCEPT}`")
            elif entry.known:
                self._say(f"{entry.describe()}: it is written again")
            else:
                self._say(f"{entry.describe()}: its loss was accepted")
        if settled and not self._dry_run:
            settle_entries(self._vault, [entry.key for entry in settled])

    def _name_lost(self) -> None:
        """Names what is still on record as damaged and that some file needs."""
        left = [f for f in list_findings(self._catalogue) if f.in_use]
        if self._dry_run:
            left = [f for f in left if f.digest not in self._restored]
        files = affected_files(self._backend, self._catalogue, {f.digest for f in left})
        groups: dict[tuple[str, ...], list[bytes]] = {}
        for finding in (f for f in left if files[f.digest]):
            groups.setdefault(tuple(files[finding.digest]), []).append(finding.digest)
        for affected, digests in groups.items():
            what = f"chunk {digests[0].hex()} has no whole copy"
            if len(digests) > 1:
                what = f"{len(digests)} chunks have no whole copy"
            self._done.lost.append(
                f"{what}; {name_files(affected)}; pushing such a file again brings it back"
            )

    def _say(self, sentence: str) -> None:
        self._done.restored.append(sentence)


def _level(place: Location | None) -> int:
    return STANDALONE if place is None else place.level


def sentences(done: Repaired) -> Iterator[str]:
    """Yields what was done and what was not, for people."""
    yield from done.restored
    yield from (f"lost: {sentence}" for sentence in done.lost)
