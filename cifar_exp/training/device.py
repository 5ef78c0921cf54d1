"""What a run computes on, and in which precision."""

from dataclasses import dataclass

import torch

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError

# Below this batch size bf16 is slower than fp32 on a CPU (measured on Zen 4: 6.1 against 3.2 ms
# a step at batch 1).
_SMALLEST_BF16_BATCH_ON_CPU = 16


@dataclass(frozen=True)
class Compute:
    """The device and precision a run took. `threads` counts the CPU's; 0 on a GPU."""

    device: torch.device
    precision: str
    threads: int

    def __str__(self) -> str:
        """Return for example "cpu, fp32, 2 threads"."""
        if self.device.type == "cuda":
            return f"cuda, {self.precision}"
        return f"cpu, {self.precision}, {self.threads} thread{'s' * (self.threads > 1)}"


def choose_compute(config: RunConfig) -> Compute:
    """Decide what `auto` means on this machine.

    Raises:
        UserError: `device=cuda` is asked for where PyTorch finds no GPU.
    """
    has_gpu = torch.cuda.is_available()
    if config.device == "cuda" and not has_gpu:
        raise UserError(
            "device=cuda: PyTorch finds no CUDA device here; "
            "use device=auto or device=cpu, or check `nvidia-smi` and the installed torch"
        )
    on_gpu = has_gpu and config.device != "cpu"
    precision = config.precision
    if precision == "auto":
        fast = _bf16_is_fast_on_gpu() if on_gpu else _bf16_is_fast_on_cpu(config.data.batch_size)
        precision = "bf16" if fast else "fp32"
    return Compute(
        device=torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu"),
        precision=precision,
        threads=0 if on_gpu else torch.get_num_threads(),
    )


def _bf16_is_fast_on_gpu() -> bool:
    return torch.cuda.get_device_capability() >= (8, 0)  # Ampere was the first with bf16 units


def _bf16_is_fast_on_cpu(batch_size: int) -> bool:
    has_units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return has_units and batch_size >= _SMALLEST_BF16_BATCH_ON_CPU
