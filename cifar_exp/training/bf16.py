"""A network in bf16 without a cast for every weight in every step."""

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Bf16Weights:
    """Copies in bf16 of the weights that convolutions and linear layers use under autocast.

    Autocast casts each weight in each forward pass, and each gradient in each backward pass: 56
    kernels for a step of VGG16. Here they are two, and the results are the same bit for bit.

    Args:
        model: the network, on the device; each of its weights is used by one layer.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._weights = {
            f"{name}.{kind}": weight
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
            for kind, weight in module.named_parameters(recurse=False)
        }
        self._copies = {
            name: weight.detach().bfloat16().requires_grad_()
            for name, weight in self._weights.items()
        }
        self._gradients = [torch.zeros_like(weight) for weight in self._weights.values()]

    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network computes with the copies.

        Shape:
            images `(N, 3, H, W)`, result `(N, classes)`.
        """
        logits: Tensor = functional_call(self._model, self._copies, (images,))
        return logits

    def clear_gradients(self) -> None:
        """Forget the gradients of the copies."""
        for copy in self._copies.values():
            copy.grad = None

    @torch.no_grad()
    def pass_on_gradients(self) -> None:
        """Give the weights the gradients of their copies, in float32."""
        gradients = [copy.grad for copy in self._copies.values() if copy.grad is not None]
        torch._foreach_copy_(self._gradients, gradients)
        for weight, gradient in zip(self._weights.values(), self._gradients, strict=True):
            weight.grad = gradient

    @torch.no_grad()
    def renew(self) -> None:
        """Copy the weights, which have changed."""
        torch._foreach_copy_(list(self._copies.values()), list(self._weights.values()))

    def tensors(self) -> list[Tensor]:
        """Return the copies, which a step changes."""
        return list(self._copies.values())
