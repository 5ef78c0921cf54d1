"""The trials of a search, in Optuna's storage: all that must outlast a kill."""

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

_SECONDS_FOR_A_LOCK = 60  # which optuna-dashboard holds while it reads
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
# A sequence, which another seed would begin anew.
_ONE_SEED = ("qmc",)
# The importance of a setting is for coming among the best trials: a tenth of them, but at least
# five, or half of few. With fewer trials than this nothing can be said.
_FEWEST_FOR_IMPORTANCE = 8
_FIXED = "fixed_params"  # where Optuna keeps the values of a trial that are not to be chosen
DIVERGED = "diverged"  # why a trial was given up, which for Optuna is one that was pruned


class Trials:
    """Asks Optuna for trials, and tells it how they fare.

    Every trial has samplers of its own, one for each value, with seeds derived from the search's,
    the trial's number and the place of the value. So a search that was interrupted, at any moment,
    chooses what it would have chosen, and does not begin its random numbers anew.

    Args:
        storage: Optuna's, as `open_storage` yields it.
        name: of Optuna's study.
        space: what is chosen.
        settings: of the search.
        epochs: of its longest run.

    Raises:
        UserError: Optuna refuses the options, or the sampler needs a package.
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
            raise UserError("hydra.sweeper.sampler=cmaes needs a package: pip install cmaes")
        self._settings = settings
        self._space = space
        self.metric = evaluated(settings.metric, "validation")
        options = {"max_resource": epochs} if settings.pruner == "hyperband" else {}
        pruner = _made(_PRUNERS, settings.pruner, options | settings.pruner_options, "pruner")
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
        """Every trial that was begun, by number."""
        states = [state for state in TrialState if state != TrialState.WAITING]
        return self._study.get_trials(states=states)

    @property
    def open(self) -> list[Trial]:
        """The trials that have not ended: those of a search that was interrupted."""
        trials = []
        for frozen in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.sampler = self._sampler(frozen.number)
            trials.append(self._chosen(Trial(self._study, frozen._trial_id)))
        return trials

    @property
    def best(self) -> FrozenTrial | None:
        """The best of those that came to their end; None if there are none."""
        complete = self._study.get_trials(states=(TrialState.COMPLETE,))
        return self._study.best_trial if complete else None

    @property
    def importance(self) -> dict[str, float]:
        """The share of each setting in what makes a trial good; sums to 1. Empty for few trials."""
        complete = len(self._study.get_trials(states=(TrialState.COMPLETE,)))
        if complete < _FEWEST_FOR_IMPORTANCE:
            return {}
        # with scikit-learn there, this imports it
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        quantile = max(0.1, min(0.5, 5 / complete))
        evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
        return get_param_importances(self._study, evaluator=evaluator)

    @property
    def confirmations(self) -> list[dict[str, Any]]:
        """The times that the test set was touched: by which winner, after how many trials."""
        kept: list[dict[str, Any]] = self._study.user_attrs.get("confirmations", [])
        return kept

    def keep_confirmation(self, confirmation: dict[str, Any]) -> None:
        """Keep that a winner is tested; the same one again is no other time."""
        others = [kept for kept in self.confirmations if kept["found"] != confirmation["found"]]
        self._study.set_user_attr("confirmations", [*others, confirmation])

    def ask(self) -> Trial:
        """Let Optuna choose the next one.

        Raises:
            UserError: an option of the sampler is none that it can use.
        """
        self._study.sampler = self._sampler(len(self.all))
        try:
            return self._chosen(self._study.ask())
        except (TypeError, ValueError) as error:
            raise UserError(f"hydra.sweeper.sampler_options: {error}") from error

    def _chosen(self, trial: Trial) -> Trial:
        """Let a trial choose what it has not chosen yet: a kill can come in between.

        What a sampler chooses together is kept before anything of it is used.
        """
        storage, trial_id = self._study._storage, trial._trial_id
        if _FIXED not in storage.get_trial_system_attrs(trial_id):
            self._study.sampler = self._sampler(trial.number)
            storage.set_trial_system_attr(trial_id, _FIXED, trial.relative_params)
        for place, (key, domain) in enumerate(self._space.items(), 1):
            self._study.sampler = self._sampler(trial.number, place)
            _choose(trial, key, domain)
        return trial

    def report(self, trial: Trial, row: dict[str, Any]) -> None:
        """Report an epoch. Args: row: of metrics.jsonl, by this version or an earlier one."""
        value = with_current_names(row, "validation").get(self.metric)
        if value is None:
            return
        with warnings.catch_warnings():  # that an epoch was told before, and stays as it was
            warnings.simplefilter("ignore")
            trial.report(value, row["epoch"])

    def complete(self, trial: Trial, value: float) -> None:
        """Tell that the run came to its end."""
        self._study.tell(trial, value)

    def prune(self, trial: Trial, reason: str, epochs: int) -> None:
        """Tell that the run was not worth going on. Args: epochs: that are in its metrics."""
        trial.set_user_attr("reason", reason)
        trial.set_user_attr("epochs", epochs)
        self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str) -> None:
        """Tell that the run could not be trained."""
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def _sampler(self, number: int, place: int = 0) -> BaseSampler:
        """Return the sampler of a trial's value; at place 0 that of those chosen together."""
        seed = self._settings.seed
        name = self._settings.sampler
        own = seed if name in _ONE_SEED else (seed * 1_000_003 + number * 1_009 + place) % 2**32
        options = {"seed": own} | self._settings.sampler_options
        sampler: BaseSampler = _made(_SAMPLERS, name, options, "sampler")
        return sampler


def _made(
    kinds: Mapping[str, Callable[..., Any]], name: str, options: Mapping[str, Any], what: str
) -> Any:
    try:
        return kinds[name](**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"hydra.sweeper.{what}_options: {str(error).splitlines()[0]}") from error


@contextmanager
def open_storage(url: str | None, file: Path) -> Iterator[RDBStorage]:
    """Open the storage of a search, and close its connections after the block.

    Args:
        url: of a database; None for the file.
        file: SQLite's, made if it is not there.

    Raises:
        StorageInternalError: it cannot be opened.
        SQLAlchemyError: the database cannot be used.
        UserError: the package that connects to this kind of database is not installed.
    """
    if url is None and not file.exists():
        # the tables come all at once, or a kill could leave some of them
        write_atomically(file, lambda temporary: _close(_sqlite(temporary)))
    storage = _sqlite(file) if url is None else _of_url(url)
    try:
        yield storage
    finally:
        _close(storage)


def _of_url(url: str) -> RDBStorage:
    try:
        return RDBStorage(url)
    except ImportError as error:
        missing = [cause.name for cause in causes(error) if isinstance(cause, ImportError)][-1]
        kind = url.partition(":")[0]
        raise UserError(
            f"hydra.sweeper.storage: {kind} needs the Python module {missing or 'of a driver'}, "
            "which is not installed; install it, or name an installed driver as in "
            "mysql+pymysql://... or postgresql+psycopg://..."
        ) from error


def _sqlite(file: Path) -> RDBStorage:
    url = URL.create("sqlite", database=str(file)).render_as_string()
    timeout = {"connect_args": {"timeout": _SECONDS_FOR_A_LOCK}}
    return RDBStorage(url, engine_kwargs=timeout)


def _close(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _choose(trial: Trial, key: str, domain: Domain) -> None:
    """Let the sampler choose a value, unless the trial has one."""
    if isinstance(domain, Choice):
        trial.suggest_categorical(key, domain.options)
    elif domain.is_whole:
        low, high, step = int(domain.low), int(domain.high), int(domain.step or 1)
        trial.suggest_int(key, low, high, step=step, log=domain.log)
    else:
        trial.suggest_float(key, domain.low, domain.high, step=domain.step, log=domain.log)
