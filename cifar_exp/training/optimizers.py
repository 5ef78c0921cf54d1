"""The optimizers of the `optimizer` group."""

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, Optimizer, RMSprop
from torch.optim import Adam as TorchAdam
from torch.optim import AdamW as TorchAdamW

from cifar_exp.config.schema import Adam, AdamW, RmsProp, Sgd
from cifar_exp.config.schema import Optimizer as OptimizerConfig


def build_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Build an optimizer. The fused forms update all weights in one kernel where there is one."""
    settings = config.model_dump(exclude={"name"})
    match config:
        case Adam():
            return TorchAdam(parameters, fused=True, **settings)
        case AdamW():
            return TorchAdamW(parameters, fused=True, **settings)
        case Sgd():
            return SGD(parameters, fused=True, **settings)
        case RmsProp():
            return RMSprop(parameters, **settings)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
