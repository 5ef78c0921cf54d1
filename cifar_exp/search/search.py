"""A search: trials that Optuna chooses and workers train, and at the end their winner."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from optuna.exceptions import OptunaError
from optuna.trial import Trial
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.search_settings import SearchSettings
from cifar_exp.errors import UserError, causes
from cifar_exp.files import disk_full
from cifar_exp.loggers.hparams import declare
from cifar_exp.runs.continuing import checkpoint_room
from cifar_exp.runs.folder import ENDED, RunFolder, in_epochs
from cifar_exp.runs.moved_images import recognised
from cifar_exp.search.confirm import confirm
from cifar_exp.search.plan import Plan, in_words, make_plan
from cifar_exp.search.search_file import write_listing
from cifar_exp.search.space import Domain
from cifar_exp.search.trials import DIVERGED, Trials, open_storage
from cifar_exp.signals import stop_request
from cifar_exp.sweeps.dispatcher import Dispatcher
from cifar_exp.sweeps.messages import Ended
from cifar_exp.sweeps.worker_pool import WorkerPool
from cifar_exp.training.progress import EpochMetrics


def run_search(
    settings: SearchSettings,
    space: Mapping[str, Domain],
    shared: Sequence[str],
    compose: Callable[[Sequence[str]], RunConfig],
    runs_per_device: int | None,
) -> None:
    """Bring a search to its end, from wherever it stands, and write its report.

    Args:
        settings: under `hydra.sweeper`.
        space: what is chosen, by key.
        shared: the overrides of all trials.
        compose: makes a run of overrides.
        runs_per_device: how many at once; None for as many as pay.

    Raises:
        UserError: it cannot begin, cannot go on, or came to nothing.
        Interrupted: a signal asked to stop.
    """
    known: dict[str, str | None] = {}

    def composed(overrides: Sequence[str]) -> RunConfig:
        return recognised([compose(overrides)], known)[0]

    plan = make_plan(settings, space, shared, composed)
    folder = plan.folder
    folder.mkdir(parents=True, exist_ok=True)
    with (
        _alone(folder),
        _told_by_optuna(settings.storage or str(folder / "trials.db")),
        open_storage(settings.storage, folder / "trials.db") as storage,
    ):
        trials = Trials(storage, folder.name, space, settings, plan.epochs)
        search = Search(plan, trials, folder)
        search.run(runs_per_device)
        search.confirm(runs_per_device)
    from cifar_exp.reports.render import write_report
    from cifar_exp.search.report import read_search_report  # matplotlib takes a second

    print(write_report(folder, read_search_report), flush=True)


class Search:
    """Decides which runs are trained, and which of them go on.

    Args:
        plan: of the search.
        trials: what was tried before and is tried now.
        folder: of the search.
    """

    def __init__(self, plan: Plan, trials: Trials, folder: Path) -> None:
        self._plan = plan
        self._trials = trials
        self._folder = folder
        self._waiting = deque(trials.open)
        self._left = max(0, plan.settings.n_trials - len(trials.all))  # that have not begun
        self._active: dict[str, Trial] = {}  # by run id
        self._twins: dict[str, list[Trial]] = {}  # of an active one, with the same settings
        self._pruned: set[str] = set()  # ids of runs that are asked to stop

    def run(self, runs_per_device: int | None) -> None:
        """Train what is left of the trials."""
        count, interrupted = self._plan.settings.n_trials, len(self._waiting)
        left = self._left + interrupted
        counts = f"{len(self._trials.all) - interrupted} finished before"
        counts += f", {interrupted} interrupted" * (interrupted > 0)
        print(f"search of {count} trials ({counts}): {self._folder}", flush=True)
        self._write()
        if not left:
            return
        examples = self._plan.examples
        checked = list(islice(cycle(examples), max(left, len(examples))))
        with (
            stop_request() as stop,
            WorkerPool(checked, runs_per_device, count) as workers,
            Dispatcher(workers, self._label, self._ended, chooser=self, more=left) as dispatcher,
        ):
            if room := checkpoint_room(workers.kept_bytes):
                tqdm.write(room)
            dispatcher.work(stop)

    def confirm(self, runs_per_device: int | None) -> None:
        """Name the winner, and test it.

        Raises:
            UserError: there is none.
        """
        best = self._trials.best
        if best is None:
            raise UserError(f"no trial came to its end; {self._folder / 'search.json'} says why")
        metric = self._plan.settings.metric
        print(f"\nbest: trial {best.number}, {in_words(best.params)}: {metric} {best.value:.4f}")
        if self._plan.settings.confirm:
            name = self._folder.name.replace("search-", "confirm-", 1).rpartition("-")[0]
            confirm(self._plan, self._trials, best, name, runs_per_device)
        self._write(self._trials.importance)

    @property
    def wants_more(self) -> bool:
        """Whether trials are left to begin."""
        return bool(self._waiting) or self._left > 0

    def more(self) -> RunConfig | None:
        """Begin trials until one needs to be trained."""
        while self.wants_more:
            config = self._begun(self._waiting.popleft() if self._waiting else self._asked())
            if config is not None:
                return config
        return None

    def continues(self, config: RunConfig, metrics: EpochMetrics) -> bool:
        """Report an epoch to Optuna, and ask whether the trial is to be continued."""
        run = run_id(config)
        if run in self._pruned:  # it hears of that at its next step
            return False
        if self._is_pruned(self._active[run], [metrics.as_json()], config):
            self._pruned.add(run)
        return run not in self._pruned

    def _label(self, config: RunConfig) -> str:
        return _label(self._active[run_id(config)])

    def _ended(self, config: RunConfig, end: Ended) -> str:
        """Report to Optuna how a run ended; those that wait for it come next."""
        run = run_id(config)
        trial, folder = self._active.pop(run), RunFolder.of(config)
        pruned = run in self._pruned
        message = self._prune(trial, folder) if pruned else self._end(trial, folder, end)
        self._pruned.discard(run)
        self._waiting.extendleft(self._twins.pop(run, []))
        self._write()
        return message

    def _asked(self) -> Trial:
        self._left -= 1
        return self._trials.ask()

    def _begun(self, trial: Trial) -> RunConfig | None:
        """Return the run of a trial; None if there is nothing to train now."""
        try:
            config = self._plan.config(trial.params)
        except UserError as error:
            self._trials.fail(trial, str(error))
            tqdm.write(f"{_label(trial)}: failed: {error}")
            return None
        run, folder = run_id(config), RunFolder.of(config)
        if run in self._active:
            self._twins.setdefault(run, []).append(trial)
            return None
        trial.set_user_attr("run", folder.path.name)
        rows = [] if folder.problem else folder.read_metrics()
        pruned = self._is_pruned(trial, rows, config)
        if pruned or folder.status in ENDED:
            message = self._prune(trial, folder) if pruned else self._finished(trial, folder)
            tqdm.write(f"{_label(trial)}: {message}, trained before")
            return None
        with suppress(UserError):  # its worker reports what is wrong with it
            folder.claim(config)  # from now on, edited YAML changes nothing
        try:
            declare([config])  # only now its values are known
        except OSError as error:
            reason = "disk full" if disk_full(error) else str(error.strerror)
            raise UserError(
                f"{reason}: cannot write {error.filename}; once that is repaired, the same command "
                "continues the search"
            ) from error
        self._active[run] = trial
        return config

    def _end(self, trial: Trial, folder: RunFolder, end: Ended) -> str:
        if end.problem is None:
            return self._finished(trial, folder)
        if not end.disk_full:  # then it goes on once there is room
            self._trials.fail(trial, end.problem)
        return f"failed: {end.problem}"

    def _finished(self, trial: Trial, folder: RunFolder) -> str:
        rows = folder.read_metrics()
        for row in rows:  # where another process has trained it meanwhile
            self._trials.report(trial, row)
        if folder.read_state()["status"] == "diverged":
            self._trials.prune(trial, DIVERGED, len(rows))
        else:
            metric = self._plan.settings.metric
            self._trials.complete(trial, folder.results.column(metric)[-1])
        return folder.outcome()

    def _is_pruned(self, trial: Trial, rows: Sequence[dict[str, Any]], config: RunConfig) -> bool:
        """Report epochs to Optuna, as if they had just been trained, until it prunes the trial."""
        for row in rows:
            self._trials.report(trial, row)
            if row["epoch"] < config.training.epochs and trial.should_prune():
                return True
        return False

    def _prune(self, trial: Trial, folder: RunFolder) -> str:
        """Close a pruned trial, with the epochs that its run has: it may have trained further."""
        epochs = len(folder.read_metrics())
        message = f"pruned after {in_epochs(epochs)}"
        self._trials.prune(trial, message, epochs)
        return message

    def _write(self, importance: Mapping[str, float] | None = None) -> None:
        write_listing(self._folder, self._plan, self._trials, importance or {})


def _label(trial: Trial) -> str:
    return f"trial {trial.number} {in_words(trial.params)}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the search for one process; the kernel frees it when the process ends, however."""
    lock = FileLock(folder / ".search.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout as error:
        raise UserError(f"{folder}: another process is at this search") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told_by_optuna(storage: str) -> Iterator[None]:
    """Report errors of a storage. Args: storage: its file or URL, of which no password is shown."""
    shown = re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", storage)
    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        first = (str(list(causes(error))[-1]).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{shown}: {first}; what is done is kept, and the same command goes on"
        ) from error
