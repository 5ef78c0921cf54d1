"""pytest: tests marked `gpu` run on a GPU where there is one, and on the emulated one elsewhere.

The emulator changes PyTorch in the whole process. So it is installed only by `-m gpu`, or an
expression that begins so, which selects no other tests.
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
_why_skipped = "needs a CUDA device; `python -m pytest -m gpu` emulates one"


def pytest_configure(config: pytest.Config) -> None:
    global _emulated, _why_skipped
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
        _why_skipped = f"no CUDA device, and none can be emulated: {error}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason=_why_skipped))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Let a test fail if the emulated GPU has found a hazard, and restore its memory limit."""
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
            gc.collect()  # what is freed in use shows now
    hazards = Counter(str(finding) for finding in findings if finding.kind != "sync")
    assert not hazards, "\n".join(f"{n}x {text}" for text, n in hazards.most_common(8))
    return result


@pytest.fixture(scope="session")
def emulated_gpu() -> Any:
    """The emulated GPU; skips on a real one, which does not show what these tests look at."""
    if not _emulated:
        pytest.skip("needs the emulated GPU")
    from tests.cuda_emulator.state import GPU

    return GPU


@pytest.fixture(scope="session")
def gpu_environment() -> dict[str, str]:
    """Variables that give a new process the GPU that this one has."""
    if not _emulated:
        return dict(os.environ)
    paths = [str(_SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"EMULATE_CUDA": "1", "PYTHONPATH": os.pathsep.join(paths)}
