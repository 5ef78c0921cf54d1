"""Sweeps: train a list of runs in worker processes or jobs, and write their table and report."""

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import all_settings, differences, run_id, run_name, varied
from cifar_exp.config.keys import short_names
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Study
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.files import shortened
from cifar_exp.loggers.hparams import declare
from cifar_exp.loggers.run_loggers import in_group, pages, restore_events
from cifar_exp.loggers.tensorboard import needs_events
from cifar_exp.reports.records import sweep_id
from cifar_exp.runs.continuing import checkpoint_room, continuing_lines
from cifar_exp.runs.failures import is_refused
from cifar_exp.runs.folder import ENDED, BusyError, RunFolder
from cifar_exp.runs.initial_weights import with_initial_weights
from cifar_exp.runs.moved_images import changed_images, recognised
from cifar_exp.runs.needs import Needs
from cifar_exp.runs.record import Record, read_record
from cifar_exp.signals import Interrupted, stop_request
from cifar_exp.sweeps.allocation import Allocation
from cifar_exp.sweeps.cluster_jobs import RunJobs, train_as_jobs
from cifar_exp.sweeps.dispatcher import Dispatcher
from cifar_exp.sweeps.forecast import Forecast, PlannedRun, find_prefix_runs, plan_runs
from cifar_exp.sweeps.messages import Ended
from cifar_exp.sweeps.run_times import Budget, RunTimes, expected_cost
from cifar_exp.sweeps.speeds import find_speeds
from cifar_exp.sweeps.sweep_folder import update_report, write_list, write_table
from cifar_exp.sweeps.until_settled import next_runs, possible_runs
from cifar_exp.sweeps.worker_pool import WorkerPool, check_runs

_MAX_LABEL_SETTINGS = 3
# How to train the remaining runs.
_RETRY = "Run the same command again to retry them."
_RESTART = "Do what their messages say, and run the same command again."
_MORE_BUDGET = "Run the same command with a larger budget to continue."
_WITHOUT_RERUN = (
    "The same command repeats all runs; without rerun=true it trains those that have not ended."
)


def run_sweep(
    configs: Sequence[RunConfig],
    runs_per_device: int | None = None,
    studies: Sequence[tuple[Study, Sequence[int]]] = (),
    name: str | None = None,
    run_jobs: RunJobs | None = None,
    budget: Budget | None = None,
) -> list[float | None]:
    """Train all unfinished runs of a sweep, and write its table and report.

    Args:
        configs: checked settings of all runs; equal settings are trained once.
        runs_per_device: number of concurrent runs per device; None for automatic.
        studies: studies of the sweep, each with the indices of its runs in `configs`.
        name: name of the sweep's folder; None for the names of the varied settings.
        run_jobs: trains runs in jobs; None to train them in workers on this machine.
        budget: time for the sweep; runs that would not end in time are not started.

    Returns:
        For each configuration the final accuracy, in [0, 1]; None if the run diverged.

    Raises:
        UserError: the runs cannot be trained on this machine, or some of them failed.
        Interrupted: a signal was received.
    """
    configs = recognised(configs)
    sweep = Sweep(configs, studies, name)
    records = sweep.run(runs_per_device, run_jobs, budget)
    print(pages(configs, trained=sweep.has_trained), end="", flush=True)
    found = [records.get(run_id(config)) for config in configs]
    return [record.results.accuracy if record else None for record in found]


def print_forecast(
    configs: Sequence[RunConfig],
    runs_per_device: int | None = None,
    studies: Sequence[tuple[Study, Sequence[int]]] = (),
    name: str | None = None,
    in_jobs: bool = False,
) -> list[float | None]:
    """Print what `run_sweep` would train and what that costs; nothing is trained or written.

    Args:
        configs: see `run_sweep`.
        runs_per_device: see `run_sweep`.
        studies: see `run_sweep`.
        name: see `run_sweep`.
        in_jobs: whether each run would be a job.

    Returns:
        An empty list.

    Raises:
        UserError: the runs cannot be trained.
    """
    configs = recognised([with_initial_weights(config) for config in configs], writes=False)
    print(Sweep(configs, studies, name).forecast(runs_per_device, in_jobs))
    return []


class Sweep:
    """A list of runs, whose folders may be shared with other sweeps.

    Args:
        configs: settings of the runs; equal settings are one run.
        studies: studies of the sweep, each with the indices of its runs in `configs`.
        name: name of the sweep's folder; None for the names of the varied settings.

    Attributes:
        folder: folder of the sweep.
        runs: settings and folder of each run; runs with added seeds come last.
        has_trained: whether some run was not finished before.

    Raises:
        UserError: there are no runs.
    """

    def __init__(
        self,
        configs: Sequence[RunConfig],
        studies: Sequence[tuple[Study, Sequence[int]]] = (),
        name: str | None = None,
    ) -> None:
        if not configs:
            raise UserError("the sweep has no runs; check its lists and globs")
        ids = [run_id(config) for config in configs]
        self._studies = [(study, [ids[i] for i in indices]) for study, indices in studies]
        by_id = dict(zip(ids, configs, strict=True))
        configs = list(by_id.values())
        self._add_seeds = any(study.add_seeds for study, _ in studies)
        self._first_runs = len(configs)
        self._varied = varied(configs)
        name = name or ",".join(short_names(self._varied)) or "sweep"
        # depends on the runs alone, so that the same command finds the folder again
        id = sweep_id(list(by_id), self._add_seeds)
        self.folder = as_path(configs[0].paths.results) / f"{shortened(name, 80)}-{id}"
        self.runs: list[tuple[RunConfig, RunFolder]] = []
        self.has_trained = False
        self._seeds: set[int] = set()
        self._add(configs)

    def _add(self, configs: Sequence[RunConfig]) -> None:
        grouped = [in_group(config, self.folder.name) for config in configs]
        self.runs += zip(grouped, RunFolder.of_all(grouped), strict=True)
        self._seeds |= {config.seed for config in configs}

    def forecast(self, runs_per_device: int | None, in_jobs: bool = False) -> Forecast:
        """Return what `run` would train, and what that costs. Nothing is trained or written.

        Args:
            runs_per_device: number of concurrent runs per device; None for automatic.
            in_jobs: whether each run would be a job.

        Raises:
            UserError: the runs cannot be trained on this machine.
        """
        self._resume_seeds()
        runs = plan_runs(self.runs)
        configs = [run.config for run in runs if run.is_trained]
        needs, speeds = Needs(), None
        allocations: Sequence[Allocation] = ()
        if configs and in_jobs:
            from cifar_exp.runs.preflight import preflight  # imports PyTorch, which is slow

            needs = preflight(configs, at_once=len(configs), trains_here=False, writes=False)
        elif configs:
            checked = check_runs(configs, runs_per_device, len(runs), writes=False)
            needs, allocations = checked.needs, checked.allocations
            found = find_speeds(configs, checked)
            speeds = found if found.known else None  # the steps take too long
        return Forecast(runs, self._varied, needs, allocations, speeds, self._possible_runs(runs))

    def _possible_runs(self, runs: Sequence[PlannedRun]) -> list[RunConfig]:
        """Return the runs that may be added, after the planned ones, until claims are settled."""
        if all(run.is_finished for run in runs):
            return []
        by_id = {run_id(run.config): run.config for run in runs}
        possible = [
            config
            for study, ids in self._studies
            for config in possible_runs(study, [by_id[id] for id in ids])
        ]
        more = {run_id(config): config for config in possible}
        return [config for id, config in more.items() if id not in by_id]

    def run(
        self,
        runs_per_device: int | None,
        run_jobs: RunJobs | None = None,
        budget: Budget | None = None,
        reports: bool = True,
    ) -> Mapping[str, Record]:
        """Train all unfinished runs, and write the table and the report.

        After an interruption, only the table is written.

        Args:
            runs_per_device: see `run_sweep`.
            run_jobs: see `run_sweep`.
            budget: see `run_sweep`.
            reports: whether to print the results and write the report.

        Returns:
            The runs by their ids, without those that cannot be read.

        Raises:
            UserError: the runs cannot be trained on this machine, or some of them failed.
            Interrupted: a signal was received.
        """
        for line in changed_images(self.runs):
            print(line, flush=True)
        try:
            self._resume_seeds()
            failed, left = self._train_unfinished(runs_per_device, run_jobs, budget)
            while not failed and not left and self._extend():
                failed, left = self._train_unfinished(runs_per_device, run_jobs, budget)
        except BaseException as error:
            if self.folder.exists():
                with suppress(UserError):  # would hide the exception above
                    write_table(self.folder, self._content(), prints=reports)
            if isinstance(error, Interrupted):
                error.advice = self._advice(error.advice)
            raise
        by_id, left_out = write_table(self.folder, self._content(), prints=reports)
        if reports:
            update_report(self.folder, by_id, left_out)
        if left:
            runs = f"{left} run{'s' * (left > 1)}"
            print(
                f"budget: {runs} would not have ended in time and {'was' if left == 1 else 'were'} "
                f"not started. {self._advice(_MORE_BUDGET)}"
            )
        if failed:
            advice = _RESTART if any(map(is_refused, failed)) else self._advice(_RETRY)
            raise UserError(f"{len(failed)} of {len(self.runs)} runs failed. {advice}")
        return by_id

    def _advice(self, usual: str) -> str:
        """Return how to train the remaining runs, which `rerun=true` changes."""
        return _WITHOUT_RERUN if any(config.rerun for config, _ in self.runs) else usual

    def _train_unfinished(
        self, runs_per_device: int | None, run_jobs: RunJobs | None, budget: Budget | None
    ) -> tuple[list[str], int]:
        """Train all unfinished runs; return why some failed, and how many were left out."""
        planned = plan_runs(self.runs)
        pending = [run for run in planned if not run.is_finished]
        for run in planned:
            if run.status in ENDED:
                run.folder.tidy_if_free()
        _restore_events([(run.config, run.folder) for run in planned if run.is_finished])
        if not pending:
            self._announce(pending)
            return [], 0
        self.has_trained = True
        if len(self.runs) > self._first_runs:
            labels = ", ".join(self.label(run.config) for run in pending)
            print(f"inconclusive claims; training next: {labels}", flush=True)
        if run_jobs:
            return self._train_in_jobs(pending, run_jobs), 0
        return self._train(pending, runs_per_device, budget)

    def _resume_seeds(self) -> None:
        """Add the seeds that were added before an interruption."""
        if not any(config.rerun for config, _ in self.runs):
            self._extend()

    def _extend(self) -> bool:
        """Add seeds for inconclusive claims, and return whether there are runs to train."""
        if not self._add_seeds:
            return False
        # runs are repeated once only
        self.runs = [(c.model_copy(update={"rerun": False}), folder) for c, folder in self.runs]
        while all(folder.status in ENDED for _, folder in self.runs):
            records = {run_id(config): read_record(folder) for config, folder in self.runs}
            new: dict[str, RunConfig] = {}
            for study, ids in self._studies:
                more = {run_id(c): c for c in next_runs(study, [records[id] for id in ids])}
                ids.extend(more)
                new |= more
            if not new:
                return False
            self._add([config for id, config in new.items() if id not in records])
        return True

    def _train(
        self, pending: list[PlannedRun], runs_per_device: int | None, budget: Budget | None
    ) -> tuple[list[str], int]:
        """Train the pending runs in workers; see `_train_unfinished`."""
        if budget:  # a seed of all levels first
            pending = sorted(pending, key=lambda run: run.config.seed)
        configs = [run.config for run in pending]
        checked = check_runs(configs, runs_per_device, len(self.runs))
        speeds = find_speeds(configs, checked) if budget else None
        with stop_request() as stop, WorkerPool(checked.allocations) as workers:
            self._announce(pending, checked.needs.kept_bytes)
            for run in pending:
                with suppress(UserError):  # its worker reports the error
                    run.folder.claim(run.config)  # later changes of the YAML files have no effect
            interrupted = [i for i, run in enumerate(pending) if run.status == "interrupted"]
            folders = {run_id(run.config): run.folder for run in pending}

            def ended(config: RunConfig, end: Ended) -> str:
                if end.problem is not None:
                    return f"failed: {end.problem}"
                return folders[run_id(config)].outcome()

            relative = partial(expected_cost, on_gpu=workers.on_gpu)
            cost_of = speeds.seconds if speeds else relative
            shares = [run.share for run in pending]
            times = RunTimes.of(configs, cost_of, shares, in_seconds=speeds is not None)
            with Dispatcher(
                workers,
                times,
                self.label,
                ended,
                configs,
                interrupted,
                find_prefix_runs(pending),
                budget=budget,
            ) as dispatcher:
                dispatcher.work(stop)
            return dispatcher.problems, len(dispatcher.left_out)

    def _train_in_jobs(self, pending: list[PlannedRun], run_jobs: RunJobs) -> list[str]:
        """Train the pending runs in jobs, and return why some did not end."""
        from cifar_exp.runs.preflight import preflight  # imports PyTorch, which is slow

        configs = [run.config for run in pending]
        needs = preflight(configs, at_once=len(configs), trains_here=False)
        self._announce(pending, needs.kept_bytes)
        print(f"report of the finished runs: python -m cifar_exp report {self.folder}", flush=True)
        problems = train_as_jobs([(run.config, run.folder) for run in pending], run_jobs)
        for run, problem in zip(pending, problems, strict=True):
            print(f"{self.label(run.config)}: {problem or run.folder.outcome()}", flush=True)
        return [problem for problem in problems if problem is not None]

    def _announce(self, pending: list[PlannedRun], kept_bytes: int = 0) -> None:
        statuses = Counter(run.status for run in pending)
        counts = f"{len(self.runs) - len(pending)} finished before"
        if statuses["interrupted"]:
            counts += f", {statuses['interrupted']} interrupted"
        runs = f"{len(self.runs)} run{'s' * (len(self.runs) > 1)}"
        print(f"sweep of {runs} ({counts}): {self.folder}", flush=True)
        new = [(run.config, run.shorter) for run in pending if run.status == "pending"]
        for line in continuing_lines(new, {run_id(config) for config, _ in self.runs}):
            print(line, flush=True)
        if room := checkpoint_room(kept_bytes):
            print(room, flush=True)
        if pending:  # the folder may be read-only
            write_list(self.folder, self._content())

    def label(self, config: RunConfig) -> str:
        """Return a label such as `lr=0.1 seed=2`, which distinguishes a run from the others.

        If the sweep varies many settings, the label has only those that differ from the baseline.
        """
        flat = all_settings(config)
        names = list(zip(short_names(self._varied), self._varied, strict=True))
        if len(self._varied) > _MAX_LABEL_SETTINGS:
            names = [(name, key) for name, key in names if key in differences(config)]
        words = [f"{name}={flat[key]}" for name, key in names if key in flat]
        if len(self._seeds) > 1:
            words.append(f"seed={config.seed}")
        return " ".join(words) or run_name(config)

    def _content(self) -> dict[str, Any]:
        """Return the content of sweep.json."""
        runs = [
            {"run_id": run_id(config), "folder": folder.path.name} for config, folder in self.runs
        ]
        # with rerun=true it would not resume the sweep
        words = [word for word in sys.argv[1:] if not word.lstrip("+").startswith("rerun=")]
        command = shlex.join([Path(sys.argv[0]).name, *words])
        studies = [
            {
                "study": study.model_dump(mode="json", exclude_unset=True),
                "runs": list(dict.fromkeys(ids)),
            }
            for study, ids in self._studies
        ]
        content: dict[str, Any] = {"command": command, "runs": runs, "studies": studies}
        if self._add_seeds:
            content["first_runs"] = self._first_runs
        return content


def _restore_events(finished: Sequence[tuple[RunConfig, RunFolder]]) -> None:
    """Restore deleted TensorBoard files of finished runs."""
    deleted = [(config, folder) for config, folder in finished if needs_events(config)]
    try:
        for config, folder in deleted:
            with suppress(BusyError), folder.lock():
                restore_events(config, folder.path, folder.read_metrics(), folder.read_state())
        declare([config for config, _ in deleted])
    except OSError as error:  # the table and the report do not need them
        print(f"{error.filename}: cannot restore the TensorBoard files: {error.strerror}")
