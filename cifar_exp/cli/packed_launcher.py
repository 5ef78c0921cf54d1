"""The launcher of `-m`: train the runs of a sweep on this machine, several at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.utils import setup_globals

from cifar_exp.cli.sweep_launcher import SweepLauncher
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.sweeps.worker_pool import prepare


@dataclass
class Settings:
    """Settings under `hydra.launcher`."""

    _target_: str = "hydra_plugins.cifar_exp.plugins.PackedLauncher"
    runs_per_device: Any = "auto"


class PackedLauncher(SweepLauncher):
    """Train the runs of a sweep on this machine, several at a time on each device.

    Args:
        runs_per_device: number of concurrent runs per GPU, or on the CPU; "auto": as many as
            increase the throughput.
    """

    def __init__(self, runs_per_device: Any = "auto") -> None:
        super().__init__()
        self._runs_per_device = runs_per_device

    def train(self, configs: Sequence[RunConfig]) -> list[float | None]:
        """Train all runs on this machine; called by `launch`."""
        from cifar_exp.sweeps.sweep import print_forecast, run_sweep

        runs_per_device = _checked(self._runs_per_device)
        if self.plans:
            return print_forecast(configs, runs_per_device, self.studies, self.study_name)
        return run_sweep(
            configs, runs_per_device, self.studies, self.study_name, budget=self.budget()
        )

    def prepare(self) -> None:
        """Import PyTorch in another process while this one composes the runs."""
        _checked(self._runs_per_device)
        prepare()

    def begin(self) -> int | None:
        """Prepare for runs, and return how many to train at a time on a device; None for auto."""
        self.prepare()
        setup_globals()
        return _checked(self._runs_per_device)


def _checked(runs_per_device: Any) -> int | None:
    """Return the number, or None for "auto"."""
    if runs_per_device == "auto":
        return None
    if isinstance(runs_per_device, int) and runs_per_device >= 1:
        return runs_per_device
    raise UserError(
        f"hydra.launcher.runs_per_device: expected auto or an integer of at least 1, got "
        f"{runs_per_device}"
    )
