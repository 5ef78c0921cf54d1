"""The sweeper of `-m`: Hydra's basic sweeper, and the runs of `study=NAME`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig

from cifar_exp.cli.jobs_launcher import JobsLauncher
from cifar_exp.cli.overrides import (
    as_typed,
    for_custom_code,
    full_key,
    parse,
    refuse_other_sweeps,
    refuse_too_many_runs,
    with_dotted_key,
    with_exact_ranges,
)
from cifar_exp.cli.sweep_launcher import SweepLauncher, trains_runs
from cifar_exp.config.keys import short
from cifar_exp.config.study import Level, Study, add_seeds, load_studies
from cifar_exp.errors import UserError

_AUTO = "seed=auto"
_Job = tuple[str, ...]  # the overrides of a run


@dataclass
class Settings:
    """Settings under `hydra.sweeper`, the same as of Hydra's basic sweeper."""

    _target_: str = "hydra_plugins.cifar_exp.plugins.StudySweeper"
    max_batch_size: int | None = None
    params: dict[str, Any] | None = None


class StudySweeper(BasicSweeper):
    """Create the runs of a study from its levels and seeds; without a study, Hydra's basic sweeper.

    Overrides of the command line replace the settings, levels and seeds of the study. A study of
    several parts is one sweep; a run that several parts share is trained once.

    Args:
        max_batch_size: number of runs that a launcher other than `packed` gets at a time; null for
            all.
        params: levels by key, such as `{seed: "0,1,2"}` or `{seed: [0, 1, 2]}`.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Create a launcher that writes a table and a report; called by Hydra."""
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
        # one sweep with one table, also if the launcher gets its runs in batches
        self.launcher.max_batch_size, self.max_batch_size = self.max_batch_size, None

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all runs.

        Args:
            arguments: the overrides of the command line.

        Returns:
            A list with the result of the launcher.

        Raises:
            UserError: there are no runs or too many.
        """
        keys = {full_key(argument) for argument in arguments}
        from_files = [_override(key, value) for key, value in (self.params or {}).items()]
        from_files = [with_dotted_key(word) for word in from_files if full_key(word) not in keys]
        self.params = {}
        arguments = [*from_files, *arguments]
        refuse_too_many_runs(arguments)
        if not self._trains:
            return super().sweep(arguments)
        assert self.config is not None
        assert isinstance(self.launcher, SweepLauncher)
        study = self.config.get("study")
        if study is None:
            _refuse_several_studies(arguments)
            jobs = self._jobs(arguments)
        else:
            self.launcher.study_name = self.config.hydra.runtime.choices.study
            self.launcher.studies, jobs = self._jobs_of_study(study, arguments)
        return [self.launcher.launch([list(job) for job in jobs], initial_job_idx=0)]

    def _jobs_of_study(
        self, study: DictConfig, arguments: Sequence[str]
    ) -> tuple[list[tuple[Study, list[int]]], list[_Job]]:
        """Return the parts of a study with the indices of their runs, and the runs."""
        # settings of the study itself are already composed
        typed = [
            word for word in arguments if not word.lstrip("+~").startswith(("study=", "study."))
        ]
        parts = load_studies(study)
        if _AUTO in typed:
            typed.remove(_AUTO)
            parts = add_seeds(parts)
        elif "seed" in map(full_key, typed):
            parts = [part.model_copy(update={"add_seeds": False}) for part in parts]
        for part in parts:
            _refuse_several_runs(part, typed)
        index_of: dict[_Job, int] = {}
        studies = []
        for part in parts:
            jobs = self._jobs([*overrides_of(part, typed), *typed])
            runs = [index_of.setdefault(job, len(index_of)) for job in dict.fromkeys(jobs)]
            studies.append((part, runs))
        return studies, list(index_of)

    @staticmethod
    def split_arguments(
        overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return the overrides of each run, in batches; called by Hydra's basic sweeper."""
        refuse_other_sweeps(overrides)
        return BasicSweeper.split_arguments(with_exact_ranges(overrides), max_batch_size)

    def _jobs(self, arguments: Sequence[str]) -> list[_Job]:
        """Return the runs; Hydra's sweeper would also write multirun.yaml, which is not used."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(for_custom_code(arguments))
        (jobs,) = self.split_arguments(overrides, max_batch_size=None)
        if not jobs:
            raise UserError("the sweep has no runs; check its lists and globs")
        return [tuple(job) for job in jobs]


def _refuse_several_studies(arguments: Sequence[str]) -> None:
    """Refuse `study=lr,dropout`, and a study whose file sets other keys."""
    for word in arguments:
        if word.startswith("study=") and word != "study=null":
            problem = "its file sets no study. Remove its line `# @package _global_`."
            if "," in word or "(" in word:
                problem = "expected one study; a study can have several parts"
            raise UserError(f"{word}: {problem}")


def _refuse_several_runs(study: Study, typed: Sequence[str]) -> None:
    """Refuse several runs with the same level and seed, which could not be compared."""
    if not study.claims and study.reference is None:
        return
    for word in typed:
        override = parse(word)
        swept = override is not None and override.is_sweep_override()
        if swept and full_key(word) not in (*study.vary, "seed"):
            key = short(next(iter(study.vary)))
            raise UserError(
                f"{as_typed(word)}: expected one value, since study {study.name} compares one run "
                f"per {key} and seed. Run the study once for each value."
            )


def overrides_of(study: Study, typed: Sequence[str]) -> list[str]:
    """Return the settings, levels and seeds of a study that the command line does not replace."""
    keys = {full_key(argument) for argument in typed}
    levels: dict[str, Sequence[Level]] = {key: [value] for key, value in study.settings.items()}
    levels |= study.vary | {"seed": study.seeds}
    return [_override(key, levels[key]) for key in levels if full_key(key) not in keys]


def _override(key: str, levels: Any) -> str:
    """Return an override; levels that are not a list, `0.1,0.01` or `glob(*)`, remain unchanged."""
    if not isinstance(levels, list | tuple | ListConfig):
        return f"{key}={'null' if levels is None else levels}"
    return f"{key}={','.join(map(_quoted, levels))}"


def _quoted(level: Any) -> str:
    """Return a level as Hydra's parser reads it, which supports few of JSON's escapes."""
    if isinstance(level, list | tuple):
        return f"[{','.join(map(_quoted, level))}]"
    if not isinstance(level, str):
        return json.dumps(level)
    is_word = level.isascii() and level.isidentifier()
    return level if is_word else QuotedString(level, Quote.double).with_quotes()
