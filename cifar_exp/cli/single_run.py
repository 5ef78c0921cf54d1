"""The run of a command without -m."""

from omegaconf import DictConfig

from cifar_exp.config.command_settings import is_plan
from cifar_exp.config.load import load_config


def train(composed: DictConfig) -> None:
    """Check the settings, and train or plan; PyTorch, which takes seconds to import, comes last."""
    config = load_config(composed)
    if is_plan(composed):
        from cifar_exp.sweeps.sweep import print_forecast

        print_forecast([config])
        return
    from cifar_exp.runs.train_one import train_one

    train_one(config)
