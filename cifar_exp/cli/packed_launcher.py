"""The launcher of `-m`: trains the runs of a sweep side by side on this machine."""

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
    """What stands under `hydra.launcher`."""

    _target_: str = "hydra_plugins.cifar_exp.plugins.PackedLauncher"
    runs_per_device: Any = "auto"


class PackedLauncher(SweepLauncher):
    """Trains the runs of a sweep side by side, several on each device.

    Args:
        runs_per_device: how many runs at once on each GPU, or on the CPU; "auto" for as many as
            pay.
    """

    def __init__(self, runs_per_device: Any = "auto") -> None:
        super().__init__()
        self._runs_per_device = runs_per_device

    def train(self, configs: Sequence[RunConfig]) -> list[float | None]:
        """Train all runs here; called by `launch`."""
        from cifar_exp.sweeps.sweep import run_sweep

        runs_per_device = _checked(self._runs_per_device)
        return run_sweep(configs, runs_per_device, self.studies, self.study_name)

    def prepare(self) -> None:
        """Let PyTorch be imported elsewhere, while the runs are composed here."""
        _checked(self._runs_per_device)
        prepare()

    def begin(self) -> int | None:
        """Prepare for runs. Returns: how many at once on a device; None for as many as pay."""
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
        f"hydra.launcher.runs_per_device: expected auto or 1 and above, got {runs_per_device}"
    )
