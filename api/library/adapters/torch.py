"""PyTorch models and vaults: loads weights tensor by tensor, and keeps weights encoded in memory.

`weightvault.torch`. Needs PyTorch (`pip install 'weightvault[torch]'`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import nn

from ....dedup.errors import InvalidInput
from ..opening import safe_open
from ..vault import Vault
from .encoded_weights import Buffers, Frame, encode_weight
from .pretrained import from_pretrained

__all__ = ["KINDS", "Compressed", "Keys", "compress", "from_pretrained", "load_state_dict"]

KINDS = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The modules whose weights `compress` encodes: all that need them only while they compute."""

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

    Weights are frozen unless `Compressed.train` is called. Where gradients are recorded, each
    weight is decoded into memory of its own, as the backward pass needs it. One forward pass at a
    time shares the memory and is decoded ahead of; others beside it have memory of their own, too.
    """
    weights = _find_weights(model)
    theirs = {} if base is None else {name: m.weight for name, m in _find_weights(base)}
    frames: dict[int, Frame] = {}
    for name, module in weights:
        parameter = module.weight
        if id(parameter) not in frames:
            frames[id(parameter)] = encode_weight(parameter, theirs.get(name), level)
    return Compressed(weights, [frames[id(module.weight)] for _, module in weights])


class Compressed:
    """A model whose weights are encoded: `raw_bytes` they were. What they take now, `nbytes`, is
    without `buffer_bytes` of memory that they are decoded into."""

    def __init__(self, modules: list[tuple[str, nn.Module]], frames: list[Frame]) -> None:
        self._modules = [module for _, module in modules]
        self._frames = frames
        own = {id(frame): frame for frame in frames}.values()
        self.raw_bytes = sum(frame.size for frame in own)
        # What is read by rows needs no memory for all of them.
        shared = {
            id(frame): frame.size
            for module, frame in zip(self._modules, frames, strict=True)
            if not isinstance(module, nn.Embedding)
        }
        self._buffers = Buffers(shared.values())
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

    def train(
        self,
        make_optimiser: Callable[[nn.Parameter], torch.optim.Optimizer],
        *,
        level: str = "fast",
    ) -> None:
        """Has the encoded weights learn, each by an optimiser that is made for it alone:
        `lambda weight: torch.optim.AdamW([weight], lr=1e-4)`.

        A weight is in memory from its forward pass on until its gradient is complete. Then, within
        the backward pass, its optimiser takes a step, and it is encoded again. So gradients are
        neither summed up over several passes nor clipped together. Parameters that are not encoded,
        as biases and norms, are for an optimiser of `model.parameters()`.
        """
        from .encoded_training import Learner

        self._stop_learning()
        for frame in {id(frame): frame for frame in self._frames}.values():
            places = [i for i, each in enumerate(self._frames) if each is frame]
            learner = Learner(frame, make_optimiser, partial(self._keep, places), level)
            for place in places:
                self._modules[place].__dict__[_LEARNER] = learner

    def _keep(self, places: list[int], frame: Any) -> None:
        for place in places:
            self._frames[place] = self._modules[place].__dict__[_FRAME] = frame

    @property
    def nbytes(self) -> int:
        """What the encoded weights take now."""
        return sum(len(data) for data in {id(f.data): f.data for f in self._frames}.values())

    def _stop_learning(self) -> None:
        for module in self._modules:
            learner = module.__dict__.pop(_LEARNER, None)
            if learner is not None:
                learner.close()

    def restore(self) -> None:
        """Gives the model its weights back, decoded, and takes the hooks away."""
        self._stop_learning()
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
            learner = _learner_of(module)
            taken = learner.take() if learner else self._buffers.take(number, self._frames)
            module.__dict__[_HELD] = taken

        return begin

    def _end(self, number: int) -> Callable[..., None]:
        def end(module: nn.Module, _inputs: Any, _output: Any) -> None:
            module.__dict__.pop(_HELD, None)
            self._buffers.give_back(number)

        return end


# What a module with an encoded weight holds besides: the frame, while it computes the weight, and
# what trains it.
_FRAME, _HELD, _LEARNER = "_weightvault_frame", "_weightvault_held", "_weightvault_learner"


def _learner_of(module: Any) -> Any:
    return module.__dict__.get(_LEARNER) if torch.is_grad_enabled() else None


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
        learner = _learner_of(self)
        if learner is not None:
            return nn.functional.embedding(tokens, learner.take(), self.__dict__["padding_idx"])
        frame: Frame = self.__dict__[_FRAME]
        rows, places = torch.unique(tokens, return_inverse=True)
        return frame.decode_rows(rows)[places]


@cache
def _decoding(kind: type[nn.Module]) -> type[nn.Module]:
    begin = _DecodingRows if kind is nn.Embedding else _Decoding
    made: Any = type(kind.__name__, (begin, kind), {})
    return made


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
