"""BatchNorm over the whole batch where several processes have a part of it each."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cifar_exp.training.process_group import ProcessGroup


def synchronised(module: nn.Module, processes: ProcessGroup) -> nn.Module:
    """Replace each BatchNorm in a network, at any depth, by one over the whole batch.

    Weights, buffers and their names stay, so checkpoints do not depend on the number of processes.

    Args:
        module: the network; changed in place, unless it is a BatchNorm itself.
        processes: that have a part of each batch; of one alone nothing is replaced.
    """
    if processes.alone:
        return module
    if isinstance(module, _BatchNorm):
        return _SynchronisedBatchNorm(module, processes)
    for name, child in module.named_children():
        setattr(module, name, synchronised(child, processes))
    return module


class _SynchronisedBatchNorm(_BatchNorm):
    """PyTorch's SyncBatchNorm computes the same, on GPUs only."""

    def __init__(self, before: _BatchNorm, processes: ProcessGroup) -> None:
        super().__init__(before.num_features)
        self.__dict__.update(before.__dict__)
        self._processes = processes

    def _check_input_dim(self, input: Tensor) -> None:
        """Take what the layer before has taken."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalise each channel. Shape: `(N, C, ...)` to the same."""
        if not self.training and self.running_mean is not None:
            return super().forward(images)
        values = images.to(torch.promote_types(images.dtype, torch.float32))
        normalised, mean, variance, count = _Normalise.apply(values, self.eps, self._processes)
        if self.training and self.running_mean is not None:
            self._remember(mean, variance * count / (count - 1))
        shape = (1, -1, *(1,) * (images.dim() - 2))
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return cast(Tensor, normalised.to(images.dtype))

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        share = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if share is None:  # the mean of all batches so far
                share = 1 / float(self.num_batches_tracked)
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.lerp_(mean, cast(float, share))
        self.running_var.lerp_(variance, cast(float, share))


class _Normalise(torch.autograd.Function):
    """To mean 0 and variance 1 over the batch of all processes, with its gradient.

    Returns the values, the mean, the variance and the count of a channel's values.

    Source: Ioffe and Szegedy, 2015; Chan et al., "Updating formulae and a pairwise algorithm for
    computing sample variances", 1979.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, epsilon: float, processes: ProcessGroup) -> Any:
        dims = [0, *range(2, values.dim())]
        own_count = values.numel() // values.shape[1]
        # an empty part has no mean; its count of 0 leaves it out
        own_mean = values.mean(dims) if own_count else values.new_zeros(values.shape[1])
        deviations = (values - _as_channels(own_mean, values)).square().sum(dims)
        parts = values.new_zeros(processes.size, 3, values.shape[1])
        parts[processes.rank] = torch.stack(
            [torch.full_like(own_mean, own_count), own_mean, deviations]
        )
        counts, means, squares = processes.all_reduce_sum(parts).unbind(1)
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count
        variance = (squares + counts * (means - mean).square()).sum(0) / count
        scale = (variance + epsilon).rsqrt()
        normalised = (values - _as_channels(mean, values)) * _as_channels(scale, values)
        ctx.save_for_backward(normalised, scale, count)
        ctx.processes = processes
        ctx.mark_non_differentiable(mean, variance, count)
        return normalised, mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        normalised, scale, count = ctx.saved_tensors
        dims = [0, *range(2, gradient.dim())]
        sums = torch.stack([gradient.sum(dims), (gradient * normalised).sum(dims)])
        mean, correlation = ctx.processes.all_reduce_sum(sums) / count
        of_values = gradient - _as_channels(mean, gradient)
        of_values = of_values - normalised * _as_channels(correlation, gradient)
        return of_values * _as_channels(scale, gradient), None, None


def _as_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (like.dim() - 2))
