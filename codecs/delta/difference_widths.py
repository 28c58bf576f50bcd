"""Differences of elements of every width (FORMAT.md, "Differences").

Two bytes are coded as they are. One byte needs no more than 256 symbols. Of four or eight bytes,
the difference is cut into a rounded upper half-word, which is coded like that of two-byte
elements, and digits of one byte each, of which the first depends on the scale.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..buffers import Bytes, Words, freeze, scratch
from ..dtypes import Dtype, Exponent
from ..errors import CorruptFrame
from ..jit.cached import njit
from ..prefix import prefix
from ..rans import rans
from ..rans.streams import (
    Effort,
    Plan,
    Sink,
    StreamReader,
    choose_rows,
    encode_rows,
    plan_stream,
)
from . import difference, scales
from . import difference_kernels as kernels
from .difference import Coded, Manner
from .scales import Scales

_PLAIN_DIGITS, _DIGITS_BY_CONTEXT, _PREFIXED_DIGITS = range(3)
_NONE = freeze(np.empty(0, np.uint8))


@dataclass(frozen=True, slots=True)
class Wish:
    """One way to code a block of differences: an encoder may plan several.

    ``fine``: contexts per octave, as a power of two. ``columns``: elements per row, 0 where
    unknown; ``phase``: how far into a row the block begins. ``xored``, ``low_bits``: see
    ``difference.Manner``. ``centred``: move the base of each group where that helps; rows and
    columns are then left aside.
    """

    fine: int = 1
    columns: int = 0
    phase: int = 0
    xored: bool = False
    low_bits: int = 0
    centred: bool = False


def measure(target: Words, base: Words, dtype: Dtype, wish: Wish) -> Scales:
    """Measures the movement of (n,) elements as ``wish`` asks."""
    kind = scales.find_kind(dtype)
    if wish.centred and dtype.item_bytes > 1:
        centres = scales.measure_centres(target, base)
        if centres.size:
            moved = scales.move_base(base, Scales(0, scales.GROUP, 0, 0, _NONE, _NONE, centres))
            plain = replace(wish, centred=False, columns=0)
            return replace(measure(target, moved, dtype, plain), centres=centres)
    numbers = scales.as_numbers(target, dtype), scales.as_numbers(base, dtype)
    if wish.columns and target.size >= 2 * wish.columns:
        return scales.measure_rows(*numbers, kind, wish.fine, wish.columns, wish.phase)
    return scales.measure_groups(*numbers, kind, wish.fine)


def plan_difference(
    target: Words, base: Words, dtype: Dtype, effort: Effort, wish: Wish, memory: str
) -> tuple[Plan, Coded] | None:
    """Plans (n,) elements, n >= 1, as differences; None where that does not suit them.

    The plan lives in scratch ``memory``. ``effort``: for the digits of wide elements.
    """
    kind = scales.find_kind(dtype)
    measured = measure(target, base, dtype, wish)
    manner = difference.choose_manner(kind, measured, wish.xored, wish.low_bits)
    if dtype.item_bytes == 1:
        coded = _code_bytes(target, base, kind, measured, manner, effort, memory)
        return difference.plan_coded(coded, None), coded
    if dtype.item_bytes == 2:
        moved = scales.move_base(base, measured)
        coded = difference.code_words(target, moved, kind, measured, manner, effort, memory)
        return None if coded is None else (difference.plan_coded(coded, target), coded)
    return _plan_wide(target, base, kind, measured, manner, effort, memory)


def _code_bytes(
    target: Bytes,
    base: Bytes,
    kind: Exponent,
    measured: Scales,
    manner: Manner,
    effort: Effort,
    memory: str,
) -> Coded:
    symbols = scratch(memory + "-symbols", target.size, np.uint8)
    if manner.xored:
        np.bitwise_xor(target, base, out=symbols)
    else:
        np.subtract(target, base, out=symbols)
    contexts = scratch(memory + "-contexts", target.size, np.uint8)
    spread = scales.spread_scales(measured, target.size, "spread")
    kernels.contexts_kernel(base, spread, manner.spec(kind), contexts)
    counts, trimmed = difference.count_bytes(symbols, contexts, manner)
    # Every symbol is a difference, and none of them leaves a lower byte: the limit says so.
    coded = freeze(symbols), freeze(contexts), counts
    return difference.finish_bytes(trimmed, measured, *coded, effort)


def _digit_offset(width: int) -> int:
    """Returns what makes every digit below the upper half-word positive: half its range."""
    return int.from_bytes(b"\x80" * (width - 2), "little")


def _upper(words: Words) -> NDArray[np.uint16]:
    """Returns the upper 16 bits of wide words, (n,) uint16."""
    return freeze(
        np.ascontiguousarray(words.view(np.uint16)[words.itemsize // 2 - 1 :: words.itemsize // 2])
    )


def _plan_wide(
    target: Words,
    base: Words,
    kind: Exponent,
    measured: Scales,
    manner: Manner,
    effort: Effort,
    memory: str,
) -> tuple[Plan, Coded] | None:
    width = target.itemsize
    shifted = scratch(f"{memory}-shifted{width}", target.size, target.dtype.type)
    np.subtract(target, base, out=shifted)
    shifted += shifted.dtype.type(_digit_offset(width))
    upper = _upper(base)
    turned = freeze(np.add(_upper(shifted), upper))
    moved = scales.move_base(upper, measured)
    steps = freeze(np.subtract(turned, moved))
    coded = difference.code_words(turned, moved, kind, measured, manner, effort, memory)
    if coded is None:
        return None
    cells = shifted.view(np.uint8).reshape(-1, width)
    digits = [freeze(np.ascontiguousarray(cells[:, place])) for place in range(width - 3, -1, -1)]
    first = _plan_first_digit(digits[0], steps, coded, effort)
    plans = [difference.plan_coded(coded, turned), first]
    befores = zip(digits[1:], digits, strict=False)
    plans += [plan_stream(digit, effort, before) for digit, before in befores]

    def write(sink: Sink) -> None:
        for plan in plans:
            plan.write(sink)

    return Plan(sum(plan.coded_bytes for plan in plans), write), coded


def _digit_contexts(steps: NDArray[np.uint16], contexts: Bytes, manner: Manner) -> Bytes:
    """Returns the context of each first digit: that of the element, or one more than all of
    them where the upper half-word changed.
    """
    own = contexts >> manner.low_bits if manner.low_bits else contexts
    return freeze(np.where(steps == 0, own, np.uint8(manner.top + 1)))


def _plan_first_digit(
    digit: Bytes, steps: NDArray[np.uint16], coded: Coded, effort: Effort
) -> Plan:
    contexts = _digit_contexts(steps, coded.contexts, coded.manner)
    counts = rans.count_contexts(digit, contexts, coded.manner.top + 2)
    chosen = choose_rows(difference.begin_used(counts), effort)
    is_prefixed = isinstance(chosen, prefix.Codes)
    if chosen.coded_bytes >= digit.size:

        def write_plain(sink: Sink) -> None:
            sink(bytes([_PLAIN_DIGITS]))
            sink(digit.data)

        return Plan(1 + digit.size, write_plain)

    def write(sink: Sink) -> None:
        parts = encode_rows(digit, contexts, chosen)
        size = sum(len(part) for part in parts)
        kind = _PREFIXED_DIGITS if is_prefixed else _DIGITS_BY_CONTEXT
        sink(bytes([kind]) + size.to_bytes(4, "little"))
        for part in parts:
            sink(part)

    return Plan(5 + chosen.coded_bytes, write)


def decode_difference(reader: StreamReader, dtype: Dtype, base: Words, out: Words) -> None:
    """Decodes (n,) elements against ``base`` (n,), n >= 1; mirrors ``plan_difference``."""
    kind = scales.find_kind(dtype)
    if dtype.item_bytes == 1:
        _decode_bytes(reader, base, kind, out)
    elif dtype.item_bytes == 2:
        difference.decode_words(reader, base, kind, out)
    else:
        _decode_wide(reader, base, kind, out)


def _decode_bytes(reader: StreamReader, base: Bytes, kind: Exponent, out: Bytes) -> None:
    manner, measured, far, stored = difference.take_head(reader, out.size)
    if far or stored or measured.centres.size:
        raise CorruptFrame("a block of differences has an impossible head")
    contexts = _contexts(base, kind, manner, measured)
    source = reader.take(int.from_bytes(reader.take(4).data, "little"))
    decode = prefix.decode_rows if manner.prefixed else rans.decode_contexts
    decode(source, contexts, manner.table_count, out)
    if manner.xored:
        np.bitwise_xor(out, base, out=out)
    else:
        np.add(out, base, out=out)


def _contexts(base: Words, kind: Exponent, manner: Manner, measured: Scales) -> Bytes:
    spread = scales.spread_scales(measured, base.size, "spread")
    contexts = scratch("contexts", base.size, np.uint8)
    kernels.contexts_kernel(base, spread, manner.spec(kind), contexts)
    return freeze(contexts)


@njit(nogil=True, cache=True)
def _join4_kernel(base, steps, first, second, out):
    """Adds differences to ``base`` (n,) uint32: an upper half-word and two digits each."""
    for i in range(out.size):
        upper = np.uint32(steps[i]) << np.uint32(16)
        lower = (np.uint32(first[i]) << np.uint32(8)) | np.uint32(second[i])
        out[i] = base[i] + (upper | lower) - np.uint32(0x8080)


def _decode_wide(reader: StreamReader, base: Words, kind: Exponent, out: Words) -> None:
    width = out.itemsize
    upper = _upper(base)
    steps = np.empty(out.size, np.uint16)
    manner, measured = difference.decode_words(reader, upper, kind, steps)
    moved = scales.move_base(upper, measured)
    contexts = _contexts(moved, kind, manner, measured)
    digits = [_decode_first_digit(reader, steps - moved, contexts, manner)]
    steps -= upper
    for _ in range(width - 3):
        digits.append(reader.take_plane(out.size, digits[-1]))
    if width == 4:
        _join4_kernel(base, freeze(steps), digits[0], digits[1], out)
        return
    cells = out.view(np.uint8).reshape(-1, width)
    for place, digit in enumerate(reversed(digits)):
        cells[:, place] = digit
    out.view(np.uint16)[3::4] = steps
    out += base
    out -= out.dtype.type(_digit_offset(width))


def _decode_first_digit(
    reader: StreamReader, steps: NDArray[np.uint16], contexts: Bytes, manner: Manner
) -> Bytes:
    kind = int(reader.take(1)[0])
    if kind == _PLAIN_DIGITS:
        return reader.take(steps.size)
    if kind not in (_DIGITS_BY_CONTEXT, _PREFIXED_DIGITS):
        raise CorruptFrame("a block of differences has digits of an unknown kind")
    source = reader.take(int.from_bytes(reader.take(4).data, "little"))
    out = np.empty(steps.size, np.uint8)
    decode = prefix.decode_rows if kind == _PREFIXED_DIGITS else rans.decode_contexts
    decode(source, _digit_contexts(steps, contexts, manner), manner.top + 2, out)
    return freeze(out)
