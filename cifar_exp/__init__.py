"""Hyperparameter studies of image classifiers: one run, a sweep of runs, and what they show.

`load_run` gives a finished run with its network to a program of your own.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifar_exp.inference.load import TrainedRun, load_run

__all__ = ["TrainedRun", "load_run"]


def __getattr__(name: str) -> Any:
    """Import what a program asks for when it does: PyTorch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cifar_exp.inference import load

    return getattr(load, name)
