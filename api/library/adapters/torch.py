"""PyTorch models and vaults: loads weights tensor by tensor, and keeps weights encoded in memory.

`weightvault.torch`. Needs PyTorch (`pip install 'weightvault[torch]'`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from threading import Lock, get_ident
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ....dedup.errors import Corrupt, InvalidInput
from ....dedup.reading.lone_frames import decode_frame, decode_frame_range, encode_frame, is_delta
from ....dedup.reading.workers import Background, result_of
from ..arrays import array_bytes
from ..opening import safe_open
from ..vault import Vault

KINDS = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The modules whose weights `compress` encodes: all that need them only while they compute."""

# Of an embedding as much is decoded together: a few blocks of a frame.
_TOGETHER_BYTES = 4 << 20
# What is smaller saves nothing worth a call.
_LEAST_BYTES = 1 << 16


class Keys(NamedTuple):
    """What did not fit when weights were loaded, as `nn.Module.load_state_dict` tells it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_state_dict(
    model: nn.Module,
    uri: str,
    *,
    strict: bool = True,
    vault: Vault | str | None = None,
    token: str | None = None,
) -> Keys:
    """Loads the weights that a `wv://` address names into a model, one tensor after the other.

    What follows is fetched and decoded meanwhile, no file is written, and besides the model a few
    chunks of 32 MiB are in memory. Shards are read together; of tied weights one name is enough.
    Parameters on the meta device are made on the CPU in the dtype of the tensor; others keep dtype
    and device, as with PyTorch's own. With `strict` raises RuntimeError, as that does, where names
    do not fit, before anything is changed; and always where a shape does not.
    """
    targets = dict(model.state_dict(keep_vars=True))
    with safe_open(uri, framework="pt", vault=vault, token=token) as file:
        keys = _compare_names(targets, file.keys())
        wrong = [
            f"{name}: {found} instead of {list(targets[name].shape)}"
            for name in file
            if name in targets
            and (found := file.get_slice(name).get_shape()) != list(targets[name].shape)
        ]
        if wrong or (strict and any(keys)):
            raise RuntimeError(
                f"the weights at {uri} do not fit the model: missing {keys.missing_keys}, "
                f"unexpected {keys.unexpected_keys}, of another shape {wrong}"
            )
        for name, tensor in file.items():
            if name in targets:
                _put(model, name, targets[name], tensor)
    return keys


def _compare_names(targets: Mapping[str, torch.Tensor], names: Iterable[str]) -> Keys:
    given = set(names)
    loaded = {_storage(targets[name]) for name in given & targets.keys()} - {None}
    missing = [
        name
        for name, target in targets.items()
        if name not in given and _storage(target) not in loaded
    ]
    return Keys(missing, sorted(given - targets.keys()))


def _storage(tensor: torch.Tensor) -> tuple[object, ...] | None:
    """Returns what two names of one tensor have in common; None on the meta device, where only the
    object tells."""
    if not isinstance(tensor, torch.Tensor):
        return None
    if tensor.is_meta:
        return ("meta", id(tensor))
    return (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())


def _put(model: nn.Module, name: str, target: torch.Tensor, tensor: torch.Tensor) -> None:
    if not target.is_meta:
        with torch.no_grad():
            target.copy_(tensor)
        return
    made: torch.Tensor = tensor
    if isinstance(target, nn.Parameter):
        made = nn.Parameter(tensor, requires_grad=target.requires_grad)
    # Wherever it is tied to.
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for key, value in held.items():
                if value is target:
                    held[key] = made  # type: ignore[assignment]


def compress(
    model: nn.Module, *, base: nn.Module | None = None, level: str = "default"
) -> Compressed:
    """Keeps the weights of a model's Linear, Embedding and Conv modules encoded in memory, and
    decodes each when its module computes, into memory that all of them share.

    Outputs are the same, bit for bit. With `base`, a model of the same architecture that stays in
    memory as it is, weights are deltas on its own: several tunes of one base cost it once, and
    each its deltas. A base whose weights change makes the forward pass raise Corrupt.

    For inference: weights are frozen. Where gradients are recorded, each weight is decoded into
    memory of its own, as the backward pass needs it. One forward pass at a time shares the memory
    and is decoded ahead of; others beside it have memory of their own, too.
    """
    weights = _find_weights(model)
    theirs = {} if base is None else {name: m.weight for name, m in _find_weights(base)}
    frames: dict[int, _Frame] = {}
    for name, module in weights:
        parameter = module.weight
        if id(parameter) not in frames:
            frames[id(parameter)] = _encode(parameter, theirs.get(name), level)
    return Compressed(weights, [frames[id(module.weight)] for _, module in weights])


class Compressed:
    """A model whose weights are encoded: `raw_bytes` they were, `nbytes` they take now, without
    `buffer_bytes` of memory that they are decoded into."""

    def __init__(self, modules: list[tuple[str, nn.Module]], frames: list[_Frame]) -> None:
        self._modules = [module for _, module in modules]
        self._frames = frames
        own = {id(frame): frame for frame in frames}.values()
        self.raw_bytes = sum(frame.size for frame in own)
        self.nbytes = sum(len(frame.data) for frame in own)
        shared = (
            frame.size
            for module, frame in zip(self._modules, frames, strict=True)
            if not isinstance(module, nn.Embedding)
        )
        self._buffers = _Buffers(max(shared, default=0))
        self.buffer_bytes = self._buffers.nbytes
        self._hooks: list[Any] = []
        for number, (module, frame) in enumerate(zip(self._modules, frames, strict=True)):
            del module._parameters["weight"]
            module.__dict__[_FRAME] = frame
            module.__class__ = _decoding(type(module))
            if isinstance(module, nn.Embedding):
                continue
            begin, end = self._begin(number), self._end(number)
            self._hooks.append(module.register_forward_pre_hook(begin))
            self._hooks.append(module.register_forward_hook(end, always_call=True))

    def restore(self) -> None:
        """Gives the model its weights back, decoded, and takes the hooks away."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        made: dict[int, nn.Parameter] = {}
        for module in self._modules:
            frame = module.__dict__.pop(_FRAME, None)
            if frame is None:
                continue
            if id(frame) not in made:
                made[id(frame)] = nn.Parameter(frame.decode(), requires_grad=frame.requires_grad)
            module.__class__ = type(module).__bases__[1]
            module.register_parameter("weight", made[id(frame)])
        self._buffers.close()

    def _begin(self, number: int) -> Callable[..., None]:
        def begin(module: nn.Module, _inputs: Any) -> None:
            module.__dict__[_HELD] = self._buffers.take(number, self._frames)

        return begin

    def _end(self, number: int) -> Callable[..., None]:
        def end(module: nn.Module, _inputs: Any, _output: Any) -> None:
            module.__dict__.pop(_HELD, None)
            self._buffers.give_back(number)

        return end


# What a module with an encoded weight holds besides: the frame, and while it computes the weight.
_FRAME, _HELD = "_weightvault_frame", "_weightvault_held"


class _Decoding:
    """What the class of a module with an encoded weight begins with."""

    @property
    def weight(self) -> torch.Tensor:
        """The weight: what the module computes with, and outside of that in memory of its own."""
        held = self.__dict__.get(_HELD)
        return self.__dict__[_FRAME].decode() if held is None else held


class _DecodingRows(_Decoding):
    """What the class of an embedding begins with: it decodes the blocks of the rows it is asked
    for, so that no memory is needed for all of them."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns rows as nn.Embedding does."""
        frame: _Frame = self.__dict__[_FRAME]
        rows, places = torch.unique(tokens, return_inverse=True)
        return frame.decode_rows(rows)[places]


@cache
def _decoding(kind: type[nn.Module]) -> type[nn.Module]:
    begin = _DecodingRows if kind is nn.Embedding else _Decoding
    made: Any = type(kind.__name__, (begin, kind), {})
    return made


@dataclass(frozen=True, slots=True)
class _Frame:
    """An encoded weight, and the weight of the base that it is a delta on."""

    data: bytes
    size: int
    dtype: torch.dtype
    shape: torch.Size
    device: torch.device
    requires_grad: bool
    base: torch.Tensor | None
    base_version: int

    def decode(self, room: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the weight, on its device: in `room`, (n,) uint8, where that is the CPU. Raises
        Corrupt where the base is not what it was."""
        memory = torch.empty(self.size, dtype=torch.uint8) if room is None else room[: self.size]
        decode_frame(self.data, self._base_bytes(), memory.numpy())
        tensor = memory.view(self.dtype).reshape(self.shape)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    def decode_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns rows of a matrix by their numbers, ascending, on the device of the weight. Raises
        Corrupt where the base was changed."""
        wanted = rows.to("cpu")
        width = self.size // self.shape[0]
        if wanted.numel() and not 0 <= wanted[0] <= wanted[-1] < self.shape[0]:
            raise IndexError("index out of range in self")
        base = self._base_bytes()
        made = torch.empty(len(wanted), width, dtype=torch.uint8)
        together = max(1, _TOGETHER_BYTES // width)
        groups, counts = torch.unique_consecutive(wanted // together, return_counts=True)
        at = 0
        for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
            first = group * together
            stop = min(first + together, self.shape[0])
            block = torch.empty(stop - first, width, dtype=torch.uint8)
            decode_frame_range(self.data, base, first * width, stop * width, block.numpy())
            made[at : at + count] = block[wanted[at : at + count] - first]
            at += count
        return made.view(self.dtype).to(self.device)

    def _base_bytes(self) -> NDArray[np.uint8] | None:
        if self.base is None:
            return None
        if self.base._version != self.base_version:
            raise Corrupt("the base of a compressed model was changed", "compress it anew")
        return _bytes_of(self.base)


class _Buffers:
    """Two pieces of memory: what a module computes with is in one, while the next weight is decoded
    into the other on a second thread. What came after what the last time is what comes next."""

    def __init__(self, size: int) -> None:
        self._rooms = [torch.empty(size, dtype=torch.uint8) for _ in range(2)]
        self.nbytes = 2 * size
        self._lock = Lock()
        self._next: dict[int, int] = {}
        self._last: int | None = None
        self._owner: int | None = None
        self._used: int | None = None
        self._ahead: tuple[int, int, Any] | None = None
        self._decoder: Background | None = None

    def take(self, number: int, frames: list[_Frame]) -> torch.Tensor:
        """Returns the weight `number`: in shared memory, unless somebody computes with that."""
        frame = frames[number]
        with self._lock:
            shared = self._owner is None and not torch.is_grad_enabled()
            if shared:
                self._owner = get_ident()
        if not shared:
            return frame.decode()
        if self._last is not None:
            self._next[self._last] = number
        self._last = number
        found, room = self._find(number)
        if found is None:
            room = 0 if self._used != 0 else 1
            found = frame.decode(self._rooms[room])
        self._used = room
        following = self._next.get(number)
        if following is not None:
            other = 1 - room
            future = self._thread().submit(frames[following].decode, self._rooms[other])
            self._ahead = following, other, future
        return found

    def _find(self, number: int) -> tuple[torch.Tensor | None, int]:
        """Returns the weight if it was decoded ahead, and where; waits for what is being decoded,
        whatever it is, as its memory is needed."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None, 0
        wanted, room, future = ahead
        tensor = result_of(future)
        return (tensor, room) if wanted == number else (None, room)

    def give_back(self, number: int) -> None:
        """The module with the weight `number` has computed."""
        with self._lock:
            if self._owner == get_ident() and self._last == number:
                self._owner = None

    def close(self) -> None:
        """Ends the thread, and lets go of the memory."""
        if self._decoder is not None:
            self._decoder.__exit__(None)
        self._rooms.clear()

    def _thread(self) -> Background:
        if self._decoder is None:
            self._decoder = Background("decode")
        return self._decoder


def _find_weights(model: nn.Module) -> list[tuple[str, Any]]:
    """Returns the modules to encode the weights of, by name: of those kinds alone, and none whose
    weight is computed from others (parametrizations). Raises InvalidInput where one is encoded."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, _Decoding):
            raise InvalidInput(f"{name} is compressed already", "restore it first")
        weight = module._parameters.get("weight") if type(module) in KINDS else None
        if getattr(module, "max_norm", None) is not None:
            # Such an embedding writes to its weight.
            continue
        if weight is not None and weight.numel() * weight.element_size() >= _LEAST_BYTES:
            found.append((name, module))
    return found


def _encode(parameter: nn.Parameter, base: torch.Tensor | None, level: str) -> _Frame:
    dtype, shape, raw = array_bytes(parameter)
    if base is not None and (base.dtype, base.shape) != (parameter.dtype, parameter.shape):
        base = None
    against = None if base is None else _bytes_of(base)
    data = encode_frame(raw, dtype, against, level=level, columns=shape[-1] if shape else None)
    return _Frame(
        data,
        raw.size,
        parameter.dtype,
        parameter.shape,
        parameter.device,
        parameter.requires_grad,
        base.detach() if base is not None and is_delta(data) else None,
        0 if base is None else base._version,
    )


def _bytes_of(tensor: torch.Tensor) -> NDArray[np.uint8]:
    return array_bytes(tensor)[2]
