"""PyTorch's layers, with ways around what is slow on a CPU; the numbers differ by rounding only."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

# The sums of fewer float32 channels are shorter than a cache line.
_NARROW_CHANNELS = 16
# Where the product wins, measured at batch 64 on Emerald Rapids; it is level at half of each.
_WIDE_CHANNELS = 256
_SMALL_IMAGE_PIXELS = 16


class Convolution(nn.Conv2d):
    """A convolution with a kernel of 3x3 pixels and padding 1.

    Args:
        in_channels: of its input.
        out_channels: of its output.
        stride: pixels from one place of the kernel to the next.
        bias: whether a number is added to each channel.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, 3, stride, padding=1, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images convolved.

        Shape:
            `(N, C, H, W)`, channels-last, to `(N, D, H / stride, W / stride)`, rounded up.
        """
        if self._is_slow_for(images):
            return cast(Tensor, _ConvolutionAsProduct.apply(images, self.weight, self.bias))
        return super().forward(images)

    def _is_slow_for(self, images: Tensor) -> bool:
        return (
            self.training
            and images.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and self.in_channels >= _WIDE_CHANNELS
            and self.stride == (1, 1)
            and images.shape[2] * images.shape[3] <= _SMALL_IMAGE_PIXELS
        )


class _ConvolutionAsProduct(torch.autograd.Function):
    """The convolution as one matrix product: a row for each pixel, made of its neighbourhood.

    For wide layers on tiny channels-last images PyTorch's own reaches a quarter of the speed of
    such a product in float32, 41 ms forward and backward for 512 channels of 2x2 pixels against 14.

    Source: Chellapilla et al., "High Performance Convolutional Neural Networks for Document
    Processing", 2006.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
        count, channels, height, width = images.shape
        padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        windows = padded.unfold(1, 3, 1).unfold(2, 3, 1).movedim(3, 5)  # (N, H, W, 3, 3, C)
        rows = windows.reshape(count * height * width, 9 * channels)
        matrix = weight.permute(0, 2, 3, 1).reshape(len(weight), 9 * channels)
        ctx.save_for_backward(rows, matrix)
        ctx.shape = images.shape
        result = rows @ matrix.T if bias is None else torch.addmm(bias, rows, matrix.T)
        return result.view(count, height, width, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        rows, matrix = ctx.saved_tensors
        count, channels, height, width = ctx.shape
        of_result = gradient.permute(0, 2, 3, 1).reshape(len(rows), len(matrix))
        of_weight = (of_result.T @ rows).view(len(matrix), 3, 3, channels).permute(0, 3, 1, 2)
        of_windows = (of_result @ matrix).view(count, height, width, 3, 3, channels)
        of_padded = gradient.new_zeros(count, height + 2, width + 2, channels)
        for row in range(3):
            for column in range(3):
                part = of_padded[:, row : row + height, column : column + width]
                part += of_windows[:, :, :, row, column]
        of_images = of_padded[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
        return of_images, of_weight, of_result.sum(0) if ctx.needs_input_grad[2] else None


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm as PyTorch has it, with two changes for speed.

    It does not count its batches: the momentum is fixed, so nothing reads the count, and on a GPU
    counting is one more kernel for every layer. And it goes round a slow case on the CPU.

    Args:
        channels: of its input and output.

    Source: Ioffe and Szegedy, 2015.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.num_batches_tracked = None

    def forward(self, images: Tensor) -> Tensor:
        """Normalise each channel. Shape: `(N, C, H, W)`, channels-last, to the same."""
        if images.device.type != "cpu" or not self._threads_share_a_cache_line():
            return super().forward(images)
        # two threads take longer than one then, forward and backward of 8 channels at batch 64 6.0
        # ms against 1.7; PyTorch's other kernel takes 2.0 with all copies
        usual, last = torch.contiguous_format, torch.channels_last
        normalised = super().forward(_Relaid.apply(images, last, usual))
        return cast(Tensor, _Relaid.apply(normalised, usual, last))

    def _threads_share_a_cache_line(self) -> bool:
        return self.num_features < _NARROW_CHANNELS and torch.get_num_threads() > 1


class _Relaid(torch.autograd.Function):
    """Copies images to another memory format, and their gradient back to the old one."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, old: torch.memory_format, new: torch.memory_format
    ) -> Any:
        ctx.old = old
        return images.contiguous(memory_format=new)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.contiguous(memory_format=ctx.old), None, None
