"""Searches: Optuna chooses trials, workers train them, and the best trial is confirmed."""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, Trial
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.search_settings import SearchSettings
from cifar_exp.errors import UserError, causes
from cifar_exp.files import disk_full
from cifar_exp.loggers.hparams import declare
from cifar_exp.loggers.run_loggers import pages
from cifar_exp.paths import SEARCH_FILE
from cifar_exp.runs.continuing import checkpoint_room
from cifar_exp.runs.folder import ENDED, RunFolder, in_epochs
from cifar_exp.runs.moved_images import ImagesKey, recognised
from cifar_exp.runs.stored import check_rows
from cifar_exp.search.confirm import record_confirmation
from cifar_exp.search.plan import Compose, Plan, describe, make_plan
from cifar_exp.search.search_file import write_search_files
from cifar_exp.search.space import Domain
from cifar_exp.search.trials import DIVERGED, Trials, open_storage
from cifar_exp.signals import stop_request
from cifar_exp.sweeps.dispatcher import Dispatcher
from cifar_exp.sweeps.messages import Checked, Ended
from cifar_exp.sweeps.run_times import Budget, RunTimes, expected_cost
from cifar_exp.sweeps.speeds import find_speeds
from cifar_exp.sweeps.sweep import Sweep
from cifar_exp.sweeps.worker_pool import WorkerPool, check_runs
from cifar_exp.terminal import printable, wrapped
from cifar_exp.training.progress import EpochMetrics


def run_search(
    settings: SearchSettings,
    space: Mapping[str, Domain],
    shared: Sequence[str],
    compose: Compose,
    runs_per_device: int | None,
    budget: Budget | None = None,
) -> None:
    """Start or resume a search, and write its report.

    Args:
        settings: settings under `hydra.sweeper`.
        space: domain of each key.
        shared: overrides of all trials.
        compose: returns the run of some overrides.
        runs_per_device: number of concurrent runs per device; None for automatic.
        budget: time for the search; trials that would not end in time are not started.

    Raises:
        UserError: the settings are invalid, no run can be trained, or no trial is complete.
        Interrupted: a signal was received.
    """
    plan = make_plan(settings, space, shared, recognising(compose))
    folder = plan.folder
    folder.mkdir(parents=True, exist_ok=True)
    with (
        _locked(folder),
        _storage_errors(settings.storage or str(folder / "trials.db")),
        open_storage(settings.storage, folder / "trials.db") as storage,
    ):
        trials = Trials(storage, folder.name, space, settings, plan.epochs)
        search = Search(plan, trials, folder)
        if left := search.run(runs_per_device, budget):
            test = " and the test of the best one" * (settings.confirm > 0)
            print(
                f"budget: {left} of {settings.n_trials} trials{test} are left. Run the same "
                "command with a larger budget to continue."
            )
        else:
            search.confirm(runs_per_device, budget)
    from cifar_exp.reports.render import write_report
    from cifar_exp.search.report import read_search_report, search_text  # imports matplotlib, slow

    report = read_search_report(folder)
    print(f"\n{printable(search_text(report))}\n", flush=True)
    print(write_report(folder, lambda _: report))
    print(pages([plan.start]), end="", flush=True)


def recognising(compose: Compose, writes: bool = True) -> Compose:
    """Return a function that composes a run and recognises moved images; see `recognised`."""
    known: dict[ImagesKey, str | None] = {}
    return lambda overrides: recognised([compose(overrides)], known, writes)[0]


def check_search(
    plan: Plan, left: int, runs_per_device: int | None, writes: bool = True
) -> tuple[Checked, list[RunConfig]]:
    """Check the runs of a search in advance; those at the bounds of the space represent all.

    Args:
        plan: plan of the search.
        left: number of trials to train.
        runs_per_device: number of concurrent runs per device; None for automatic.
        writes: see `preflight`.

    Returns:
        The result, and the runs that were checked, at least `left`.

    Raises:
        UserError: a run cannot be trained on this machine.
    """
    examples = list(islice(cycle(plan.examples), max(left, len(plan.examples))))
    return check_runs(examples, runs_per_device, plan.settings.n_trials, writes), examples


class Search:
    """Chooses the runs to train, and prunes them."""

    def __init__(self, plan: Plan, trials: Trials, folder: Path) -> None:
        self._plan = plan
        self._trials = trials
        self._folder = folder
        self._waiting = deque(trials.unfinished)
        self._to_start = max(0, plan.settings.n_trials - len(trials.all))  # number of new trials
        self._active: dict[str, Trial] = {}  # trial of each run that is training, by run id
        self._duplicates: dict[str, list[Trial]] = {}  # trials with the same settings, by run id
        self._pruned: set[str] = set()  # ids of runs that have to stop

    def run(self, runs_per_device: int | None, budget: Budget | None = None) -> int:
        """Train the remaining trials.

        Args:
            runs_per_device: number of concurrent runs per device; None for automatic.
            budget: see `run_search`.

        Returns:
            How many trials are left because of the budget.

        Raises:
            UserError: no run can be trained.
            Interrupted: a signal was received.
        """
        interrupted = len(self._waiting)
        to_train = self._to_start + interrupted
        count = len(self._trials.all) + self._to_start
        counts = f"{len(self._trials.all) - interrupted} finished before"
        counts += f", {interrupted} interrupted" * (interrupted > 0)
        print(f"search of {count} trials ({counts}): {self._folder}", flush=True)
        self._write()
        if not to_train:
            return 0
        checked, examples = check_search(self._plan, to_train, runs_per_device)
        speeds = find_speeds(examples, checked) if budget else None
        with stop_request() as stop, WorkerPool(checked.allocations) as workers:
            cost_of = speeds.seconds if speeds else partial(expected_cost, on_gpu=workers.on_gpu)
            times = RunTimes.of(examples[:to_train], cost_of, in_seconds=speeds is not None)
            with Dispatcher(
                workers, times, self._label, self._ended, chooser=self, budget=budget
            ) as dispatcher:
                if room := checkpoint_room(checked.needs.kept_bytes):
                    tqdm.write(room)
                dispatcher.work(stop)
        self._to_start += len(dispatcher.left_out)
        return self._to_start + len(self._waiting)

    def confirm(self, runs_per_device: int | None, budget: Budget | None = None) -> None:
        """Test the best trial.

        Args:
            runs_per_device: number of concurrent runs per device; None for automatic.
            budget: see `run_search`.

        Raises:
            UserError: no trial is complete, or some test runs failed.
            Interrupted: a signal was received.
        """
        best = self._trials.best
        if best is None:
            self._write()
            file = self._folder / SEARCH_FILE
            raise UserError(f"no trial is complete. See the reason of each trial in {file}.")
        if self._plan.settings.confirm:
            print(wrapped(f"testing the best trial with new seeds: {_label(best)}"), flush=True)
            configs = record_confirmation(self._plan, self._trials, best)
            self._write()
            name = self._folder.name.replace("search-", "confirm-", 1).rpartition("-")[0]
            # the search prints the results and writes the report
            Sweep(configs, name=name).run(runs_per_device, budget=budget, reports=False)
        self._write(self._trials.importance)

    @property
    def has_more(self) -> bool:
        """Whether trials are left to start."""
        return bool(self._waiting) or self._to_start > 0

    def next_run(self) -> RunConfig | None:
        """Start trials until one has a run to train, and return this run; None if there is none."""
        while self.has_more:
            config = self._start(self._waiting.popleft() if self._waiting else self._ask())
            if config is not None:
                return config
        return None

    def continues(self, config: RunConfig, metrics: EpochMetrics) -> bool:
        """Report an epoch to Optuna, and return whether the trial should continue.

        Args:
            config: settings of the run.
            metrics: metrics of the epoch.
        """
        run = run_id(config)
        if run in self._pruned:  # the run stops at its next step
            return False
        if self._is_pruned(self._active[run], [metrics.as_json()], config):
            self._pruned.add(run)
        return run not in self._pruned

    def _label(self, config: RunConfig) -> str:
        return _label(self._active[run_id(config)])

    def _ended(self, config: RunConfig, end: Ended) -> str:
        """Report the end of a run to Optuna, and queue the trials with the same settings."""
        run = run_id(config)
        trial, folder = self._active.pop(run), RunFolder.of(config)
        pruned = run in self._pruned
        message = self._prune(trial, folder) if pruned else self._end(trial, folder, end)
        self._pruned.discard(run)
        self._waiting.extendleft(self._duplicates.pop(run, []))
        self._write()
        return message

    def _ask(self) -> Trial:
        self._to_start -= 1
        return self._trials.ask()

    def _start(self, trial: Trial) -> RunConfig | None:
        """Return the run of a trial; None if no training is needed now."""
        try:
            config = self._plan.config(trial.params)
        except UserError as error:
            self._fail(trial, error)
            return None
        run, folder = run_id(config), RunFolder.of(config)
        if run in self._active:
            self._duplicates.setdefault(run, []).append(trial)
            return None
        trial.set_user_attr("run", folder.path.name)
        status = folder.status
        try:
            rows = _stored_rows(folder, status)
        except UserError as error:
            self._fail(trial, error)
            return None
        pruned = self._is_pruned(trial, rows, config)
        if pruned or status in ENDED:
            message = self._prune(trial, folder) if pruned else self._finish(trial, folder)
            tqdm.write(f"{_label(trial)}: {message}, trained before")
            return None
        with suppress(UserError):  # its worker reports the error
            folder.claim(config)  # later changes of the YAML files have no effect
        _declare(config)
        self._active[run] = trial
        return config

    def _fail(self, trial: Trial, error: UserError) -> None:
        self._trials.fail(trial, str(error))
        tqdm.write(f"{_label(trial)}: failed: {error}")

    def _end(self, trial: Trial, folder: RunFolder, end: Ended) -> str:
        if end.problem is None:
            return self._finish(trial, folder)
        if not end.disk_full:  # with a full disk, the trial stays unfinished and can be resumed
            self._trials.fail(trial, end.problem)
        return f"failed: {end.problem}"

    def _finish(self, trial: Trial, folder: RunFolder) -> str:
        rows = folder.read_metrics()
        for row in rows:  # another process may have trained the run
            self._trials.report(trial, row)
        if folder.read_state()["status"] == "diverged":
            self._trials.prune(trial, DIVERGED, len(rows))
        else:
            metric = self._plan.settings.metric
            self._trials.complete(trial, folder.results.column(metric)[-1])
        return folder.outcome()

    def _is_pruned(self, trial: Trial, rows: Sequence[dict[str, Any]], config: RunConfig) -> bool:
        """Report epochs to Optuna, and return whether it prunes the trial after one of them."""
        for row in rows:
            self._trials.report(trial, row)
            if row["epoch"] < config.training.epochs and trial.should_prune():
                return True
        return False

    def _prune(self, trial: Trial, folder: RunFolder) -> str:
        """Close a pruned trial with the epochs of its run, which may be more than were reported."""
        epochs = len(folder.read_metrics())
        message = f"pruned after {in_epochs(epochs)}"
        self._trials.prune(trial, message, epochs)
        return message

    def _write(self, importance: Mapping[str, float] | None = None) -> None:
        write_search_files(self._folder, self._plan, self._trials, importance or {})


def _label(trial: Trial | FrozenTrial) -> str:
    return f"trial {trial.number} {describe(trial.params)}"


def _stored_rows(folder: RunFolder, status: str) -> list[dict[str, Any]]:
    """Return the epochs to report before a run is trained; those of an ended run must be valid."""
    rows = [] if status == "damaged" else folder.read_metrics()
    try:
        check_rows(rows, folder.metrics_file)
    except UserError:
        if status in ENDED:
            raise
        return []  # training restores the file from the checkpoint
    return rows


def _declare(config: RunConfig) -> None:
    """Write the hyperparameters of a trial, which are not known before, for TensorBoard."""
    try:
        declare([config])
    except OSError as error:
        reason = "disk full" if disk_full(error) else str(error.strerror)
        raise UserError(
            f"{error.filename}: cannot write the file ({reason}). Solve this, and run the same "
            "command again to resume."
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the search for this process."""
    lock = FileLock(folder / ".search.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout as error:
        raise UserError(f"{folder}: another process is running this search") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _storage_errors(storage: str) -> Iterator[None]:
    """Raise errors of the storage, a file or URL, as UserError; a password is not shown."""
    shown = re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", storage)
    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        first = (str(list(causes(error))[-1]).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{shown}: {first.rstrip('.')}. Finished trials are saved. Run the same command again "
            "to resume."
        ) from error
