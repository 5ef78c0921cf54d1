"""BatchNorm over the batches of several processes."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cifar_exp.training.process_group import ProcessGroup


def convert_sync_batchnorm(module: nn.Module, processes: ProcessGroup) -> nn.Module:
    """Replace all BatchNorm layers of a network by layers that synchronize across processes.

    Parameters, buffers and their names stay the same, so checkpoints do not depend on the number
    of processes.

    Args:
        module: network, modified in place unless it is a BatchNorm layer itself.
        processes: processes that share each batch. A single process replaces nothing.

    Returns:
        The network with the replaced layers.
    """
    if processes.alone:
        return module
    if isinstance(module, _BatchNorm):
        return _SyncBatchNorm(module, processes)
    for name, child in module.named_children():
        setattr(module, name, convert_sync_batchnorm(child, processes))
    return module


class _SyncBatchNorm(_BatchNorm):
    """Synchronized BatchNorm for CPUs and GPUs; PyTorch's SyncBatchNorm requires GPUs."""

    def __init__(self, layer: _BatchNorm, processes: ProcessGroup) -> None:
        super().__init__(layer.num_features)
        self.__dict__.update(layer.__dict__)
        self._processes = processes

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions; the replaced layer decides."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalize each channel. Shape: `(N, C, ...)` to the same."""
        if not self.training and self.running_mean is not None:
            return super().forward(images)
        values = images.to(torch.promote_types(images.dtype, torch.float32))
        normalized, mean, variance, count = _Normalize.apply(values, self.eps, self._processes)
        if self.training and self.running_mean is not None:
            self._update_running_stats(mean, variance * count / (count - 1))
        shape = (1, -1, *(1,) * (images.dim() - 2))
        if self.affine:
            normalized = normalized * self.weight.view(shape) + self.bias.view(shape)
        return cast(Tensor, normalized.to(images.dtype))

    @torch.no_grad()
    def _update_running_stats(self, mean: Tensor, variance: Tensor) -> None:
        momentum = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:  # cumulative average
                momentum = 1 / float(self.num_batches_tracked)
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.lerp_(mean, cast(float, momentum))
        self.running_var.lerp_(variance, cast(float, momentum))


class _Normalize(torch.autograd.Function):
    """Normalizes to mean 0 and variance 1 over the batches of all processes.

    Returns the normalized values, and the mean, variance and number of values of each channel.

    Source: Ioffe and Szegedy, 2015; Chan et al., "Updating formulae and a pairwise algorithm for
    computing sample variances", 1979.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, epsilon: float, processes: ProcessGroup) -> Any:
        dims = [0, *range(2, values.dim())]
        local_count = values.numel() // values.shape[1]
        # the mean of an empty part is undefined, and its count of 0 excludes it
        local_mean = values.mean(dims) if local_count else values.new_zeros(values.shape[1])
        deviations = (values - _per_channel(local_mean, values)).square().sum(dims)
        parts = values.new_zeros(processes.size, 3, values.shape[1])
        parts[processes.rank] = torch.stack(
            [torch.full_like(local_mean, local_count), local_mean, deviations]
        )
        counts, means, squares = processes.all_reduce_sum(parts).unbind(1)
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count
        variance = (squares + counts * (means - mean).square()).sum(0) / count
        scale = (variance + epsilon).rsqrt()
        normalized = (values - _per_channel(mean, values)) * _per_channel(scale, values)
        ctx.save_for_backward(normalized, scale, count)
        ctx.processes = processes
        ctx.mark_non_differentiable(mean, variance, count)
        return normalized, mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        normalized, scale, count = ctx.saved_tensors
        dims = [0, *range(2, gradient.dim())]
        sums = torch.stack([gradient.sum(dims), (gradient * normalized).sum(dims)])
        mean, correlation = ctx.processes.all_reduce_sum(sums) / count
        input_gradient = gradient - _per_channel(mean, gradient)
        input_gradient = input_gradient - normalized * _per_channel(correlation, gradient)
        return input_gradient * _per_channel(scale, gradient), None, None


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (like.dim() - 2))
