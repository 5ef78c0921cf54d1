"""Out of memory: recognise it, and keep enough in reserve to handle it."""

import errno
import gc
import mmap
import sys
import traceback
from contextlib import suppress

from cifar_exp.errors import causes

# In messages of PyTorch, oneDNN, cuBLAS, cuDNN, the thread library and the dynamic linker, whose
# errors have no class of their own.
_MESSAGES = (
    "DefaultCPUAllocator",
    "out of memory",
    "std::bad_alloc",
    "annot allocate memory",
    "can't start new thread",
    "failed to map segment from shared object",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # no memory was left for its handle
    "CUDNN_STATUS_ALLOC_FAILED",
    "could not create a memory",
    "could not create a primitive",
)
# For errors before the settings of a run are known.
TOO_LITTLE_MEMORY = (
    "out of memory: the process has too little to begin. "
    "Give it more memory, or choose less data or a smaller data.batch_size."
)
_RESERVE_BYTES = 64 * 2**20  # of addresses; physical memory is not used until it is written
_reserve: mmap.mmap | None = None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, says that memory is used up."""
    return any(
        isinstance(cause, MemoryError)
        or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM)
        or (
            isinstance(cause, RuntimeError | ImportError | OSError)
            and any(words in str(cause) for words in _MESSAGES)
        )
        for cause in causes(error)
    )


def keep_reserve() -> None:
    """Reserve memory that `free_memory` releases; does nothing while there is a reserve.

    Raises:
        OSError: there is too little memory.
    """
    global _reserve
    if _reserve is None:
        _reserve = mmap.mmap(-1, _RESERVE_BYTES)


def free_memory(error: BaseException) -> None:
    """Free what an error keeps alive, so that it can be handled; its traceback stays readable.

    Call it first when an error is handled: formatting a message may need more than is left.

    Args:
        error: whose frames, and those of its causes, lose their local variables.
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
        with suppress(RuntimeError):  # of a device that no longer works
            torch.cuda.empty_cache()
