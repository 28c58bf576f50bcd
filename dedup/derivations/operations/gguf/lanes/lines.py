"""`searches.fit_line` for many runs side by side (see `vectors`)."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ......codecs.rans.steps import IntrinsicCall
from ......codecs.simd.vector_ir import I64, Value, add, broadcast, call, open_loop
from .vectors import FLOAT, GROUPS, KIND, STEP, WIDTH, Lanes, place_rows, store_groups


class _Line(Lanes):
    """`searches.fit_line` with the weights of `k_minima.weigh`. Rows: values, weights, quants."""

    def __init__(
        self, b: ir.IRBuilder, rows: Sequence[Value], count: int, high: int, first: float
    ) -> None:
        super().__init__(b, rows, count)
        self.high, self.first, self.is_absolute = high, first, high == 3

    def emit(self, steps: int) -> list[tuple[Value, Value]]:
        """Returns the scale, and minus the minimum, of each group."""
        b = self.b
        self.surveys = [self._survey(group) for group in range(GROUPS)]
        kept = [value for group in range(GROUPS) for value in self._begin(group)]
        last = ir.Constant(I64, steps)
        start = [ir.Constant(I64, 0), *kept]
        loop = open_loop(b, start, lambda carried: b.icmp_signed("<=", carried[0], last))
        step, *kept = loop.carried
        loop.close([add(b, step, 1), *self._try(step, kept)])
        return [self._finish(group, loop.carried[1 + 3 * group :]) for group in range(GROUPS)]

    def _survey(self, group: int) -> list[Value]:
        """Writes the weights; returns the minimum, which is not above 0, the largest value, the sum
        of weights, and that of weighted values."""
        b = self.b
        mean = self.zero if self.is_absolute else self._quadratic_mean(group)

        def weigh(at: Value, carried: list[Value]) -> list[Value]:
            least, largest, sum_w, sum_x = carried
            value = self.get(0, at, group)
            weight = b.fadd(mean, self.magnitude(value))
            self.put(1, at, group, weight)
            least = self.where("<", value, least, value, least)
            largest = self.where(">", value, largest, value, largest)
            return [least, largest, b.fadd(sum_w, weight), b.fadd(sum_x, b.fmul(weight, value))]

        # A sum from -0 on is one from the first element on.
        nothing, first = self.constant(-0.0), self.get(0, ir.Constant(I64, 0), group)
        least, *others = self.each([first, first, nothing, nothing], weigh)
        return [self.where(">", least, self.zero, self.zero, least), *others]

    def _quadratic_mean(self, group: int) -> Value:
        b = self.b

        def add_square(at: Value, carried: list[Value]) -> list[Value]:
            value = self.get(0, at, group)
            return [b.fadd(carried[0], b.fmul(value, value))]

        (total,) = self.each([self.zero], add_square)
        share = b.fdiv(total, self.constant(self.count))
        return call(b, f"llvm.sqrt.v{WIDTH}f32", KIND, [share])

    def _begin(self, group: int) -> list[Value]:
        """Returns the error, scale and minimum of the whole range."""
        b, (least, largest, *_) = self.b, self.surveys[group]
        inverse = b.fdiv(self.constant(self.high), b.fsub(largest, least))
        scale = b.fdiv(self.constant(1), inverse)
        lines = [(group, scale, least)]
        (error,) = self._measure(lines, lambda at, _: self._quant(at, group, least, inverse))
        return [error, scale, least]

    def _finish(self, group: int, kept: Sequence[Value]) -> tuple[Value, Value]:
        b, (least, largest, *_) = self.b, self.surveys[group]
        is_flat = b.fcmp_ordered("==", largest, least)
        scale = b.select(is_flat, self.zero, kept[1])
        return scale, b.fneg(b.select(is_flat, least, kept[2]))

    def _quant(self, at: Value, group: int, least: Value, inverse: Value) -> Value:
        b = self.b
        above = b.fsub(self.get(0, at, group), least)
        return self.round(b.fmul(inverse, above), 0, self.high)

    def _measure(
        self, lines: Sequence[tuple[int, Value, Value]], quant: Callable[[Value, int], Value]
    ) -> list[Value]:
        """Returns the errors of groups, given each with its scale and minimum."""
        b = self.b

        def weigh(at: Value, group: int, scale: Value, least: Value) -> Value:
            apart = b.fadd(b.fmul(scale, quant(at, group)), least)
            apart = b.fsub(apart, self.get(0, at, group))
            size = self.magnitude(apart) if self.is_absolute else b.fmul(apart, apart)
            return b.fmul(self.get(1, at, group), size)

        def add_errors(at: Value, sums: list[Value]) -> list[Value]:
            pairs = zip(sums, lines, strict=True)
            return [b.fadd(total, weigh(at, *line)) for total, line in pairs]

        return self.each([self.zero] * len(lines), add_errors)

    def _try(self, step: Value, kept: Sequence[Value]) -> list[Value]:
        """Emits one step; returns the best errors, scales and minima after it."""
        b = self.b
        widths = b.fmul(ir.Constant(FLOAT, STEP), b.sitofp(step, FLOAT))
        widths = b.fadd(ir.Constant(FLOAT, self.first), widths)
        widths = b.fadd(widths, ir.Constant(FLOAT, float(self.high)))
        wide = broadcast(b, widths, WIDTH)
        sums = [self._sum(group, wide, kept[3 * group + 2]) for group in range(GROUPS)]
        found = [self._solve(group, *sums[group]) for group in range(GROUPS)]
        lines = [(group, *found[group][1:]) for group in range(GROUPS)]
        errors = []
        for first in range(0, GROUPS, 2):
            pair = lines[first : first + 2]
            errors += self._measure(pair, lambda at, group: self.get(2, at, group))
        after = []
        for group, (is_line, scale, least) in enumerate(found):
            before = kept[3 * group : 3 * group + 3]
            is_better = b.and_(is_line, b.fcmp_ordered("<", errors[group], before[0]))
            new = errors[group], scale, least
            after += [b.select(is_better, *pair) for pair in zip(new, before, strict=True)]
        return after

    def _sum(self, group: int, wide: Value, least: Value) -> list[Value]:
        """Writes the quants of a step; returns the three sums that the line follows from."""
        b = self.b
        inverse = b.fdiv(wide, b.fsub(self.surveys[group][1], least))

        def add_products(at: Value, sums: list[Value]) -> list[Value]:
            quant = self._quant(at, group, least, inverse)
            self.put(2, at, group, quant)
            product = b.fmul(self.get(1, at, group), quant)
            terms = product, b.fmul(product, quant), b.fmul(product, self.get(0, at, group))
            return [b.fadd(one, term) for one, term in zip(sums, terms, strict=True)]

        return self.each([self.zero] * 3, add_products)

    def _solve(
        self, group: int, sum_l: Value, sum_l2: Value, sum_xl: Value
    ) -> tuple[Value, Value, Value]:
        """Returns where there is a line, its scale and its minimum."""
        b, (*_, sum_w, sum_x) = self.b, self.surveys[group]
        divisor = b.fsub(b.fmul(sum_w, sum_l2), b.fmul(sum_l, sum_l))
        scale = b.fsub(b.fmul(sum_w, sum_xl), b.fmul(sum_x, sum_l))
        least = b.fsub(b.fmul(sum_l2, sum_x), b.fmul(sum_l, sum_xl))
        scale, least = b.fdiv(scale, divisor), b.fdiv(least, divisor)
        is_above = b.fcmp_ordered(">", least, self.zero)
        least = b.select(is_above, self.zero, least)
        scale = b.select(is_above, b.fdiv(sum_xl, sum_l2), scale)
        return b.fcmp_ordered(">", divisor, self.zero), scale, least


def _line_fitter(count: int, high: int, first: float, steps: int) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        given = IntrinsicCall(context, builder, signature.args, values)
        found = _Line(builder, place_rows(given, 3, count), count, high, first).emit(steps)
        at = given.integer(3)
        store_groups(given, 1, at, [scale for scale, _ in found])
        store_groups(given, 2, at, [least for _, least in found])
        return context.get_dummy_value()

    @intrinsic
    def fit_lines(_context, rows, scales, minima, at):
        """Writes the scales and minus the minima of LANES runs, from ``at`` on. ``rows``:
        (3, count, LANES) float32, the values in the first."""
        return types.void(rows, scales, minima, at), generate

    return fit_lines


fit_lines_q2 = _line_fitter(16, 3, -0.5, 15)
fit_lines_q4 = _line_fitter(32, 15, -1.0, 20)
fit_lines_q5 = _line_fitter(32, 31, -0.5, 15)
