"""Pytest plugin that runs tests marked `gpu` on a real GPU if available, else on the emulated one.

The emulator changes PyTorch in the whole process. It is therefore installed only if the expression
of `-m` starts with `gpu`, which selects no other tests.
"""

import gc
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SITE = Path(__file__).parent / "site"
_emulated = False
_skip_reason = "needs a CUDA device; `python -m pytest -m gpu` emulates one"


def pytest_configure(config: pytest.Config) -> None:
    global _emulated, _skip_reason
    if not config.option.markexpr.startswith("gpu") or _emulated:
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is imported
    import torch

    if torch.cuda.is_available():
        return
    from tests.cuda_emulator.install import NotSupported, install

    try:
        install()
        _emulated = True
    except NotSupported as error:
        _skip_reason = f"no CUDA device, and the emulator does not support this system: {error}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason=_skip_reason))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Fail a test if the emulated GPU found a hazard, and restore the GPU's state."""
    if not _emulated:
        return (yield)
    from tests.cuda_emulator.install import watched
    from tests.cuda_emulator.state import GPU

    with watched() as findings:
        try:
            result = yield
        finally:
            GPU.capture = None
            GPU.limit_bytes = GPU.total_bytes
            GPU.sync_mode = "default"
            gc.collect()  # reports memory that is freed in use
    hazards = Counter(str(finding) for finding in findings if finding.kind != "sync")
    assert not hazards, "\n".join(f"{n}x {text}" for text, n in hazards.most_common(8))
    return result


@pytest.fixture(scope="session")
def emulated_gpu() -> Any:
    """The emulated GPU; skips on a real GPU, which does not report operations."""
    if not _emulated:
        pytest.skip("needs the emulated GPU")
    from tests.cuda_emulator.state import GPU

    return GPU


def is_emulated() -> bool:
    """Return whether the GPU of this process is emulated."""
    return _emulated


@pytest.fixture(scope="session")
def gpu_environment() -> dict[str, str]:
    """Environment variables that give a new process the same GPU."""
    if not _emulated:
        return dict(os.environ)
    paths = [str(_SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"EMULATE_CUDA": "1", "PYTHONPATH": os.pathsep.join(paths)}
