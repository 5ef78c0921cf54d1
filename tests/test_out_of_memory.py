"""Detection of out-of-memory errors."""

import pytest

from cifar_exp.out_of_memory import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),  # ENOMEM
        RuntimeError("CUDA out of memory. TrialCurve to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate"),
        RuntimeError("could not create a primitive"),  # oneDNN
    ],
    ids=repr,
)
def test_failed_allocations_are_out_of_memory_errors(error: Exception) -> None:
    assert is_out_of_memory(error)
    reported = ValueError("the run failed")
    reported.__cause__ = error
    assert is_out_of_memory(reported)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
        OSError(28, "No space left on device"),
        ValueError("out of memory"),  # not an error of PyTorch
    ],
    ids=repr,
)
def test_other_errors_are_not_out_of_memory_errors(error: Exception) -> None:
    assert not is_out_of_memory(error)
