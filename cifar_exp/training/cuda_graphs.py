"""CUDA graphs: a step is recorded once and then started as one, not as 150 kernels.

Source: the PyTorch documentation on CUDA graphs; Nguyen et al., "Accelerating PyTorch with CUDA
Graphs", 2021.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Work = Callable[[slice | Tensor], None]
# Does the work, which has a name, for the places from a start, so many.
Launch = Callable[[Work, str, int, int], None]

# Lazily made state and the libraries' choice of kernels settle within so many steps.
_WARM_UP_STEPS = 3


class CudaGraphs:
    """Replays steps of one run. All graphs of a run share memory, since they never overlap.

    Args:
        tensors: returns everything that a step changes.
        device: of the run.
    """

    def __init__(self, tensors: Callable[[], Iterator[Tensor]], device: torch.device) -> None:
        self._tensors = tensors
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._captured: dict[tuple[str, int], _Captured] = {}

    def __call__(self, work: Work, name: str, start: int, size: int) -> None:
        """Replay the captured `work` for the places `start` to `start + size`.

        Args:
            work: what `capture` was given.
            name: what `capture` was given.
            start: mostly where the last call for this size ended; otherwise costs a kernel.
            size: of the batch; each size has been captured.
        """
        captured = self._captured[name, size]
        if start != captured.next_start:
            torch.arange(start, start + size, out=captured.indices)
        captured.graph.replay()
        captured.next_start = start + size

    def capture(self, work: Work, name: str, size: int) -> None:
        """Record `work` for batches of one size; nothing has changed afterwards.

        Args:
            work: reads and changes only tensors that keep their addresses.
            name: of the work.
            size: of the batch.
        """
        indices = torch.arange(size, device=self._device)
        self._warm_up(lambda: work(indices))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph,
            pool=self._pool,
            stream=torch.cuda.current_stream(self._device),
            capture_error_mode="thread_local",  # other runs may be busy on their streams
        ):
            work(indices)
            indices.add_(size)  # so that a replay finds the next batch on the device
        self._captured[name, size] = _Captured(graph, indices)

    def _warm_up(self, work: Callable[[], None]) -> None:
        """Do the work a few times, and undo it: a captured run takes no step more than another."""
        # on the host, so that these copies do not raise the peak of the device's memory
        before = {tensor: tensor.detach().cpu() for tensor in self._tensors()}
        try:
            for _ in range(_WARM_UP_STEPS):
                work()
        finally:
            with torch.no_grad():
                for tensor in self._tensors():
                    # what the first step has made began as zeros: moments and step counts
                    tensor.copy_(before[tensor]) if tensor in before else tensor.zero_()


@dataclass
class _Captured:
    """A graph with what it reads that was made outside of it, and must live as long."""

    graph: torch.cuda.CUDAGraph
    indices: Tensor  # of the next batch
    next_start: int = 0  # the first of them, known on the host
