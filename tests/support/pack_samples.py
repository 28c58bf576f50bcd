"""Makes packs for tests."""

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weightvault.store.packs import PackEntry, PackWriter, read_index


def reader(pack: bytes, calls: list[tuple[int, int]] | None = None) -> Callable[[int, int], bytes]:
    def read(start: int, stop: int) -> bytes:
        assert 0 <= start <= stop <= len(pack)
        if calls is not None:
            calls.append((start, stop))
        return pack[start:stop]

    return read


def read_all(pack: bytes) -> list[PackEntry]:
    return read_index(reader(pack), len(pack))


def make_pack(count: int = 3, *, frame_bytes: int = 20) -> tuple[bytes, list[PackEntry]]:
    file = io.BytesIO()
    rng = random.Random(count)
    writer = PackWriter(file)
    for number in range(count):
        writer.add(
            rng.randbytes(frame_bytes + number % 7),
            digest=rng.randbytes(32),
            raw_bytes=frame_bytes * 2,
            codec=number % 3,
            dtype=4,
            inputs=[rng.randbytes(32)] * (number % 2),
        )
    writer.finish()
    return file.getvalue(), writer.entries


def write_golden_pack(path: Path) -> str:
    """Writes the golden pack of the current format version, for a new version to come."""
    a, b, c = (bytes([byte]) * 32 for byte in (0xAA, 0xBB, 0xCC))
    with PackWriter(path) as writer:
        writer.add(b"first", digest=a, raw_bytes=10, codec=1, dtype=7)
        writer.add(b"2" * 300, digest=b, raw_bytes=70_000, codec=2, dtype=7, inputs=[a])
        facts: Any = {"raw_bytes": (1 << 40) + 1, "codec": 255, "dtype": 0}
        writer.add(b"3", digest=c, inputs=[b"\xee" * 32], **facts)
        for number in range(40):
            writer.add(b"4", digest=bytes([number]) * 32, raw_bytes=4, codec=0, dtype=1)
        return writer.finish()
