"""The plan of a search: its space, the settings that all trials share, and its folder."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import identity
from cifar_exp.config.keys import SHORT_NAMES, short_names
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.search_settings import SearchSettings
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.files import shortened
from cifar_exp.search.space import Domain

Compose = Callable[[Sequence[str]], RunConfig]
Params = Mapping[str, Any]
_VAL_FRACTION = "data.val_fraction"
_DEFAULT_VAL_FRACTION = 0.1
_DIGITS = 6
# Settings of the data that change neither the images nor the validation split.
_TRAINING_ONLY = {"batch_size", "augment", "cutout", "normalize", "test_flip"}
# Settings of a search that do not change its trials.
_NOT_IN_IDENTITY = {"n_trials", "storage", "confirm", "baseline"}


@dataclass(frozen=True)
class Plan:
    """A search whose settings have been checked.

    Attributes:
        settings: settings under `hydra.sweeper`.
        space: domain of each key.
        shared: overrides of all trials.
        start: run with the initial settings, composed from `shared` alone.
        examples: runs at the bounds of the space.
    """

    settings: SearchSettings
    space: Mapping[str, Domain]
    shared: Sequence[str]
    start: RunConfig
    examples: Sequence[RunConfig]
    _compose: Compose

    @property
    def folder(self) -> Path:
        """The folder of the search; the same command gives the same folder."""
        settings = self.settings.model_dump(mode="json", exclude=_NOT_IN_IDENTITY)
        space = {key: asdict(domain) for key, domain in self.space.items()}
        content = json.dumps([identity(self.start), space, settings], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        name = shortened(f"search-{','.join(short_names(list(self.space)))}", 80)
        return as_path(self.start.paths.results) / f"{name}-{digest}"

    @property
    def epochs(self) -> int:
        """The number of epochs of the longest run."""
        return max(example.training.epochs for example in self.examples)

    def config(self, params: Params) -> RunConfig:
        """Return the run of a trial.

        Raises:
            UserError: the combination of values is invalid.
        """
        values = rounded(params)
        return self._compose([*self.shared, *(f"{key}={values[key]}" for key in values)])


def rounded(params: Params) -> dict[str, Any]:
    """Round Optuna's values to six digits, so that they can be typed again."""
    return {
        key: float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
        for key, value in params.items()
    }


def describe(params: Params) -> str:
    """Return the values of a trial as overrides: `lr=0.00312274 optimizer.momentum=0.9`."""
    names = {key: name for name, key in SHORT_NAMES.items()}
    return " ".join(f"{names.get(key, key)}={v}" for key, v in rounded(params).items())


def make_plan(
    settings: SearchSettings,
    space: Mapping[str, Domain],
    shared: Sequence[str],
    compose: Compose,
) -> Plan:
    """Check the settings of a search.

    Args:
        settings: settings under `hydra.sweeper`.
        space: domain of each key.
        shared: overrides of all trials.
        compose: returns the run of some overrides.

    Returns:
        The plan. If `shared` has no validation fraction, a default one is added.

    Raises:
        UserError: the settings are invalid, or trials would be evaluated on test images or on
            different images or seeds.
    """
    if not space:
        raise UserError(
            "hydra.sweeper.params: the search space is empty. Add a range there or to the command, "
            "such as 'lr=tag(log, interval(1e-5, 1e-1))'."
        )
    start = _start(space, shared, compose)
    if start.data.evaluated_on == "test":
        if any(override.startswith(_VAL_FRACTION) for override in shared):
            raise UserError(
                f"{_VAL_FRACTION}: expected more than 0 in a search, which must not use test images"
            )
        shared = [f"{_VAL_FRACTION}={_DEFAULT_VAL_FRACTION}", *shared]
        start = _start(space, shared, compose)
    if start.rerun:
        raise UserError("rerun: expected false in a search")
    examples: list[RunConfig] = []
    plan = Plan(settings, space, shared, start, examples, compose)
    for key, params in _examples(space):
        examples.append(plan.config(params))
        if _evaluation_settings(examples[-1]) != _evaluation_settings(start):
            raise UserError(
                f"{key}: expected one value in a search, which compares all trials on the same "
                "images and with the same seed"
            )
    return plan


def _start(space: Mapping[str, Domain], shared: Sequence[str], compose: Compose) -> RunConfig:
    """Return the run with the initial settings.

    If the shared overrides are invalid alone, the first option of each group in the space is added.
    For example, `optimizer.momentum=0.5` requires `optimizer=choice(sgd,rmsprop)`, since the
    default optimizer, Adam, has no momentum.
    """
    try:
        return compose(shared)
    except UserError:
        first = [f"{key}={space[key].examples[0]}" for key in space if "." not in key]
        if not first:
            raise
        return compose([*first, *shared])


def _examples(space: Mapping[str, Domain]) -> Iterator[tuple[str, Params]]:
    """Yield each example of each key as (key, values of all keys)."""
    first = {key: domain.examples[0] for key, domain in space.items()}
    for key, domain in space.items():
        yield from ((key, first | {key: value}) for value in domain.examples)


def _evaluation_settings(config: RunConfig) -> Any:
    images = config.data.model_dump(mode="json", exclude=_TRAINING_ONLY)
    return config.seed, images, config.paths, config.rerun
