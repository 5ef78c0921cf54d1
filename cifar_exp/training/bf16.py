"""Copies of the parameters in bf16, so that autocast does not cast each of them in each step."""

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Bf16Weights:
    """Runs a network with bf16 copies of its convolutional and linear parameters.

    Autocast casts each parameter in each forward pass and each gradient in each backward pass,
    which takes 56 kernels per step of VGG16. Copying them all together takes two. The results are
    bit-identical.

    Args:
        model: network on its device; each of its parameters is used by one layer only.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._parameters = {
            f"{name}.{kind}": parameter
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
            for kind, parameter in module.named_parameters(recurse=False)
        }
        self._copies = {
            name: parameter.detach().bfloat16().requires_grad_()
            for name, parameter in self._parameters.items()
        }
        self._gradients = [torch.zeros_like(parameter) for parameter in self._parameters.values()]

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the logits with the copies.

        Shape:
            images `(N, 3, H, W)`, logits `(N, classes)`.
        """
        logits: Tensor = functional_call(self._model, self._copies, (images,))
        return logits

    def zero_grad(self) -> None:
        """Set the gradients of the copies to None."""
        for copy in self._copies.values():
            copy.grad = None

    @torch.no_grad()
    def copy_gradients(self) -> None:
        """Copy the gradients of the copies to the parameters, in float32."""
        gradients = [copy.grad for copy in self._copies.values() if copy.grad is not None]
        torch._foreach_copy_(self._gradients, gradients)
        for parameter, gradient in zip(self._parameters.values(), self._gradients, strict=True):
            parameter.grad = gradient

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the parameters again after they have changed."""
        torch._foreach_copy_(list(self._copies.values()), list(self._parameters.values()))

    def tensors(self) -> list[Tensor]:
        """Return the copies."""
        return list(self._copies.values())
