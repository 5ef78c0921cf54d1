"""Plugins for Hydra, which accepts only classes that are defined in `hydra_plugins`."""

from hydra.core.config_store import ConfigStore

from cifar_exp.cli import optuna_sweeper, packed_launcher, study_sweeper

_PLUGINS = {
    "hydra/launcher/packed": packed_launcher.Settings,
    "hydra/sweeper/study": study_sweeper.Settings,
    "hydra/sweeper/optuna": optuna_sweeper.SETTINGS,
}

for path, node in _PLUGINS.items():
    group, _, name = path.rpartition("/")
    ConfigStore.instance().store(group=group, name=name, node=node, provider="cifar_exp")


class PackedLauncher(packed_launcher.PackedLauncher):
    """Launch the runs of `-m`."""


class StudySweeper(study_sweeper.StudySweeper):
    """Create the runs of `-m` and of `study=NAME`."""


class OptunaSweeper(optuna_sweeper.OptunaSweeper):
    """Create the trials of `hydra/sweeper=optuna`."""
