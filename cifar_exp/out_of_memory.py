"""Detection of out-of-memory errors, and a memory reserve for handling them."""

import errno
import gc
import mmap
import sys
import traceback
from contextlib import suppress

from cifar_exp.errors import causes

# Parts of messages of PyTorch, oneDNN, cuBLAS, cuDNN, the thread library and the dynamic linker,
# which do not have a separate exception class.
_MESSAGES = (
    "DefaultCPUAllocator",
    "out of memory",
    "std::bad_alloc",
    "annot allocate memory",
    "can't start new thread",
    "failed to map segment from shared object",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # no memory for the handle
    "CUDNN_STATUS_ALLOC_FAILED",
    "could not create a memory",
    "could not create a primitive",
)
# For errors before the settings are read.
TOO_LITTLE_MEMORY = (
    "out of memory: the process cannot start. "
    "Provide more memory, or reduce the data or data.batch_size."
)
_RESERVE_BYTES = 64 * 2**20  # of address space; no physical memory is used until it is written
_reserve: mmap.mmap | None = None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error or one of its causes is an out-of-memory error."""
    return any(
        isinstance(cause, MemoryError)
        or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM)
        or (
            isinstance(cause, RuntimeError | ImportError | OSError)
            and any(message in str(cause) for message in _MESSAGES)
        )
        for cause in causes(error)
    )


def keep_reserve() -> None:
    """Reserve memory for `free_memory` to release, unless it is already reserved.

    Raises:
        OSError: memory is insufficient.
    """
    global _reserve
    if _reserve is None:
        _reserve = mmap.mmap(-1, _RESERVE_BYTES)


def free_memory(error: BaseException) -> None:
    """Release the reserve and the local variables that an error keeps alive.

    Call this before formatting a message, which may need more memory than is free. The traceback
    remains readable.

    Args:
        error: the local variables of its frames, and of its causes' frames, are cleared.
    """
    global _reserve
    if _reserve is not None:
        _reserve.close()
        _reserve = None
    for cause in causes(error):
        traceback.clear_frames(cause.__traceback__)
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        with suppress(RuntimeError):  # the device has failed
            torch.cuda.empty_cache()
