"""Emulated CUDA graphs: captured operations run at each replay, on the same memory."""

import contextlib
import itertools
import warnings
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from tests.cuda_emulator.state import GPU, Pool, UseAfterFree, current_stream
from tests.cuda_emulator.tensor import CudaTensor, _tensors, compute

_numbers = itertools.count(1)
_POOLS: dict[Any, Pool] = {}
_LIVE: "weakref.WeakSet[CUDAGraph]" = weakref.WeakSet()
_GEMMS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}
# values that reveal a read of uninitialized memory
_INVALID = {
    torch.float32: float("nan"),
    torch.float64: float("nan"),
    torch.bfloat16: float("nan"),
    torch.float16: float("nan"),
    torch.int64: 2**40,
    torch.int32: 2**30,
    torch.uint8: 255,
}


def graph_pool_handle() -> tuple[int, int]:
    return (0, next(_numbers))


class CUDAGraph:
    """Emulates torch.cuda.CUDAGraph."""

    def __init__(self, keep_graph: bool = False) -> None:
        self._steps: list[tuple] = []
        self._memory: dict[int, torch.Tensor] = {}  # allocated during capture
        self._kept: dict[int, tuple[Any, torch.Tensor]] = {}  # contents before capture
        self._reads: list[weakref.ref] = []
        self._writes: list[weakref.ref] = []
        self._ready = False

    # capture

    def capture_begin(
        self,
        pool: Any = None,
        capture_error_mode: str = "global",
        check_input_liveness: bool = False,
    ) -> None:
        stream = current_stream()
        if stream.number == 0:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream.")
        if GPU.capture is not None:
            raise RuntimeError("a capture is already in progress")
        if capture_error_mode not in ("global", "thread_local", "relaxed"):
            raise ValueError(capture_error_mode)
        handle = pool if pool is not None else graph_pool_handle()
        self._pool = _POOLS.setdefault(handle, Pool(len(_POOLS)))
        self._stream = stream.number
        _LIVE.add(self)
        GPU.capture = self

    def keep(self, tensor: CudaTensor) -> None:
        """Save the contents of a tensor before it is modified, unless this capture allocated it."""
        storage = tensor.inner.untyped_storage()
        if storage._cdata not in self._memory and storage._cdata not in self._kept:
            self._kept[storage._cdata] = (storage, storage.clone())

    def add_memory(self, fresh: list[torch.Tensor]) -> None:
        for tensor in fresh:
            self._memory.setdefault(tensor.untyped_storage()._cdata, tensor)

    def record(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        out: Any,
        fresh: list[torch.Tensor],
        reads: set,
        writes: set,
    ) -> None:
        self.add_memory(fresh)
        self._steps.append((func, args, kwargs, list(_tensors(out)), fresh))
        outside = [x for x in reads | writes if not self._is_captured(x)]
        self._reads += [(weakref.ref(x), x.made_at, x.nbytes, GPU.where()) for x in outside]
        self._writes += [
            (weakref.ref(x), x.made_at, x.nbytes, GPU.where()) for x in outside if x in writes
        ]

    def _is_captured(self, block: Any) -> bool:
        return any(GPU.by_storage.get(key) is block for key in self._memory)

    def capture_end(self) -> None:
        GPU.capture = None
        if not self._steps:
            warnings.warn("The CUDA Graph is empty.", stacklevel=2)
        for storage, before in self._kept.values():
            storage.copy_(before)
        self._kept = {}
        self._invalidate()
        self._ready = True

    def _invalidate(self) -> None:
        with _disable_current_modes(), torch.no_grad():
            for tensor in self._memory.values():
                flat = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
                flat.fill_(_INVALID.get(tensor.dtype, 1))

    # replay

    def replay(self) -> None:
        if not self._ready:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        if GPU.capture is not None:
            raise RuntimeError("replay during capture")
        blocks = {}
        for refs, name in ((self._reads, "reads"), (self._writes, "writes")):
            alive = set()
            for ref, made_at, nbytes, where in refs:
                block = ref()
                if block is None:
                    raise UseAfterFree(
                        f"a replayed graph {name} {nbytes} bytes that were freed after capture; "
                        f"captured at {where} {made_at}"
                    )
                alive.add(block)
            blocks[name] = alive
        stream = current_stream()
        GPU.enqueue(stream, blocks["reads"] - blocks["writes"], blocks["writes"], "graph replay")
        if self._pool.last is not None:
            other = self._pool.last()
            if other is not None and other is not self:
                other._invalidate()  # both graphs use the same memory
        self._pool.last = weakref.ref(self)
        GPU.ops["graph replay"] += 1
        with _disable_current_modes(), torch.no_grad():
            for func, args, kwargs, out, fresh in self._steps:
                result = _tensors(compute(func, args, kwargs))
                if fresh:
                    for old, new in zip(out, result, strict=True):
                        if old is not new and old.data_ptr() != new.data_ptr():
                            old.copy_(new)

    def reset(self) -> None:
        self._release()
        self.__init__()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._release()

    def _release(self) -> None:
        """Emulate that PyTorch frees cuBLAS workspaces in use; see its issue 193402."""
        if not self._ready or GPU.shutting_down:
            return
        self._ready = False
        for other in list(_LIVE):
            affected = (
                other._ready and other._stream == self._stream and other._pool is not self._pool
            )
            if affected and any(step[0]._schema.name in _GEMMS for step in other._steps):
                GPU.find(
                    "workspace",
                    f"a graph captured on stream {self._stream} is freed with cuBLAS's workspace, "
                    "which another graph captured on that stream still uses",
                )
                return

    def pool(self) -> Any:
        return self._pool.number
