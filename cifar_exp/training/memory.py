"""The peak memory of a run."""

import sys
from contextlib import suppress
from pathlib import Path

import torch


class PeakMemory:
    """Measures from its making on.

    Args:
        device: of the run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._settled: int | None = None
        if device.type == "cuda":
            # other runs on this GPU only replay by now, and take nothing more
            self._taken_by_others = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            return
        # not Linux, or not allowed: the peak since the process started is what there is
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # see proc(5): resets VmHWM

    def settle(self) -> None:
        """Keep what was measured so far: the run takes no more, and others may begin."""
        self._settled = self.bytes()

    def bytes(self) -> int:
        """Return the peak: of a run's own GPU tensors, or of the whole process."""
        if self._settled is not None:
            return self._settled
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._taken_by_others
        return _peak_of_process()


def _peak_of_process() -> int:
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
