"""Hyperparameter studies of image classifiers.

`load_run` loads a complete run and its network for use in other programs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifar_exp.inference.load import TrainedRun, load_run

__all__ = ["TrainedRun", "load_run"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, since importing PyTorch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cifar_exp.inference import load

    return getattr(load, name)
