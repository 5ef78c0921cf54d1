"""Hyperparameter studies of image classifiers.

`load_run` loads a complete run and its network for use in other programs. `load_runs` loads the
settings and metrics of many runs, as data frames.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifar_exp.inference.load import TrainedRun, load_run
    from cifar_exp.reports.loaded import Run, Runs, load_runs

__all__ = ["Run", "Runs", "TrainedRun", "load_run", "load_runs"]

_MODULES = dict.fromkeys(("TrainedRun", "load_run"), "cifar_exp.inference.load")
_MODULES |= dict.fromkeys(("Run", "Runs", "load_runs"), "cifar_exp.reports.loaded")


def __getattr__(name: str) -> Any:
    """Import a public name on first use, since importing PyTorch takes seconds."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
