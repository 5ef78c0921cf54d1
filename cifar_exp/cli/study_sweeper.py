"""The sweeper of `-m`: Hydra's own, and where a study is chosen, the runs of that study."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig

from cifar_exp.cli.command_line import (
    for_custom_code,
    key_of,
    refuse_other_sweeps,
    refuse_too_many_runs,
    with_dotted_key,
    with_exact_ranges,
)
from cifar_exp.cli.jobs_launcher import JobsLauncher
from cifar_exp.cli.sweep_launcher import SweepLauncher, trains_runs
from cifar_exp.config.keys import SHORT_NAMES
from cifar_exp.config.study import Level, Study, load_studies, with_seeds_added
from cifar_exp.errors import UserError

_SEEDS_ADDED = "seed=auto"


@dataclass
class Settings:
    """What stands under `hydra.sweeper`, those of Hydra's basic sweeper."""

    _target_: str = "hydra_plugins.cifar_exp.plugins.StudySweeper"
    max_batch_size: int | None = None
    params: dict[str, Any] | None = None


class StudySweeper(BasicSweeper):
    """Makes the runs of a study from its levels and seeds; without one it is Hydra's own.

    What is typed on the command line wins over what the study says, its levels and seeds as well.
    A study made of parts becomes one sweep, in which runs that parts share stand once.

    Args:
        max_batch_size: how many runs another launcher than `packed` gets at once; null for all.
        params: what is swept without being typed, as `{seed: "0,1,2"}` or `{seed: [0, 1, 2]}`.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Make the launcher; called by Hydra. Every one gives a table and a report."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        assert self.launcher is not None
        self._trains = trains_runs(task_function)
        if not self._trains:
            return
        if not isinstance(self.launcher, SweepLauncher):
            self.launcher = JobsLauncher(self.launcher)
            self.launcher.setup(
                hydra_context=hydra_context, task_function=task_function, config=config
            )
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise UserError(
                "hydra.sweeper.max_batch_size: expected null or a number above 0, "
                f"got {self.max_batch_size}"
            )
        # all runs are one sweep with one table, whatever is handed over at once
        self.launcher.max_batch_size, self.max_batch_size = self.max_batch_size, None

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all runs.

        Args:
            arguments: the overrides of the command line.

        Returns:
            What the launcher returns, in a list of one.

        Raises:
            UserError: there are none, or too many.
        """
        keys = {_key(argument) for argument in arguments}
        in_files = [_override(key, value) for key, value in (self.params or {}).items()]
        in_files = [with_dotted_key(word) for word in in_files if _key(word) not in keys]
        self.params = {}
        arguments = [*in_files, *arguments]
        refuse_too_many_runs(arguments)
        assert self.config is not None
        assert self.launcher is not None
        chosen = self.config.get("study")
        if chosen is None:
            several = [
                word for word in arguments if word.startswith("study=") and word != "study=null"
            ]
            if several:
                raise UserError(f"{several[0]}: expected one study; one can be made of parts")
            return super().sweep(arguments)
        # what is typed of the study itself is composed already
        typed = [word for word in arguments if not word.startswith(("study=", "study."))]
        jobs: dict[tuple[str, ...], int] = {}
        studies = []
        loaded = load_studies(chosen)
        if _SEEDS_ADDED in typed:
            typed.remove(_SEEDS_ADDED)
            loaded = with_seeds_added(loaded)
        for study in loaded:
            numbers = [jobs.setdefault(job, len(jobs)) for job in self._jobs(study, typed)]
            studies.append((study, numbers))
        assert isinstance(self.launcher, SweepLauncher)
        self.launcher.study_name = self.config.hydra.runtime.choices.study
        self.launcher.studies = studies
        return [self.launcher.launch([list(job) for job in jobs], initial_job_idx=0)]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose all runs; called by Hydra's own sweeper. The launchers of this project do so."""
        if not self._trains:
            super().validate_batch_is_legal(batch)

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """Return the overrides of each run; called by Hydra's own sweeper.

        Raises:
            UserError: there are none.
        """
        batch = super().get_job_batch()
        if not batch:
            raise UserError("the sweep has no runs; check its lists and globs")
        return batch

    @staticmethod
    def split_arguments(
        overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return the overrides of each run, in batches; called by Hydra's own sweeper."""
        refuse_other_sweeps(overrides)
        return BasicSweeper.split_arguments(with_exact_ranges(overrides), max_batch_size)

    def _jobs(self, study: Study, typed: Sequence[str]) -> Iterator[tuple[str, ...]]:
        keys = {_key(argument) for argument in typed}
        own: dict[str, Sequence[Level]] = {key: [value] for key, value in study.settings.items()}
        own |= study.vary | {"seed": study.seeds}
        chosen = [_override(key, levels) for key, levels in own.items() if _key(key) not in keys]
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(for_custom_code([*chosen, *typed]))
        (jobs,) = self.split_arguments(overrides, max_batch_size=None)
        return map(tuple, jobs)


def _key(argument: str) -> str:
    name = key_of(argument)
    return SHORT_NAMES.get(name, name)


def _override(key: str, levels: Any) -> str:
    """Return an override; what is no list stands as it is typed, `0.1,0.01` or `glob(*)`."""
    if not isinstance(levels, list | tuple | ListConfig):
        return f"{key}={'null' if levels is None else levels}"
    return f"{key}={','.join(map(_as_hydra_writes_it, levels))}"


def _as_hydra_writes_it(level: Level) -> str:
    if isinstance(level, str):
        return level if level.isidentifier() else json.dumps(level)
    return json.dumps(level)
