"""Codes one block: plans every layout that suits it, writes the smallest (FORMAT.md, "Blocks").

layout 1 (bit 7: of the block XORed with the base) | streams | tail
"""

from collections.abc import Sequence

import numpy as np

from ..buffers import Bytes, freeze, scratch
from ..dtypes import Dtype
from ..errors import CorruptFrame
from ..rans import rans
from ..rans.streams import Effort, StreamReader
from . import layouts

XORED = 0x80
BLOCK_SLACK = 64
"""How much longer than its raw bytes a coded block may be: a raw stream in each plane, heads and
all.
"""


def encode_block(raw: Bytes, dtype: Dtype, base: Bytes | None, effort: Effort, out: Bytes) -> int:
    """Codes one block, (n,) uint8 with n >= 1, as it is or XORed with ``base``, whichever is
    smaller.

    Writes it to the front of ``out``, (n + BLOCK_SLACK,) uint8 or more, and returns its length.
    """
    plan = layouts.plan_layout(raw, dtype, effort)
    xored = 0
    if base is not None:
        delta = freeze(np.bitwise_xor(raw, base, out=scratch("xored", raw.size, np.uint8)))
        other = layouts.plan_layout(delta, dtype, effort, memory="delta")
        if other.coded_bytes < plan.coded_bytes:
            plan, xored = other, XORED
    end = 0

    def sink(part: bytes | memoryview) -> None:
        nonlocal end
        out[end : end + len(part)] = np.frombuffer(part, np.uint8)
        end += len(part)

    plan.write(sink)
    out[0] |= xored
    return end


def is_delta(stored: Bytes) -> bool:
    """Tells whether a coded block needs the base."""
    return bool(stored[0] & XORED)


def decode_two_blocks(stored: Sequence[Bytes], dtype: Dtype, out: Sequence[Bytes]) -> bool:
    """Decodes two stored blocks side by side, where both are of the kind that gains by it.

    Returns False, with nothing done, where they are not.
    """
    if dtype.item_bytes != 2 or not dtype.is_float:
        return False
    fused = [layouts.find_fused(*pair) for pair in zip(stored, out, strict=True)]
    if None in fused:
        return False
    rans.decode_two_pairs([pair for pair in fused if pair is not None])
    return True


def decode_block(stored: Bytes, dtype: Dtype, base: Bytes | None, out: Bytes) -> None:
    """Decodes one stored block into every byte of ``out`` (n,) uint8; mirrors ``encode_block``."""
    if not stored.size:
        raise CorruptFrame("a stored block is empty")
    reader = StreamReader(stored, 1)
    layouts.decode_layout(int(stored[0]) & ~XORED, reader, dtype, out)
    reader.finish()
    if is_delta(stored):
        if base is None:
            raise CorruptFrame("a block needs a base in a frame that has none")
        np.bitwise_xor(out, base, out=out)
