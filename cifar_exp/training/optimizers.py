"""Optimizer steps on the parameters of a network."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer as TorchOptimizer

from cifar_exp.optimizers import Optimizer


def _without_compiler() -> None:
    """Prevent PyTorch's optimizers from importing its compiler, which takes 1.2 to 1.8 s.

    They import it only to exclude these methods from compilation. If PyTorch's internals change,
    this has no effect.
    """
    for method in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        unwrapped = getattr(getattr(TorchOptimizer, method, None), "__wrapped__", None)
        if unwrapped is not None:
            unwrapped.__dynamo_disable = unwrapped


_without_compiler()


class ParamOptimizer:
    """An optimizer and the parameters that it updates."""

    def __init__(self, config: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = [(parameter, _as_stored(parameter.detach())) for parameter in parameters]
        self._optimizer = config.build([stored for _, stored in self._parameters])
        self._lr = config.lr
        # unwrapped, since the wrappers for hooks and profiling import the compiler
        self._step = inspect.unwrap(type(self._optimizer).step)

    def zero_grad(self) -> None:
        """Set the gradients to None, as `torch.optim.Optimizer.zero_grad` does."""
        for parameter, _ in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters with their gradients."""
        for parameter, stored in self._parameters:
            stored.grad = None if parameter.grad is None else _as_stored(parameter.grad)
        self._step(self._optimizer)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next steps, without synchronization."""
        if lr == self._lr:
            return
        self._lr = lr
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def tensors(self) -> list[Tensor]:
        """Return the optimizer's state tensors; none before the first step."""
        states = self._optimizer.state.values()
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    def state_dict(self) -> dict[str, Any]:
        """Return moments and step counts, without the settings."""
        state: dict[str, Any] = self._optimizer.state_dict()["state"]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})


def _as_stored(tensor: Tensor) -> Tensor:
    """Return a view with the dimensions in memory order.

    On the CPU, PyTorch's fused optimizers copy channels-last parameters twice (33 of 400 ms per
    step of VGG16). Optimizers are elementwise, so the order of the dimensions does not matter.
    """
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1)
    return tensor
