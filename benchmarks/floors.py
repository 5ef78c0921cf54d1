"""Lower bounds of the time of a step, from its arithmetic and its memory traffic."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from bench import Bench
from measure import seconds_of

# VGG16: channels of each convolution and the pixels of its output, for images of 32x32.
_LAYERS = (
    *[(64, 32 * 32)] * 2,
    *[(128, 16 * 16)] * 2,
    *[(256, 8 * 8)] * 3,
    *[(512, 4 * 4)] * 3,
    *[(512, 2 * 2)] * 3,
)
_CLASSES = 10
_IMAGE_VALUES = 32 * 32 * 3
_COPIED_BYTES = 256_000_000

HOW_COUNTED = (
    "Counts. Arithmetic: 2 FLOP for each multiplication of a convolution or of the linear layer. "
    "Backward counts twice as much, minus the gradient of the images. Memory: 1 B read and 4 B "
    "written for each value of an image. Each convolution output is 6 values forward (written by "
    "the convolution, read and written by BatchNorm and by ReLU, read by the next convolution) and "
    "8 backward (BatchNorm and ReLU read an input and a gradient and write a gradient, the "
    "convolution reads both), of 2 B in bf16 and 4 B in fp32. Each parameter is 4 B forward, 8 B "
    "backward and 28 B in Adam (reads weight, gradient and two moments, writes all but the "
    "gradient). Metrics read the logits. The floor is the larger of the two times."
)


@dataclass(frozen=True)
class Counts:
    """FLOP and values per image of VGG16, and its number of parameters."""

    forward_flop: float
    first_layer_flop: float
    convolution_outputs: int
    parameters: int

    @property
    def backward_flop(self) -> float:
        """FLOP of the gradients of all weights and all inputs except the images."""
        return 2 * self.forward_flop - self.first_layer_flop

    @property
    def training_flop(self) -> float:
        """FLOP of forward and backward."""
        return self.forward_flop + self.backward_flop


def counts(width: float) -> Counts:
    """Count VGG16 with channels scaled by `width`."""
    flop, outputs, parameters, inputs = 0.0, 0, 0, 3
    for planned, pixels in _LAYERS:
        channels = round(planned * width)
        flop += 2 * 9 * inputs * channels * pixels
        outputs += channels * pixels
        parameters += (9 * inputs + 1 + 2) * channels  # bias, and two of BatchNorm
        inputs = channels
    flop += 2 * inputs * _CLASSES
    parameters += (inputs + 1) * _CLASSES
    first = 2 * 9 * 3 * round(_LAYERS[0][0] * width) * _LAYERS[0][1]
    return Counts(flop, first, outputs, parameters)


@dataclass(frozen=True)
class Rates:
    """Speed of the device in a large matrix product and a large copy."""

    flop_per_second: float
    bytes_per_second: float

    def floor_seconds(self, work: "Work") -> float:
        """Return the lower bound of the time."""
        return max(work.flop / self.flop_per_second, work.moved_bytes / self.bytes_per_second)


@dataclass(frozen=True)
class Work:
    """FLOP and memory traffic of a part of a step."""

    flop: float
    moved_bytes: float


def measured_rates(bench: Bench, precision: str) -> Rates:
    """Measure a matrix product (4096x4096, on a CPU 2048x2048) and a copy of 256 MB."""
    device, repetitions = bench.device, bench.times(9)
    side = bench.times(4096 if device.type == "cuda" else 2048, 128)
    copied_bytes = bench.times(_COPIED_BYTES, 100_000)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    source = torch.ones(copied_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = _median_seconds(lambda: left @ right, device, repetitions)
    copy = _median_seconds(lambda: target.copy_(source), device, repetitions)
    return Rates(2 * side**3 / product, 2 * copied_bytes / copy)  # read and written


def _median_seconds(action: Callable[[], object], device: torch.device, repetitions: int) -> float:
    at_once = 20 if device.type == "cuda" else 1  # hides the time of launching a kernel

    def several() -> None:
        for _ in range(at_once):
            action()

    several()
    return median(seconds_of(several, device) / at_once for _ in range(repetitions))


def work_of_parts(
    width: float, batch_size: int, test_batch_size: int, bf16: bool
) -> dict[str, Work]:
    """Return the work of each part of a step by its name; see HOW_COUNTED."""
    network, value_bytes = counts(width), 2 if bf16 else 4
    outputs = network.convolution_outputs * value_bytes
    image_bytes = 5 * _IMAGE_VALUES
    test_bytes = test_batch_size * (image_bytes + 6 * outputs) + 4 * network.parameters
    return {
        "input": Work(0, batch_size * image_bytes),
        "forward": Work(
            batch_size * network.forward_flop, batch_size * 6 * outputs + 4 * network.parameters
        ),
        "backward": Work(
            batch_size * network.backward_flop, batch_size * 8 * outputs + 8 * network.parameters
        ),
        "optimizer": Work(0, 28 * network.parameters),
        "metrics": Work(0, batch_size * _CLASSES * 4),
        "evaluation": Work(test_batch_size * network.forward_flop, test_bytes),
    }
