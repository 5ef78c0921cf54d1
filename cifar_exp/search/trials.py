"""The trials of a search in Optuna's storage."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL

from cifar_exp.config.metrics import evaluated, with_current_names
from cifar_exp.config.search_settings import SearchSettings
from cifar_exp.errors import UserError, causes
from cifar_exp.files import write_atomically
from cifar_exp.search.space import Choice, Domain

_LOCK_TIMEOUT_SECONDS = 60  # optuna-dashboard locks the file while it reads
_SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "qmc": optuna.samplers.QMCSampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
}
_PRUNERS: dict[str, Callable[..., BasePruner]] = {
    "median": optuna.pruners.MedianPruner,
    "asha": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "none": optuna.pruners.NopPruner,
}
# Quasi-random sequences, which a new seed would restart.
_FIXED_SEED = ("qmc",)
_MIN_TRIALS_FOR_IMPORTANCE = 8
_FIXED_PARAMS = "fixed_params"  # Optuna's attribute for values that a sampler does not choose
DIVERGED = "diverged"  # the reason of a diverged trial, which Optuna records as pruned


class Trials:
    """Creates Optuna's trials and records their results.

    Each value of each trial has a separate sampler, seeded with the seed of the search, the number
    of the trial and the index of the value. A search that is interrupted at any moment therefore
    resumes with the same values.

    Args:
        storage: storage from `open_storage`.
        name: name of Optuna's study.
        space: domain of each key.
        settings: settings of the search.
        epochs: number of epochs of the longest run.

    Raises:
        UserError: Optuna rejects the options, or the sampler needs a package.
    """

    def __init__(
        self,
        storage: RDBStorage,
        name: str,
        space: Mapping[str, Domain],
        settings: SearchSettings,
        epochs: int,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if settings.sampler == "cmaes" and find_spec("cmaes") is None:
            raise UserError("hydra.sweeper.sampler: cmaes is not installed. pip install cmaes")
        self._settings = settings
        self._space = space
        self.metric = evaluated(settings.metric, "validation")
        options = {"max_resource": epochs} if settings.pruner == "hyperband" else {}
        pruner = _create(_PRUNERS, settings.pruner, options | settings.pruner_options, "pruner")
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize" if settings.metric == "accuracy" else "minimize",
            sampler=self._sampler(0),
            pruner=pruner,
            load_if_exists=True,
        )

    @property
    def all(self) -> list[FrozenTrial]:
        """All trials that were started, by number."""
        states = [state for state in TrialState if state != TrialState.WAITING]
        return self._study.get_trials(states=states)

    @property
    def unfinished(self) -> list[Trial]:
        """The trials that have not ended, after an interruption."""
        trials = []
        for frozen in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.sampler = self._sampler(frozen.number)
            trials.append(self._choose_values(Trial(self._study, frozen._trial_id)))
        return trials

    @property
    def best(self) -> FrozenTrial | None:
        """The best complete trial; None if no trial is complete."""
        complete = self._study.get_trials(states=(TrialState.COMPLETE,))
        return self._study.best_trial if complete else None

    @property
    def importance(self) -> dict[str, float]:
        """The importance of each setting by PED-ANOVA, summing to 1, as in optuna-dashboard.

        Empty if there are fewer than eight complete trials.
        """
        complete = len(self._study.get_trials(states=(TrialState.COMPLETE,)))
        if complete < _MIN_TRIALS_FOR_IMPORTANCE:
            return {}
        # imports scikit-learn if it is installed, which is slow
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        return get_param_importances(self._study, evaluator=PedAnovaImportanceEvaluator())

    @property
    def confirmations(self) -> list[dict[str, Any]]:
        """All uses of the test set: the winner, the number of trials, and the runs."""
        confirmations: list[dict[str, Any]] = self._study.user_attrs.get("confirmations", [])
        return confirmations

    def record_confirmation(self, confirmation: dict[str, Any]) -> None:
        """Record that a winner is tested. A repeated test of the same runs is recorded once."""
        others = [c for c in self.confirmations if c["found"] != confirmation["found"]]
        self._study.set_user_attr("confirmations", [*others, confirmation])

    def ask(self) -> Trial:
        """Return a new trial with the values that Optuna chooses.

        Raises:
            UserError: the sampler rejects an option.
        """
        self._study.sampler = self._sampler(len(self.all))
        try:
            return self._choose_values(self._study.ask())
        except (TypeError, ValueError) as error:
            raise UserError(f"hydra.sweeper.sampler_options: {error}") from error

    def _choose_values(self, trial: Trial) -> Trial:
        """Choose the values that a trial does not have yet.

        A kill may have interrupted this before. Values that the sampler chooses jointly are stored
        before any of them is used.
        """
        storage, trial_id = self._study._storage, trial._trial_id
        if _FIXED_PARAMS not in storage.get_trial_system_attrs(trial_id):
            self._study.sampler = self._sampler(trial.number)
            storage.set_trial_system_attr(trial_id, _FIXED_PARAMS, trial.relative_params)
        for index, (key, domain) in enumerate(self._space.items(), 1):
            self._study.sampler = self._sampler(trial.number, index)
            _choose(trial, key, domain)
        return trial

    def report(self, trial: Trial, row: dict[str, Any]) -> None:
        """Report the metric of an epoch.

        Args:
            trial: trial of the run.
            row: line of metrics.jsonl, possibly from an earlier version.
        """
        value = with_current_names(row, "validation").get(self.metric)
        if value is None:
            return
        with warnings.catch_warnings():  # Optuna warns if an epoch was already reported
            warnings.simplefilter("ignore")
            trial.report(value, row["epoch"])

    def complete(self, trial: Trial, value: float) -> None:
        """Record that a trial is complete.

        Args:
            trial: trial to close.
            value: metric after the last epoch.
        """
        self._study.tell(trial, value)

    def prune(self, trial: Trial, reason: str, epochs: int) -> None:
        """Record that a trial was pruned or diverged.

        Args:
            trial: trial to close.
            reason: why it ended.
            epochs: number of epochs of its run.
        """
        trial.set_user_attr("reason", reason)
        trial.set_user_attr("epochs", epochs)
        self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str) -> None:
        """Record that a trial failed."""
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def _sampler(self, number: int, index: int = 0) -> BaseSampler:
        """Return the sampler for one value of a trial; index 0 is for values chosen jointly."""
        seed = self._settings.seed
        name = self._settings.sampler
        if name not in _FIXED_SEED:
            seed = (seed * 1_000_003 + number * 1_009 + index) % 2**32
        options = {"seed": seed} | self._settings.sampler_options
        sampler: BaseSampler = _create(_SAMPLERS, name, options, "sampler")
        return sampler


def _create(
    classes: Mapping[str, Callable[..., Any]], name: str, options: Mapping[str, Any], kind: str
) -> Any:
    try:
        return classes[name](**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"hydra.sweeper.{kind}_options: {str(error).splitlines()[0]}") from error


@contextmanager
def open_storage(url: str | None, file: Path) -> Iterator[RDBStorage]:
    """Open the storage of a search, and close it after the block.

    Args:
        url: URL of a database; None to use `file`.
        file: SQLite file, created if it does not exist.

    Raises:
        StorageInternalError: the storage cannot be opened.
        SQLAlchemyError: the database cannot be used.
        UserError: the driver of the database is not installed.
    """
    if url is None and not file.exists():
        # atomic, because a kill could leave a file with some of the tables
        write_atomically(file, lambda temporary: _close(_sqlite(temporary)))
    storage = _sqlite(file) if url is None else _from_url(url)
    try:
        yield storage
    finally:
        _close(storage)


def _from_url(url: str) -> RDBStorage:
    try:
        return RDBStorage(url)
    except ImportError as error:
        missing = [cause.name for cause in causes(error) if isinstance(cause, ImportError)][-1]
        kind = url.partition(":")[0]
        raise UserError(
            f"hydra.sweeper.storage: {kind} needs the Python module {missing or 'of a driver'}, "
            "which is not installed. Install it, or select an installed driver as in "
            "mysql+pymysql://... or postgresql+psycopg://..."
        ) from error


def _sqlite(file: Path) -> RDBStorage:
    url = URL.create("sqlite", database=str(file)).render_as_string()
    timeout = {"connect_args": {"timeout": _LOCK_TIMEOUT_SECONDS}}
    return RDBStorage(url, engine_kwargs=timeout)


def _close(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _choose(trial: Trial, key: str, domain: Domain) -> None:
    """Choose a value with the sampler of the study, unless the trial already has one."""
    if isinstance(domain, Choice):
        trial.suggest_categorical(key, domain.options)
    elif domain.is_integer:
        low, high, step = int(domain.low), int(domain.high), int(domain.step or 1)
        trial.suggest_int(key, low, high, step=step, log=domain.log)
    else:
        trial.suggest_float(key, domain.low, domain.high, step=domain.step, log=domain.log)
