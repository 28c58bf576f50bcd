"""Follows the opcodes of a pickle on a stack of plain values and nodes; runs nothing.

Whatever would import, call or build something leaves a node that only remembers what was put into
it. Source: the opcodes as the standard library's pickletools documents them.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..cutting.reader import Unreadable

_STOP = b"."


@dataclass(frozen=True, slots=True)
class Global:
    """The name of something a pickle would import: module, dot, name."""

    name: str


@dataclass(slots=True, eq=False)
class Node:
    """A dictionary, list or object: what was put into it, by key where it has one."""

    items: list[tuple[Any, Any]] = field(default_factory=list)


class Machine:
    """The stack, marks and memo of a pickle as far as it was followed.

    `call(function, arguments)` says what a call leaves, `load(id)` what a persistent id does.
    """

    def __init__(self, call: Callable[[Any, Any], Any], load: Callable[[Any], Any]) -> None:
        self.stack: list[Any] = []
        self.call = call
        self.load = load
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def follow(self, file: Any, most: int) -> bool:
        """Follows up to `most` opcodes; says whether the pickle ended with one of them.

        Raises Unreadable for what is no opcode, or none that a model file has; IndexError or
        KeyError where stack or memo lacks a value; ValueError where an argument cannot be read.
        """
        for _ in range(most):
            code = file.read(1)
            if code == _STOP:
                return True
            self.step(code, file)
        return False

    def step(self, code: bytes, file: Any) -> None:
        """Does what one opcode says, whose argument comes next in the file."""
        if code not in _TABLE:
            raise Unreadable(f"a pickle with {code!r} for an opcode")
        read, act = _TABLE[code]
        act(self, read(file) if read else None)

    def pop_mark(self) -> list[Any]:
        """Returns what lies above the topmost mark and takes both away."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def pop_many(self, count: int) -> list[Any]:
        """Returns the topmost `count` values, the deepest first, and takes them away."""
        if count > len(self.stack):
            raise IndexError("the stack is too short")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items


def _nothing(machine: Machine, argument: Any) -> None:
    pass


def _push(machine: Machine, argument: Any) -> None:
    machine.stack.append(argument)


def _push_constant(value: Any) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine.stack.append(value)


def _push_node(machine: Machine, _: Any) -> None:
    machine.stack.append(Node())


def _push_tuple(count: int) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine.stack.append(tuple(machine.pop_many(count)))


def _mark(machine: Machine, _: Any) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine, _: Any) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _pop_mark(machine: Machine, _: Any) -> None:
    machine.pop_mark()


def _dup(machine: Machine, _: Any) -> None:
    machine.stack.append(machine.stack[-1])


def _get(machine: Machine, argument: Any) -> None:
    machine.stack.append(machine.memo[int(argument)])


def _put(machine: Machine, argument: Any) -> None:
    machine.memo[int(argument)] = machine.stack[-1]


def _memoize(machine: Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _tuple(machine: Machine, _: Any) -> None:
    items = machine.pop_mark()
    machine.stack.append(tuple(items))


def _list(machine: Machine, _: Any) -> None:
    items = machine.pop_mark()
    machine.stack.append(Node(list(enumerate(items))))


def _dict(machine: Machine, _: Any) -> None:
    items = machine.pop_mark()
    machine.stack.append(Node(_pairs(items)))


def _append(machine: Machine, _: Any) -> None:
    _extend(machine.stack[-2], [machine.stack.pop()])


def _appends(machine: Machine, _: Any) -> None:
    items = machine.pop_mark()
    _extend(machine.stack[-1], items)


def _set_item(machine: Machine, _: Any) -> None:
    items = machine.pop_many(2)
    _put_in(machine.stack[-1], _pairs(items))


def _set_items(machine: Machine, _: Any) -> None:
    items = machine.pop_mark()
    _put_in(machine.stack[-1], _pairs(items))


def _build(machine: Machine, _: Any) -> None:
    state = machine.stack.pop()
    items = state.items if isinstance(state, Node) else [(None, state)]
    if machine.stack[-1] is not state:
        _put_in(machine.stack[-1], items)


def _global(machine: Machine, argument: Any) -> None:
    machine.stack.append(Global(str(argument).replace(" ", ".")))


def _stack_global(machine: Machine, _: Any) -> None:
    names = machine.pop_many(2)
    known = all(isinstance(name, str) for name in names)
    machine.stack.append(Global(".".join(names) if known else ""))


def _reduce(machine: Machine, _: Any) -> None:
    function, arguments = machine.pop_many(2)
    machine.stack.append(machine.call(function, arguments))


def _new_object(machine: Machine, _: Any) -> None:
    arguments = machine.pop_many(2)[1]
    machine.stack.append(Node([(None, arguments)]))


def _new_object_ex(machine: Machine, _: Any) -> None:
    arguments = machine.pop_many(3)[1:]
    machine.stack.append(Node([(None, part) for part in arguments]))


def _instance(machine: Machine, _: Any) -> None:
    items = machine.pop_mark()
    machine.stack.append(Node([(None, item) for item in items]))


def _persistent(machine: Machine, argument: Any) -> None:
    machine.stack.append(machine.load(argument))


def _binary_persistent(machine: Machine, _: Any) -> None:
    machine.stack.append(machine.load(machine.stack.pop()))


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2], strict=True))


def _extend(target: Any, items: list[Any]) -> None:
    start = len(target.items) if isinstance(target, Node) else 0
    _put_in(target, list(enumerate(items, start)))


def _put_in(target: Any, items: list[tuple[Any, Any]]) -> None:
    # What is put into a tensor or a plain value is of no interest.
    if isinstance(target, Node):
        target.items.extend(items)


_PUSHES = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES "
    "SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT "
    "BINFLOAT"
)

_ACTIONS: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "READONLY_BUFFER"), _nothing),
    **dict.fromkeys(_PUSHES.split(), _push),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4", "NEXT_BUFFER"), _push_constant(None)),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"), _push_node),
    **dict.fromkeys(("LIST", "FROZENSET"), _list),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), _appends),
    **dict.fromkeys(("INST", "OBJ"), _instance),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "NONE": _push_constant(None),
    "NEWTRUE": _push_constant(True),
    "NEWFALSE": _push_constant(False),
    "EMPTY_TUPLE": _push_tuple(0),
    "TUPLE1": _push_tuple(1),
    "TUPLE2": _push_tuple(2),
    "TUPLE3": _push_tuple(3),
    "TUPLE": _tuple,
    "DICT": _dict,
    "APPEND": _append,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "BUILD": _build,
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": _dup,
    "MEMOIZE": _memoize,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new_object,
    "NEWOBJ_EX": _new_object_ex,
    "PERSID": _persistent,
    "BINPERSID": _binary_persistent,
}

_TABLE = {
    opcode.code.encode("latin-1"): (opcode.arg and opcode.arg.reader, _ACTIONS[opcode.name])
    for opcode in pickletools.opcodes
    if opcode.name in _ACTIONS
}
"""What reads the argument of an opcode, if it has one, and what to do about it."""
