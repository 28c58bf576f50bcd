"""Learns from a pickle that PyTorch wrote which tensors look at which storages; runs nothing.

Source: what `torch.save` writes for a tensor: a call of `torch._utils._rebuild_tensor_v2` (or a
relative) on a storage named by a persistent id, an offset, a shape and strides.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from ...model.files.segments import count_elements
from ..cutting.reader import Unreadable, Work
from ..source import MAX_NAME_CHARACTERS
from .opcodes import Global, Machine, Node

# A state dictionary takes about 40 opcodes and 300 bytes a tensor. Half a million opcodes take
# 1.5 s and 150 MB to follow at worst.
_MAX_OPCODES = 500_000
_COUNTED_OPCODES = 100
MAX_PICKLE_BYTES = 32 * 1024 * 1024

Found = TypeVar("Found")

_REBUILDS = frozenset(
    f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "qtensor")
)


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage by its key: the name of its class, such as FloatStorage, and its elements."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class View:
    """A tensor that looks at a storage; offset and strides in elements.

    `dtype`: torch's name of the element type, None where the storage's class says it.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str | None = None

    def shape_as_it_lies(self) -> tuple[int, ...] | None:
        """Returns the dimensions in the order that the elements lie in, which is another one for
        a transposed tensor; None where there are gaps between them, or some are shared."""
        order = sorted(range(len(self.shape)), key=lambda i: -self.strides[i])
        if not all(n == 1 or stride for n, stride in zip(self.shape, self.strides, strict=True)):
            return None
        expected = 1
        for i in reversed(order):
            if self.shape[i] != 1 and self.strides[i] != expected:
                return None
            expected *= self.shape[i]
        return tuple(self.shape[i] for i in order) if self._is_permuted() else self.shape

    def _is_permuted(self) -> bool:
        strides = [s for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        return strides != sorted(strides, reverse=True)

    @property
    def count(self) -> int:
        """How many elements it has."""
        return count_elements(self.shape)


def read_value(file: io.BytesIO, work: Work) -> Any:
    """Follows one pickle from where `file` stands to its end; returns what it leaves: plain values,
    nodes and views.

    Counts opcodes as `work`. Raises Unreadable for bytes that are no pickle, or one beyond the
    bounds.
    """
    return follow(Machine(_call, _load), file, work)


def follow(machine: Machine, file: Any, work: Work, most: int = _MAX_OPCODES) -> Any:
    """As `read_value`, by a machine of one's own and up to so many opcodes."""
    try:
        for _ in range(0, most, _COUNTED_OPCODES):
            work.spend(_COUNTED_OPCODES)
            if machine.follow(file, _COUNTED_OPCODES):
                return machine.stack[-1]
    except (ValueError, IndexError, KeyError, OverflowError, struct.error) as error:
        raise Unreadable(f"not a pickle that can be followed: {error}") from error
    raise Unreadable(f"a pickle of more than {most} opcodes")


def list_views(root: Any) -> Iterator[tuple[str, View]]:
    """Yields the tensors below what `read_value` returned, by name: the keys on the way, joined
    by dots. What is referred to often is found once."""
    return list_found(root, View)


def list_found(root: Any, kind: type[Found]) -> Iterator[tuple[str, Found]]:
    """As `list_views`, of values of another kind."""
    levels: list[Iterator[tuple[str, Any]]] = [iter([("", root)])]
    seen: set[int] = set()
    while levels:
        name, value = next(levels[-1], (None, None))
        if name is None:
            levels.pop()
        elif id(value) in seen:
            continue
        elif isinstance(value, kind):
            if isinstance(value, Node):
                seen.add(id(value))
            yield name, value
        elif isinstance(value, Node | tuple):
            seen.add(id(value))
            levels.append(_name_items(name, value))


def get_item(node: Any, key: str) -> Any:
    """Returns what a node holds under `key`, or None."""
    items = node.items if isinstance(node, Node) else []
    return next((value for name, value in items if name == key), None)


def list_items(node: Any) -> list[Any]:
    """Returns what a node holds, in order."""
    return [value for _, value in node.items] if isinstance(node, Node) else []


def _name_items(name: str, value: Node | tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    items = enumerate(value) if isinstance(value, tuple) else value.items
    for key, item in items:
        yield _join(name, key), item


def _join(name: str, key: Any) -> str:
    # A name that is long enough is passed on as it is, so that deep pickles take no more memory.
    if len(name) >= MAX_NAME_CHARACTERS or not _is_key(key):
        return name
    return f"{name}.{key}" if name else str(key)


def _is_key(key: Any) -> bool:
    if isinstance(key, str):
        return len(key) <= MAX_NAME_CHARACTERS
    return type(key) is int and abs(key) < 1 << 63


def _call(function: Any, arguments: Any) -> Any:
    """What a call leaves: a view for the calls that make tensors, else a node of its arguments."""
    while _name(function) == "torch._tensor._rebuild_from_type_v2" and _has(arguments, 3):
        function, arguments = arguments[0], arguments[2]
    name = _name(function)
    if name.startswith("torch._utils._rebuild_parameter") and _has(arguments, 1):
        return arguments[0]
    if name in _REBUILDS:
        return _view(arguments, None) or Node([(None, arguments)])
    if name == "torch._utils._rebuild_tensor_v3" and _has(arguments, 7):
        return _view(arguments, _name(arguments[6])) or Node([(None, arguments)])
    return Node([(None, arguments)] if arguments else [])


def _view(arguments: Any, dtype: str | None) -> View | None:
    if not _has(arguments, 4):
        return None
    storage, offset, shape, strides = arguments[:4]
    if not isinstance(storage, Storage) or not _are_lengths((offset,)):
        return None
    if not _are_lengths(shape) or not _are_lengths(strides) or len(shape) != len(strides):
        return None
    return View(storage, offset, shape, strides, dtype)


def _load(persistent_id: Any) -> Any:
    """What a persistent id names: a storage, as ("storage", class, key, device, elements)."""
    if not _has(persistent_id, 5) or persistent_id[0] != "storage":
        return None
    _, kind, key, _, count = persistent_id[:5]
    if not isinstance(key, str) or not _are_lengths((count,)):
        return None
    return Storage(key, _name(kind).rpartition(".")[2], count)


def _name(function: Any) -> str:
    return function.name if isinstance(function, Global) else ""


def _has(values: Any, count: int) -> bool:
    return isinstance(values, tuple) and len(values) >= count


def _are_lengths(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(n) is int and 0 <= n < 1 << 63 for n in values)
