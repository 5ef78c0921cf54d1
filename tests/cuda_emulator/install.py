"""Installation of the emulated GPU in PyTorch."""

import contextlib
import ctypes
import mmap
import platform
import types
from pathlib import Path
from typing import Any

import torch
import torch.cuda

from tests.cuda_emulator import state
from tests.cuda_emulator.graphs import CUDAGraph, graph_pool_handle
from tests.cuda_emulator.state import GPU
from tests.cuda_emulator.tensor import CudaTensor, Mode

_MODE = Mode()
# at::accelerator::getAccelerator(bool) and isAccelerator(c10::DeviceType)
_REPLACED = (
    "_ZN2at11accelerator14getAcceleratorEb",
    "_ZN2at11accelerator13isAcceleratorEN3c1010DeviceTypeE",
)


class NotSupported(Exception):
    """A GPU cannot be emulated on this system or with this version of PyTorch."""


def _without_accelerator() -> None:
    """Prevent autograd from asking the driver for CUDA streams.

    PyTorch's C++ code in a CUDA build always treats CUDA as an accelerator. The first instructions
    of two functions are therefore replaced by "return 0" (none and false).
    """
    code = {
        "x86_64": bytes.fromhex("31c0c3"),  # xor eax, eax; ret
        "aarch64": bytes.fromhex("e0031f2ac0035fd6"),  # mov w0, wzr; ret
    }.get(platform.machine())
    if code is None:
        raise NotSupported(f"unsupported processor {platform.machine()}")
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        functions = [getattr(library, name) for name in _REPLACED]
    except (OSError, AttributeError) as error:
        raise NotSupported(f"unsupported PyTorch {torch.__version__}: {error}") from error
    for function in functions:
        address = ctypes.cast(function, ctypes.c_void_p).value
        page = address & -mmap.PAGESIZE
        access = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), 2 * mmap.PAGESIZE, access):
            raise OSError("mprotect")
        ctypes.memmove(address, code, len(code))


def install(total_bytes: int = 80 * 10**9) -> state.Gpu:
    """Emulate one GPU in this process.

    Args:
        total_bytes: memory of the GPU in bytes.

    Returns:
        The state of the GPU.

    Raises:
        NotSupported: the processor or the installed PyTorch is not supported. Nothing has changed.
    """
    GPU.total_bytes = GPU.limit_bytes = total_bytes
    import torch._dynamo  # must be imported before the functions below are replaced

    _without_accelerator()
    torch._C._ensureCUDADeviceGuardSet()  # gives the autograd engine a thread for the device
    torch._C._set_only_lift_cpu_tensors(True)  # makes torch.tensor(..., device) dispatch
    cuda = torch.cuda
    properties = types.SimpleNamespace(
        name="Emulated H100", major=9, minor=0, total_memory=total_bytes, multi_processor_count=132
    )
    replacements = {
        "_lazy_init": lambda: None,
        "init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _: None,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: properties.name,
        "get_device_properties": lambda *_: properties,
        "is_bf16_supported": lambda *_, **__: True,
        "is_current_stream_capturing": lambda: GPU.capture is not None,
        "manual_seed": lambda _: None,
        "manual_seed_all": lambda _: None,
        "synchronize": state.synchronize,
        "current_stream": state.current_stream,
        "default_stream": state.default_stream,
        "Stream": state.Stream,
        "Event": state.Event,
        "stream": state.stream,
        "StreamContext": state.stream,
        "set_stream": _set_stream,
        "_sleep": lambda _: None,
        "CUDAGraph": CUDAGraph,
        "graph_pool_handle": graph_pool_handle,
        "set_sync_debug_mode": _set_sync_mode,
        "get_sync_debug_mode": lambda: GPU.sync_mode,
        "empty_cache": _empty_cache,
        "ipc_collect": lambda: None,
        "memory_allocated": lambda *_: GPU.allocated,
        "max_memory_allocated": lambda *_: GPU.peak,
        "memory_reserved": lambda *_: GPU.reserved,
        "max_memory_reserved": lambda *_: GPU.reserved,
        "reset_peak_memory_stats": _reset_peak,
        "mem_get_info": lambda *_: (GPU.limit_bytes - GPU.reserved, GPU.total_bytes),
        "set_per_process_memory_fraction": _set_fraction,
    }
    for name, value in replacements.items():
        setattr(cuda, name, value)
    for module in (cuda.graphs, cuda.memory, cuda.streams):
        for name, value in replacements.items():
            if hasattr(module, name):
                setattr(module, name, value)
    torch._C._host_emptyCache = lambda: None
    accelerator = torch.accelerator
    accelerator.is_available = lambda: True
    accelerator.current_accelerator = lambda check_available=False: torch.device("cuda")
    accelerator.current_stream = state.current_stream
    accelerator.synchronize = state.synchronize
    original = torch._has_compatible_shallow_copy_type
    # makes module.to(device) create new parameters
    torch._has_compatible_shallow_copy_type = lambda a, b: (
        not isinstance(a, CudaTensor) and not isinstance(b, CudaTensor) and original(a, b)
    )
    from torch.optim import optimizer

    optimizer._foreach_supported_types.append(CudaTensor)
    _MODE.__enter__()
    import atexit

    atexit.register(lambda: setattr(GPU, "shutting_down", True))
    return GPU


def _set_stream(stream: Any) -> None:
    state.current_stream()
    state._CURRENT[-1] = stream


def _set_sync_mode(mode: Any) -> None:
    GPU.sync_mode = {0: "default", 1: "warn", 2: "error"}.get(mode, mode)


def _empty_cache() -> None:
    if GPU.capture is not None:
        raise state.SyncInCapture("empty_cache during capture")
    GPU.reserved = GPU.allocated


def _reset_peak(*_: Any) -> None:
    GPU.peak = GPU.allocated


def _set_fraction(fraction: float, *_: Any) -> None:
    GPU.limit_bytes = int(fraction * GPU.total_bytes)


@contextlib.contextmanager
def watched():
    """Yield the findings of a block only."""
    earlier, GPU.findings = GPU.findings, []
    try:
        yield GPU.findings
    finally:
        GPU.findings = earlier + GPU.findings
