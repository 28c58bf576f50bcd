"""Codes chunks that were stored as they came, as a push would have: behind an upload's back.

The queue (store/uncoded.py) holds what IncomingFiles stored raw, oldest first. `code_some` takes a
share of it that nobody else has, encodes each chunk alone and against the best bases, and puts the
smaller frame in use (store/moves.py). Chunks that wait are nothing to code against: of a base and
a fine-tune uploaded together, the one that came first is coded alone, the other against it.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..codecs.dtypes import BY_ID
from ..codecs.frame import parse_header
from ..store.moves import adopt_frames
from ..store.pack import PackWriter
from ..store.rows import Location
from ..store.sketches import FamilyRow
from ..store.uncoded import claim_chunks, release_chunks, waiting_among
from .bases import take_best
from .candidates import row_sketch
from .chunks import Buffer, ChunkReader
from .errors import Corrupt, Missing, VaultError
from .journal import Moves, write_entry
from .manifest import ChunkUse
from .optimise import recentre_chunks
from .packing import add_frame
from .push import encode_best
from .translate import store_errors
from .vault import Candidate

if TYPE_CHECKING:
    from .local import LocalVault

# What is taken from the queue at a time: whoever dies holds no more up, for no longer.
SHARE_CHUNKS = 500
SHARE_BYTES = 128 * 1024 * 1024
CLAIM_SECONDS = 900.0

# In the thread that asks, so that its priority counts, and other cores are for requests.
_THREADS = 1

_IDLE_SECONDS = 2.0
_FAILED_SECONDS = 60.0
_LOWEST_PRIORITY = 19

_log = logging.getLogger("weightvault.dedup")


def code_some(vault: LocalVault, level: str = "default") -> int:
    """Codes the chunks that have waited longest; returns how many, 0 if none waits that nobody
    else is at. Raises VaultError kinds; what was taken waits again after a while."""
    now = time.time()
    with store_errors():
        rows = claim_chunks(vault.catalogue, now, now + CLAIM_SECONDS, SHARE_CHUNKS, SHARE_BYTES)
        if rows:
            _code(vault, rows, level)
            release_chunks(vault.catalogue, [row.chunk_id for row in rows])
            recentre_chunks(vault, {row.chunk_id for row in rows})
    return len(rows)


class BackgroundCoder:
    """A thread that codes what waits, until it is stopped; everything else goes before it."""

    def __init__(self, vault: LocalVault, level: str = "default") -> None:
        self._vault = vault
        self._level = level
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="coder", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the chunks in hand, which takes a few seconds."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        # Of this thread alone, on Linux; elsewhere it is as good as the others.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                pause = 0.0 if code_some(self._vault, self._level) else _IDLE_SECONDS
            except VaultError as error:
                _log.error("could not code uploads (%s): %s", error.code, error.message)
                pause = _FAILED_SECONDS
            except Exception:
                _log.exception("could not code uploads")
                pause = _FAILED_SECONDS


def _code(vault: LocalVault, rows: list[FamilyRow], level: str) -> None:
    with tempfile.TemporaryDirectory(prefix="code-", dir=vault.scratch) as folder:
        path = Path(folder, "pack")
        places: list[Location] = []
        with PackWriter(path) as writer:
            for row, frame in _encode(vault, rows, level):
                if len(frame) < row.place.frame_bytes:
                    add_frame(writer, frame)
                    places.append(row.place)
            if not places:
                return
            name = writer.finish()
        vault.add_pack(path, name)

    def publish(moved: list[bytes]) -> str:
        return write_entry(vault.backend, Moves(name, tuple(moved), time.time()))

    # One by one: each may have found another place meanwhile.
    adopt_frames(vault.catalogue, name, [[place] for place in places], publish)


def _encode(
    vault: LocalVault, rows: list[FamilyRow], level: str
) -> Iterator[tuple[FamilyRow, bytes]]:
    bases = ChunkReader(vault.fetch_frames)
    chunks = ChunkReader(vault.fetch_frames).read(map(_use, rows))
    alone: set[bytes] = set()
    for row, raw in zip(rows, chunks, strict=True):
        columns = vault.find_columns(row.chunk_id)
        dtype = "U8" if row.sketch is None else BY_ID[row.sketch.dtype].name
        use = ChunkUse(row.place.digest, 0, len(raw), dtype, columns)
        found = _read_bases(bases, _choose(vault, row, alone))
        frame = encode_best(use, raw, found, level, _THREADS)
        if parse_header(frame).base_digest is None:
            alone.add(use.digest)
        yield row, frame


def _choose(vault: LocalVault, row: FamilyRow, coded: set[bytes]) -> tuple[Candidate, ...]:
    """Returns the chunks to try as bases: none that waits, unless it was coded just now."""
    if row.sketch is None or row.sketch.kind is None:
        return ()
    (found,) = vault.find_bases([row_sketch(row.sketch)])
    waiting = waiting_among(vault.catalogue, [c.digest for c in found]) - coded
    usable = tuple(c for c in found if c.digest not in waiting and c.digest != row.place.digest)
    return take_best(usable, None) if usable else ()


def _read_bases(reader: ChunkReader, chosen: tuple[Candidate, ...]) -> dict[bytes, Buffer]:
    try:
        return {c.digest: reader.read_base(ChunkUse(c.digest, 0, c.size, "U8")) for c in chosen}
    except (Missing, Corrupt):
        # Collected, damaged or coded anew since it was named: alone, the chunk can always be.
        return {}


def _use(row: FamilyRow) -> ChunkUse:
    return ChunkUse(row.place.digest, 0, row.place.raw_bytes, "U8")
