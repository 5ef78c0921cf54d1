"""Settings of the optimizers of the `optimizer` group.

PyTorch is imported only to build an optimizer, since most commands do not need it.
"""

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cifar_exp.sections import Section

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer as TorchOptimizer

LearningRate = Annotated[float, Field(gt=0, description="learning rate")]
WeightDecay = Annotated[float, Field(ge=0, description="weight decay coefficient")]
Momentum = Annotated[float, Field(ge=0, lt=1, description="momentum factor")]
Betas = Annotated[
    tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]],
    Field(description="decay rates of the first and second moment estimates"),
]
Epsilon = Annotated[
    float, Field(gt=0, description="added to the denominator for numerical stability")
]


class OptimizerSection(Section):
    """Settings of an optimizer.

    Attributes:
        moments: number of float32 values of state per parameter element, stored in checkpoints.
    """

    moments: ClassVar[int]

    def build(self, parameters: "list[Tensor]") -> "TorchOptimizer":
        """Build the optimizer so that CUDA graphs can capture its steps.

        Args:
            parameters: parameters on their device.
        """
        raise NotImplementedError

    def _arguments(self, parameters: "list[Tensor]") -> dict[str, Any]:
        """Return the settings as arguments of PyTorch's optimizers.

        On a GPU the learning rate is a tensor, so that a replayed step reads its current value.
        """
        import torch

        settings = self.model_dump(exclude={"name"})
        device = parameters[0].device
        if device.type == "cuda":
            settings["lr"] = torch.tensor(settings["lr"], device=device)
        return settings


class Adam(OptimizerSection):
    """Adam with L2 regularization. Source: Kingma and Ba, 2015."""

    moments = 2
    name: Literal["adam"] = "adam"
    lr: LearningRate = 0.001
    weight_decay: WeightDecay = 0.0
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8

    def build(self, parameters: "list[Tensor]") -> "TorchOptimizer":
        """See the base class."""
        from torch import optim

        on_gpu = parameters[0].is_cuda
        return optim.Adam(parameters, fused=True, capturable=on_gpu, **self._arguments(parameters))


class AdamW(OptimizerSection):
    """Adam with decoupled weight decay. Source: Loshchilov and Hutter, 2019."""

    moments = 2
    name: Literal["adamw"] = "adamw"
    lr: LearningRate = 0.001
    weight_decay: WeightDecay = 0.01
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8

    def build(self, parameters: "list[Tensor]") -> "TorchOptimizer":
        """See the base class."""
        from torch import optim

        on_gpu = parameters[0].is_cuda
        return optim.AdamW(parameters, fused=True, capturable=on_gpu, **self._arguments(parameters))


class Sgd(OptimizerSection):
    """SGD with momentum. Source: Sutskever et al., 2013."""

    moments = 1
    name: Literal["sgd"] = "sgd"
    lr: LearningRate = 0.05
    weight_decay: WeightDecay = 0.0
    momentum: Momentum = 0.9
    nesterov: bool = Field(True, description="use Nesterov momentum; requires momentum > 0")

    @model_validator(mode="after")
    def _check_nesterov(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "expected momentum > 0 with nesterov=true; set optimizer.nesterov=false"
            )
        return self

    def build(self, parameters: "list[Tensor]") -> "TorchOptimizer":
        """See the base class."""
        from torch import optim

        return optim.SGD(parameters, fused=True, **self._arguments(parameters))


class RmsProp(OptimizerSection):
    """RMSprop. Source: Tieleman and Hinton, 2012, lecture 6e."""

    moments = 2
    name: Literal["rmsprop"] = "rmsprop"
    lr: LearningRate = 0.001
    weight_decay: WeightDecay = 0.0
    alpha: float = Field(0.99, ge=0, lt=1, description="smoothing constant")
    momentum: Momentum = 0.0
    eps: Epsilon = 1e-8

    def build(self, parameters: "list[Tensor]") -> "TorchOptimizer":
        """See the base class."""
        from torch import optim

        on_gpu = parameters[0].is_cuda
        return optim.RMSprop(parameters, capturable=on_gpu, **self._arguments(parameters))


class Lion(OptimizerSection):
    """Lion with decoupled weight decay. Source: Chen et al., 2023.

    Each update has the magnitude of the learning rate. Usual learning rates are a third to a tenth
    of AdamW's, with 3 to 10 times its weight decay.
    """

    moments = 1
    name: Literal["lion"] = "lion"
    lr: LearningRate = 0.0001
    weight_decay: WeightDecay = 0.0
    betas: Betas = (0.9, 0.99)

    def build(self, parameters: "list[Tensor]") -> "TorchOptimizer":
        """See the base class."""
        return _lion()(parameters, self._arguments(parameters))


@cache
def _lion() -> "type[TorchOptimizer]":
    import torch
    from torch.optim import Optimizer as TorchOptimizer

    class LionOptimizer(TorchOptimizer):
        """Lion with foreach kernels and without synchronization."""

        @torch.no_grad()
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                parameters = [p for p in group["params"] if p.grad is not None]
                if parameters:
                    self._update(parameters, **group)

        def _update(
            self,
            parameters: "list[Tensor]",
            lr: "float | Tensor",
            weight_decay: float,
            betas: tuple[float, float],
            **_: Any,
        ) -> None:
            gradients = [p.grad for p in parameters if p.grad is not None]
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            momenta = [self.state[p]["momentum"] for p in parameters]
            updates = torch._foreach_lerp(momenta, gradients, 1 - betas[0])
            torch._foreach_sign_(updates)
            torch._foreach_mul_(updates, -lr)
            torch._foreach_mul_(parameters, 1 - lr * weight_decay)
            torch._foreach_add_(parameters, updates)
            torch._foreach_lerp_(momenta, gradients, 1 - betas[1])

    return LionOptimizer


Optimizer = Adam | AdamW | Sgd | RmsProp | Lion
