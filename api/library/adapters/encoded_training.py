"""Training of weights that are encoded: each is decoded for a pass, and encoded again once its
gradient was used."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import torch
from torch import nn

from .encoded_weights import Frame


class Learner:
    """The parameter that stands for an encoded weight while gradients are recorded.

    It has memory from the forward pass to the moment when its gradient is complete: then the
    optimiser that was made for it takes its step, and `keep` is given the weight encoded again.
    """

    def __init__(
        self,
        frame: Frame,
        make_optimiser: Callable[[nn.Parameter], torch.optim.Optimizer],
        keep: Callable[[Frame], None],
        level: str,
    ) -> None:
        self._frame, self._keep, self._level = frame, keep, level
        self._lock = Lock()
        made = torch.empty(frame.shape, dtype=frame.dtype, device=frame.device)
        self.parameter = nn.Parameter(made)
        self._bytes = made.untyped_storage().nbytes()
        self._free()
        self.optimiser = make_optimiser(self.parameter)
        self._hook = self.parameter.register_post_accumulate_grad_hook(self._update)

    def take(self) -> nn.Parameter:
        """Returns the parameter with the weight in it."""
        storage = self.parameter.untyped_storage()
        with self._lock:
            if not storage.nbytes():
                decoded = self._frame.decode()
                storage.resize_(self._bytes)
                # Not through the parameter: for autograd nothing was changed.
                self.parameter.data.copy_(decoded)
        return self.parameter

    def close(self) -> None:
        """Takes the hook away and lets go of the memory."""
        self._hook.remove()
        self._free()

    def _update(self, parameter: torch.Tensor) -> None:
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        # A graph that still needs what is let go of here must fail, not read it.
        torch.autograd.graph.increment_version(parameter)
        # A copy, as memory that numpy saw can no longer be let go of.
        self._frame = self._frame.encode_again(parameter.detach().clone(), self._level)
        self._keep(self._frame)
        self._free()

    def _free(self) -> None:
        self.parameter.untyped_storage().resize_(0)
