"""Peak memory of a run."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch


class PeakMemory:
    """Measures the peak memory of one run, excluding other runs that take turns with it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._on_gpu = device.type == "cuda"
        self._settled = False
        self._peak = 0  # bytes in all turns so far
        self._held = 0  # bytes that this run held at the end of its last turn
        self._others = 0  # bytes that other runs hold during this turn
        if not self._on_gpu:
            # not Linux, or not permitted: measure the peak since the process started
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # see proc(5): resets VmHWM

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Count GPU memory allocated in the block as memory of this run."""
        if not self._on_gpu or self._settled:
            yield
            return
        self._others = torch.cuda.memory_allocated(self._device) - self._held
        torch.cuda.reset_peak_memory_stats(self._device)
        try:
            yield
        finally:
            if not self._settled:
                self._peak = self.bytes()
                self._held = torch.cuda.memory_allocated(self._device) - self._others

    def settle(self) -> None:
        """Keep the current peak; the run allocates no more memory."""
        self._peak = self.bytes()
        self._settled = True

    def bytes(self) -> int:
        """Return the peak in bytes: of the run's GPU tensors, or of the process on a CPU."""
        if not self._on_gpu:
            return _peak_of_process()
        if self._settled:
            return self._peak
        return max(self._peak, torch.cuda.max_memory_allocated(self._device) - self._others)


def _peak_of_process() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
