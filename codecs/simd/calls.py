"""How code that is emitted gets at the arguments of an intrinsic."""

from typing import Any

from llvmlite import ir
from numba import types

from .vector_ir import I64


class IntrinsicCall:
    """The arguments of one intrinsic call, seen from the code that emits it."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kinds: Any, values: Any) -> None:
        self.context, self.builder = context, builder
        self._kinds, self._values = kinds, values

    def address(self, index: int, offset: Any = None, item_bytes: int = 1) -> Any:
        """Returns the address of the array argument ``index``, ``offset`` items in."""
        array = self.context.make_array(self._kinds[index])
        data = array(self.context, self.builder, self._values[index]).data
        start = self.builder.ptrtoint(data, I64)
        if offset is None:
            return start
        return self.builder.add(start, self.builder.mul(offset, ir.Constant(I64, item_bytes)))

    def length(self, index: int) -> Any:
        """Returns the number of items of the array argument ``index``."""
        array = self.context.make_array(self._kinds[index])
        return array(self.context, self.builder, self._values[index]).nitems

    def integer(self, index: int) -> Any:
        """Returns the integer argument ``index`` in 64 bits."""
        return self.context.cast(self.builder, self._values[index], self._kinds[index], types.int64)
