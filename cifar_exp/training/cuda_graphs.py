"""Capture and replay of steps as CUDA graphs, which saves launching some 150 kernels per step.

Source: the PyTorch documentation on CUDA graphs; Nguyen et al., "Accelerating PyTorch with CUDA
Graphs", 2021.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

StepFn = Callable[[slice | Tensor], None]
# Runs a step function on the batch [start, start + size): (step, name, start, size).
StepRunner = Callable[[StepFn, str, int, int], None]

# Enough for lazy initialization and for the libraries to choose their kernels.
_WARM_UP_STEPS = 3


class CudaGraphs:
    """Replays the steps of one run.

    All graphs of a run share memory, since they never run at the same time.

    Args:
        tensors: returns all tensors that a step modifies.
        device: GPU of the run.
    """

    def __init__(self, tensors: Callable[[], Iterator[Tensor]], device: torch.device) -> None:
        self._tensors = tensors
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._captured: dict[tuple[str, int], _Captured] = {}

    def __call__(self, step: StepFn, name: str, start: int, size: int) -> None:
        """Replay a captured step for the batch [start, start + size).

        Args:
            step: unused; the captured step is replayed.
            name: name given to `capture`.
            start: first index of the batch. One kernel is saved where the previous call with this
                name and size ended at it.
            size: batch size given to `capture`.
        """
        captured = self._captured[name, size]
        if start != captured.next_start:
            torch.arange(start, start + size, out=captured.indices)
        captured.graph.replay()
        captured.next_start = start + size

    def capture(self, step: StepFn, name: str, size: int) -> None:
        """Capture a step for one batch size; all tensors keep their values.

        Args:
            step: step function that only uses tensors at fixed addresses.
            name: name for `__call__`.
            size: batch size, at least 1.
        """
        indices = torch.arange(size, device=self._device)
        self._warm_up(lambda: step(indices))
        graph = torch.cuda.CUDAGraph()
        with (
            warnings.catch_warnings(),
            torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=torch.cuda.current_stream(self._device),
                capture_error_mode="thread_local",  # other runs may be busy on their streams
            ),
        ):
            # of a step that fails before its first kernel
            warnings.filterwarnings("ignore", "The CUDA Graph is empty")
            step(indices)
            indices.add_(size)  # so that the next replay uses the next batch
        self._captured[name, size] = _Captured(graph, indices)

    def _warm_up(self, step: Callable[[], None]) -> None:
        """Run a step a few times and restore all tensors."""
        # saved on the host, so that the copies do not raise the peak of the GPU's memory
        saved = {tensor: tensor.detach().cpu() for tensor in self._tensors()}
        try:
            for _ in range(_WARM_UP_STEPS):
                step()
        finally:
            with torch.no_grad():
                for tensor in self._tensors():
                    # tensors created by the first step (moments, step counts) start as zeros
                    tensor.copy_(saved[tensor]) if tensor in saved else tensor.zero_()


@dataclass
class _Captured:
    """A graph and the tensor that it reads, which must live as long."""

    graph: torch.cuda.CUDAGraph
    indices: Tensor  # of the next batch
    next_start: int = 0  # first index of the next batch, on the host
