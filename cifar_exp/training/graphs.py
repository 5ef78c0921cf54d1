"""CUDA graphs: a step is recorded once and then started as one, not as 150 kernels.

Source: the PyTorch documentation on CUDA graphs; Nguyen et al., "Accelerating PyTorch with CUDA
Graphs", 2021.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Work = Callable[[slice | Tensor], None]
# Does the work, which has a name, for the places from a start, so many.
Launch = Callable[[Work, str, int, int], None]

# Lazily made state and the libraries' choice of kernels settle within so many steps.
_WARM_UP_STEPS = 3


class Graphs:
    """Replays steps of one run. All graphs of a run share memory, since they never overlap.

    Args:
        tensors: returns everything that a step changes.
        device: of the run.
    """

    def __init__(self, tensors: Callable[[], Iterator[Tensor]], device: torch.device) -> None:
        self._tensors = tensors
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[tuple[str, int], torch.cuda.CUDAGraph] = {}
        # counts on the device, so that a replay finds the next batch without being told
        self._position = torch.zeros((), dtype=torch.int64, device=device)
        self._next = 0  # the same number, known here

    def __call__(self, work: Work, name: str, start: int, size: int) -> None:
        """Replay the captured `work` for the places `start` to `start + size`.

        Args:
            work: what `capture` was given.
            name: likewise.
            start: mostly where the last call ended, which then need not be told.
            size: of the batch; each size has been captured.
        """
        if start != self._next:
            self._position.fill_(start)
        self._graphs[name, size].replay()
        self._next = start + size

    def capture(self, work: Work, name: str, size: int) -> None:
        """Record `work` for batches of one size; nothing has changed afterwards.

        Args:
            work: reads and changes only tensors that keep their addresses.
            name: of the work.
            size: of the batch.
        """
        offsets = torch.arange(size, device=self._device)
        self._position.zero_()
        self._warm_up(lambda: work(self._position + offsets))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph,
            pool=self._pool,
            stream=torch.cuda.current_stream(self._device),
            capture_error_mode="thread_local",  # other runs may be busy on their streams
        ):
            work(self._position + offsets)
            self._position.add_(size)
        self._graphs[name, size] = graph

    def _warm_up(self, work: Callable[[], None]) -> None:
        """Do the work a few times, and undo it: a captured run takes no step more than another."""
        before = {tensor: tensor.detach().clone() for tensor in self._tensors()}
        for _ in range(_WARM_UP_STEPS):
            work()
        with torch.no_grad():
            for tensor in self._tensors():
                # what the first step has made began as zeros: moments and step counts
                tensor.copy_(before[tensor]) if tensor in before else tensor.zero_()
