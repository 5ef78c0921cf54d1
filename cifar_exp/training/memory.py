"""Peak memory of a run."""

import sys
from contextlib import suppress
from pathlib import Path

import torch


def reset_peak_memory(device: torch.device) -> None:
    """Start measuring anew, so that a run does not report the peak of one before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    # not Linux, or not allowed: the peak since the process started is what there is
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # see proc(5): resets VmHWM


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak since the reset: of PyTorch's GPU tensors, or of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
