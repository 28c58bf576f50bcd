"""Codes one block: plans every layout that suits it, writes the smallest (FORMAT.md, "Blocks").

layout 1 (bit 7: of the block XORed with the base) | streams | tail
"""

import numpy as np

from . import layouts
from .buffers import Bytes, freeze
from .dtypes import Dtype
from .errors import CorruptFrame
from .streams import Effort, Parts, StreamReader

_XORED = 0x80


def encode_block(raw: Bytes, dtype: Dtype, base: Bytes | None, effort: Effort) -> Parts:
    """Codes one block, (n,) uint8 with n >= 1, as it is or XORed with ``base``, whichever is
    smaller.
    """
    plan = layouts.plan_layout(raw, dtype, effort)
    if base is not None:
        delta = layouts.plan_layout(freeze(raw ^ base), dtype, effort)
        if delta.coded_bytes < plan.coded_bytes:
            layout, *rest = delta.write()
            return [bytes([layout[0] | _XORED]), *rest]
    return plan.write()


def is_delta(stored: Parts) -> bool:
    """Tells whether a coded block needs the base."""
    return bool(stored[0][0] & _XORED)


def decode_block(stored: Bytes, dtype: Dtype, base: Bytes | None, out: Bytes) -> None:
    """Decodes one stored block into every byte of ``out`` (n,) uint8; mirrors ``encode_block``."""
    if not stored.size:
        raise CorruptFrame("a stored block is empty")
    reader = StreamReader(stored, 1)
    layouts.decode_layout(int(stored[0]) & ~_XORED, reader, dtype, out)
    reader.finish()
    if stored[0] & _XORED:
        if base is None:
            raise CorruptFrame("a block needs a base in a frame that has none")
        np.bitwise_xor(out, base, out=out)
