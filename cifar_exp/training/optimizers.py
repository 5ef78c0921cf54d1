"""Steps of an optimizer on the weights of a network."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer as TorchOptimizer

from cifar_exp.optimizers import Optimizer


def _without_compiler() -> None:
    """Keep PyTorch's optimizers from importing its compiler, 1.2 to 1.8 s at every start.

    They import it only to exempt these methods from it; nothing here is compiled. Where PyTorch's
    internals change this does nothing, and a start takes longer.
    """
    for method in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        plain = getattr(getattr(TorchOptimizer, method, None), "__wrapped__", None)
        if plain is not None:
            plain.__dynamo_disable = plain


_without_compiler()


class ParamOptimizer:
    """An optimizer together with the weights that it changes.

    On a GPU the learning rate lives there, so that a captured step reads it anew at every replay.

    Args:
        config: which optimizer and its settings.
        parameters: the weights, on the device where they stay.
    """

    def __init__(self, config: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
        self._weights = [(weight, _as_stored(weight.detach())) for weight in parameters]
        self._optimizer = config.build([stored for _, stored in self._weights])
        self._lr = config.lr
        # without the wrappers around it, which keep hooks and profiles and import the compiler
        self._step = inspect.unwrap(type(self._optimizer).step)

    def clear_gradients(self) -> None:
        """Forget the gradients; zeroing them in place would write all of them once more."""
        for weight, _ in self._weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the weights by their gradients."""
        for weight, stored in self._weights:
            stored.grad = None if weight.grad is None else _as_stored(weight.grad)
        self._step(self._optimizer)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next steps; waits for nothing."""
        if lr == self._lr:
            return
        self._lr = lr
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def tensors(self) -> list[Tensor]:
        """Return all that a step changes besides the weights; none before the first step."""
        states = self._optimizer.state.values()
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    def state_dict(self) -> dict[str, Any]:
        """Return moments and step counts; the settings are the run's, and not repeated here."""
        state: dict[str, Any] = self._optimizer.state_dict()["state"]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was taken."""
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})


def _as_stored(tensor: Tensor) -> Tensor:
    """Return the same numbers with the dimensions in the order they have in memory.

    PyTorch's fused optimizers copy channels-last weights forth and back on the CPU (33 of 400 ms
    a step of VGG16). What they do is elementwise, so the order of the dimensions is free.
    """
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1)
    return tensor
