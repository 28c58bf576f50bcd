"""Coverage-guided fuzzing of the frame parser and decoder.

    python -m weightvault.benchmarks.codecs.fuzz_codecs [-runs=N] FOLDER

Needs ``atheris``. Nothing is compiled, so that every branch of the kernels counts as coverage too.

Four ways in, by the first byte: a frame as it is; a frame with its header sealed again; one stored
block under a sound envelope; one stored block against a base. Anything but a ``FrameError`` or a
tensor of the promised length is a finding.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

import atheris  # pyright: ignore[reportMissingModuleSource]

os.environ["NUMBA_DISABLE_JIT"] = "1"

with atheris.instrument_imports(include=["weightvault.codecs"]):  # pyright: ignore[reportAttributeAccessIssue]
    from weightvault.codecs import frame, pipeline
    from weightvault.codecs.blocks import blocks
    from weightvault.codecs.delta import blocks as delta_blocks
    from weightvault.codecs.simd import paths

import numpy as np
import xxhash

from weightvault.codecs.buffers import view_bytes
from weightvault.codecs.dtypes import BY_ID
from weightvault.codecs.errors import FrameError

MAX_RAW_BYTES = 1 << 12
"""Keeps one execution short; every branch is reached by less."""
_DTYPES = tuple(BY_ID.values())


def base_of(size: int) -> bytes:
    """Returns a base in which no two neighbours are alike."""
    return bytes(37 * i % 251 for i in range(size))


def fuzz_frame(data: bytes) -> None:
    """Decodes ``data`` as a frame."""
    header = frame.parse_header(data)
    base = base_of(header.raw_bytes) if header.raw_bytes <= MAX_RAW_BYTES else None
    raw = pipeline.decode_tensor(
        data, base=base, threads=1, verify=False, max_raw_bytes=MAX_RAW_BYTES
    )
    assert len(raw) == header.raw_bytes
    half = header.raw_bytes // 2
    piece = pipeline.decode_range(data, half, header.raw_bytes, base=base, threads=1)
    assert bytes(piece) == bytes(raw[half:])


def fuzz_sealed(data: bytes) -> None:
    """Decodes ``data`` as a frame whose header is sealed wherever it claims to end."""
    blocks_claimed, at = 0, 48
    if len(data) > 52 and data[5] > 1:
        at = 48 + 32 * (data[7] & 1)
        if data[7] & 2:
            at += 4 + 24 * min(int.from_bytes(data[at : at + 4], "little"), len(data))
        raw_bytes = int.from_bytes(data[8:16], "little")
        block_bytes = int.from_bytes(data[at : at + 4], "little") or 1
        blocks_claimed = -(-raw_bytes // block_bytes)
    end = at + (4 + 8 * blocks_claimed if blocks_claimed else 8)
    if end + 8 <= len(data):
        seal = xxhash.xxh3_64_intdigest(data[:end]).to_bytes(8, "little")
        fuzz_frame(data[:end] + seal + data[end + 8 :])


def fuzz_block(data: bytes) -> None:
    """Decodes ``data`` as one stored block: dtype, raw length (2 bytes), block."""
    if len(data) < 4:
        return
    out = np.zeros(int.from_bytes(data[1:3], "little") % MAX_RAW_BYTES + 1, np.uint8)
    dtype, base = _DTYPES[data[0] % len(_DTYPES)], view_bytes(base_of(out.size))
    blocks.decode_block(view_bytes(data[3:]), dtype, base, out)


def fuzz_delta(data: bytes) -> None:
    """Like ``fuzz_block``, of a block of a frame with a base."""
    if len(data) < 4:
        return
    out = np.zeros(int.from_bytes(data[1:3], "little") % MAX_RAW_BYTES + 1, np.uint8)
    dtype, base = _DTYPES[data[0] % len(_DTYPES)], view_bytes(base_of(out.size))
    delta_blocks.decode_part(view_bytes(data[3:]), dtype, base, out)


def fuzz_one(data: bytes) -> None:
    """Runs one input through the way in that its first byte names."""
    if not data:
        return
    way = (fuzz_frame, fuzz_sealed, fuzz_block, fuzz_delta)[data[0] % 4]
    with suppress(FrameError):
        way(data[1:])


def write_seeds(folder: Path, golden: Path) -> None:
    """Writes golden frames of at most 3 KB and their first blocks as inputs to start from."""
    for path in golden.glob("*.frame"):
        data = path.read_bytes()
        header = frame.parse_header(data)
        if len(data) > 3000:
            continue
        for way in (0, 1):
            (folder / f"{path.stem}-{way}").write_bytes(bytes([way]) + data)
        if header.block_bytes:
            span = next(header.spans())
            block = data[span.offset : span.offset + span.stored_bytes]
            dtype = _DTYPES.index(frame.find_dtype(header.dtype))
            length = (span.stop - span.start - 1).to_bytes(2, "little")
            for way in (2, 3):
                head = bytes([way, dtype])
                (folder / f"{path.stem}-{way}").write_bytes(head + length + block)


def main() -> None:
    """Seeds the folder named last and hands over to the fuzzer."""
    paths.force_path("portable")
    if len(sys.argv) > 1 and Path(sys.argv[-1]).is_dir():
        golden = Path(__file__).parents[2] / "tests" / "codecs" / "golden"
        write_seeds(Path(sys.argv[-1]), golden)
    atheris.Setup(sys.argv, fuzz_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
