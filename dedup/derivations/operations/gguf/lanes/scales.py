"""The searches for a scale alone, for many runs side by side (see `vectors`): `fit_scale`,
`refine_scale` and `iq4.fit_values`.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ......codecs.rans.steps import IntrinsicCall
from ......codecs.simd.vector_ir import (
    I1,
    I64,
    Value,
    add,
    broadcast,
    open_loop,
    vector,
)
from ..arithmetic import TINY
from ..iq4 import BOUNDS, TRIES, VALUES
from .vectors import FLOAT, GROUPS, STEP, WIDTH, Lanes, place_rows, store_groups

_MIDDLE_Q3, _MIDDLE_Q6 = 4, 32


class _Scale(Lanes):
    """What the searches for a scale share. Rows: values, weights, weighted values, quants."""

    def find_peak(self, group: int) -> Value:
        """Writes the weights; returns the peaks, 0 where they are below 1e-15."""
        b = self.b

        def compare(at: Value, carried: list[Value]) -> list[Value]:
            value = self.get(0, at, group)
            size, weight = self.magnitude(value), b.fmul(value, value)
            self.put(1, at, group, weight)
            self.put(2, at, group, b.fmul(weight, value))
            is_larger = b.fcmp_ordered(">", size, carried[0])
            return [b.select(is_larger, *pair) for pair in zip((size, value), carried, strict=True)]

        largest, peak = self.each([self.zero, self.zero], compare)
        return self.where("<", largest, self.constant(float(TINY)), self.zero, peak)

    def quotient(self, one: Value, other: Value, sign: str = ">") -> Value:
        """Returns one / other where ``other sign 0``, else 0."""
        b = self.b
        compare = b.fcmp_unordered if sign == "!=" else b.fcmp_ordered
        return b.select(compare(sign, other, self.zero), b.fdiv(one, other), self.zero)

    def take_better(self, sums: Sequence[Value], scale: Value, merit: Value) -> tuple[Value, Value]:
        """Returns the scale and its merit, or those that follow from sums if that is better."""
        b, (sum_xl, sum_l2) = self.b, sums
        is_better = b.and_(
            b.fcmp_ordered(">", sum_l2, self.zero),
            b.fcmp_ordered(">", b.fmul(sum_xl, sum_xl), b.fmul(merit, sum_l2)),
        )
        found = b.fdiv(sum_xl, sum_l2)
        return (
            b.select(is_better, found, scale),
            b.select(is_better, b.fmul(found, sum_xl), merit),
        )

    def settle(self, numbers: Value) -> Value:
        """Returns 0 for NaN."""
        return self.where("==", numbers, numbers, numbers, self.zero)


class _Tried(_Scale):
    """`searches.fit_scale`."""

    def emit(self) -> list[Value]:
        """Returns the scales of each group."""
        b = self.b
        self.peaks = [self.find_peak(group) for group in range(GROUPS)]
        kept = []
        for group, peak in enumerate(self.peaks):
            inverse = b.fdiv(self.constant(-_MIDDLE_Q6), peak)
            sum_xl, sum_l2 = self._sum(group, inverse)
            scale = self.quotient(sum_xl, sum_l2, "!=")
            kept += [scale, b.fmul(scale, sum_xl)]
        last = ir.Constant(I64, 18)
        start = [ir.Constant(I64, 0), *kept]
        loop = open_loop(b, start, lambda carried: b.icmp_signed("<", carried[0], last))
        step, *kept = loop.carried
        wide, after = self._width(step), []
        for group, peak in enumerate(self.peaks):
            sums = self._sum(group, b.fdiv(wide, peak))
            after += self.take_better(sums, *kept[2 * group : 2 * group + 2])
        loop.close([add(b, step, 1), *after])
        scales = loop.carried[1::2]
        return [
            self.where("==", peak, self.zero, self.zero, scale)
            for peak, scale in zip(self.peaks, scales, strict=True)
        ]

    def _width(self, step: Value) -> Value:
        """Returns minus 32 and a tenth of -9 to 9 without 0, by the number of the step."""
        b = self.b
        is_late = b.icmp_signed(">=", step, ir.Constant(I64, 9))
        moved = b.add(add(b, step, -9), b.zext(is_late, I64))
        tenths = b.fmul(ir.Constant(FLOAT, STEP), b.sitofp(moved, FLOAT))
        return broadcast(b, b.fneg(b.fadd(ir.Constant(FLOAT, float(_MIDDLE_Q6)), tenths)), WIDTH)

    def _sum(self, group: int, inverse: Value) -> Any:
        b = self.b

        def add_products(at: Value, sums: list[Value]) -> list[Value]:
            quant = b.fmul(inverse, self.get(0, at, group))
            # NaN counts as 0: where there is one, no sum is a number.
            quant = self.round(quant, -_MIDDLE_Q6, _MIDDLE_Q6 - 1)
            by_value = b.fmul(self.get(2, at, group), quant)
            by_quant = b.fmul(b.fmul(self.get(1, at, group), quant), quant)
            return [b.fadd(sums[0], by_value), b.fadd(sums[1], by_quant)]

        return self.each([self.zero, self.zero], add_products)


class _Refined(_Scale):
    """`searches.refine_scale`. Rounds after one that changed nothing change nothing either, so
    that lanes may wait for each other."""

    def emit(self) -> list[Value]:
        """Returns the scales of each group."""
        b = self.b
        peaks = [self.find_peak(group) for group in range(GROUPS)]
        sums = [value for group, peak in enumerate(peaks) for value in self._begin(group, peak)]
        start = [ir.Constant(I64, 0), ir.Constant(I1, 1), *sums]
        loop = open_loop(b, start, self._goes_on)
        number, _, *sums = loop.carried
        nothing = ir.Constant(vector(I1, WIDTH), [0] * WIDTH)

        def visit(at: Value, carried: list[Value]) -> list[Value]:
            after = [
                value
                for group in range(GROUPS)
                for value in self._visit(at, group, *carried[1 + 2 * group : 3 + 2 * group])
            ]
            changed = carried[0]
            for value in after[::3]:
                changed = b.or_(changed, value)
            return [changed, *(value for i, value in enumerate(after) if i % 3)]

        changed, *after = self.each([nothing, *sums], visit)
        bits = b.bitcast(changed, ir.IntType(WIDTH))
        has_changed = b.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(WIDTH), 0))
        loop.close([add(b, number, 1), has_changed, *after])
        scales = []
        for group, peak in enumerate(peaks):
            sum_xl, sum_l2 = loop.carried[2 + 2 * group : 4 + 2 * group]
            scale = self.quotient(sum_xl, sum_l2)
            scales.append(self.where("==", peak, self.zero, self.zero, scale))
        return scales

    def _goes_on(self, carried: Sequence[Value]) -> Value:
        is_left = self.b.icmp_signed("<", carried[0], ir.Constant(I64, 5))
        return self.b.and_(is_left, carried[1])

    def _quant(self, value: Value) -> Value:
        return self.round(self.settle(value), -_MIDDLE_Q3, _MIDDLE_Q3 - 1)

    def _begin(self, group: int, peak: Value) -> Any:
        """Writes the first quants; returns their sums."""
        b = self.b
        inverse = b.fdiv(self.constant(-_MIDDLE_Q3), peak)

        def add_products(at: Value, sums: list[Value]) -> list[Value]:
            quant = self._quant(b.fmul(inverse, self.get(0, at, group)))
            self.put(3, at, group, quant)
            terms = self._terms(at, group, quant)
            return [b.fadd(one, term) for one, term in zip(sums, terms, strict=True)]

        return self.each([self.zero, self.zero], add_products)

    def _terms(self, at: Value, group: int, quant: Value) -> tuple[Value, Value]:
        b = self.b
        by_quant = b.fmul(b.fmul(self.get(1, at, group), quant), quant)
        return b.fmul(self.get(2, at, group), quant), by_quant

    def _visit(
        self, at: Value, group: int, sum_xl: Value, sum_l2: Value
    ) -> tuple[Value, Value, Value]:
        """Moves one quant of each run where that is better; returns where it is, and the sums."""
        b, before = self.b, self.get(3, at, group)
        by_value, by_quant = self._terms(at, group, before)
        rest_xl, rest_l2 = b.fsub(sum_xl, by_value), b.fsub(sum_l2, by_quant)
        quant = b.fdiv(b.fmul(self.get(0, at, group), rest_l2), rest_xl)
        quant = self._quant(quant)
        by_value, by_quant = self._terms(at, group, quant)
        new_xl, new_l2 = b.fadd(rest_xl, by_value), b.fadd(rest_l2, by_quant)
        one = b.fmul(b.fmul(new_xl, new_xl), sum_l2)
        other = b.fmul(b.fmul(sum_xl, sum_xl), new_l2)
        is_better = b.and_(
            b.and_(b.fcmp_ordered(">", rest_xl, self.zero), b.fcmp_ordered("!=", quant, before)),
            b.and_(b.fcmp_ordered(">", new_l2, self.zero), b.fcmp_ordered(">", one, other)),
        )
        self.put(3, at, group, b.select(is_better, quant, before))
        return is_better, b.select(is_better, new_xl, sum_xl), b.select(is_better, new_l2, sum_l2)


class _Uneven(_Scale):
    """`iq4.fit_values`."""

    def emit(self) -> list[Value]:
        """Returns the scales of each group."""
        b, lowest = self.b, float(VALUES[0])
        peaks = [self.find_peak(group) for group in range(GROUPS)]
        kept = []
        for group, peak in enumerate(peaks):
            inverse = b.fdiv(self.constant(1), b.fdiv(b.fneg(peak), self.constant(lowest)))
            sum_xq, sum_q2 = self._sum(group, inverse)
            scale = self.quotient(sum_xq, sum_q2)
            kept += [scale, b.fmul(scale, sum_xq)]
        last = ir.Constant(I64, TRIES)
        start = [ir.Constant(I64, -TRIES), *kept]
        loop = open_loop(b, start, lambda carried: b.icmp_signed("<=", carried[0], last))
        step, *kept = loop.carried
        wide, after = broadcast(b, b.sitofp(add(b, step, int(lowest)), FLOAT), WIDTH), []
        for group, peak in enumerate(peaks):
            sums = self._sum(group, b.fdiv(wide, peak))
            after += self.take_better(sums, *kept[2 * group : 2 * group + 2])
        loop.close([add(b, step, 1), *after])
        return [
            self.where("==", peak, self.zero, self.zero, scale)
            for peak, scale in zip(peaks, loop.carried[1::2], strict=True)
        ]

    def _sum(self, group: int, inverse: Value) -> Any:
        b = self.b

        def add_products(at: Value, sums: list[Value]) -> list[Value]:
            value = self.get(0, at, group)
            quant = self._look_up(b.fmul(inverse, value))
            product = b.fmul(self.get(1, at, group), quant)
            terms = b.fmul(product, value), b.fmul(product, quant)
            return [b.fadd(one, term) for one, term in zip(sums, terms, strict=True)]

        return self.each([self.zero, self.zero], add_products)

    def _look_up(self, value: Value) -> Value:
        """Returns the value of the nearest quant, the lowest for NaN."""
        double, found = self.b.fadd(value, value), self.constant(VALUES[0])
        for bound, above in zip(BOUNDS, VALUES[1:], strict=True):
            found = self.where(">=", double, self.constant(bound), self.constant(above), found)
        return found


def _scale_fitter(kind: type[_Tried] | type[_Refined] | type[_Uneven], count: int) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        given = IntrinsicCall(context, builder, signature.args, values)
        found = kind(builder, place_rows(given, 4, count), count).emit()
        store_groups(given, 1, given.integer(2), found)
        return context.get_dummy_value()

    @intrinsic
    def fit_scales(_context, rows, scales, at):
        """Writes the scales of LANES runs, from ``at`` on. ``rows``: (4, count, LANES) float32, the
        values in the first."""
        return types.void(rows, scales, at), generate

    return fit_scales


fit_scales_q3 = _scale_fitter(_Refined, 16)
fit_scales_q6 = _scale_fitter(_Tried, 16)
fit_scales_iq4 = _scale_fitter(_Uneven, 32)
