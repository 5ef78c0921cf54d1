"""Hyperparameter studies of image classifiers: one run, a sweep of runs, and what they show.

`load_run` gives a program the network of a finished run; `load_runs` the results of many, as data
frames.
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
    """Import a name when a program asks for it: PyTorch takes seconds."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
